"""Parts that are defined outside of the package do all that its own do.

A linear solver, a root solver, a preconditioner, two steppers and the equations themselves: each
derives from an abstract class and writes what that asks for, no more.
"""

from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from gradients import taylor_rate

from impindiff.grid import Grid
from impindiff.implicit import (
    AbstractAdjoint,
    AbstractRootSolver,
    ImplicitAdjoint,
    Newton,
    root_and_increment,
)
from impindiff.integrate import (
    AbstractDynamics,
    AbstractImplicitStepper,
    AbstractStepper,
    AbstractTendency,
    BackwardEuler,
    Bounds,
    BoundsViolation,
    Step,
    StepContext,
    choose_solver,
)
from impindiff.linear import (
    AbstractInverse,
    AbstractLinearSolver,
    AdjointOutcome,
    DenseLU,
    Iterated,
    Outcome,
    Result,
    tree,
    while_loop,
)
from impindiff.precondition import AbstractPreconditioner
from impindiff.rollout import (
    KeepAll,
    Snapshots,
    StepResult,
    TimeGrid,
    select_solver,
    simulate,
    simulate_with_rescue,
)

GRID = Grid.uniform((24,), ((0.0, 1.0),), periodic=True)
START = {"u": jnp.asarray(1 + 0.5 * np.sin(2 * np.pi * GRID.centres()[0]))}
TIMES = TimeGrid.build(0.0, [0.0, 0.2, 0.4], 0.1)


class Equations(AbstractDynamics, AbstractTendency):
    """u' = D u_xx - k u^3 on a ring; the right-hand side of itself."""

    decay: Any
    largest: float = eqx.field(static=True, default=float("inf"))
    grid: Grid = eqx.field(default=GRID)

    is_steady = True

    def at(self, time):
        return self

    def __call__(self, state):
        u = state["u"]
        bend = (jnp.roll(u, 1) - 2 * u + jnp.roll(u, -1)) / GRID.cell_widths[0] ** 2
        return {"u": 0.05 * bend - self.decay * u**3}

    def bounds_violation(self, state):
        if self.largest == float("inf"):
            return None
        u = jax.lax.stop_gradient(state["u"])
        cell = jnp.argmax(u)
        bounds = (Bounds("u", -self.largest, self.largest),)
        return BoundsViolation(
            u[cell] > self.largest, jnp.array(0), cell, u[cell], u[cell], bounds, (u.shape,)
        )


class Richardson(AbstractLinearSolver):
    """x <- x + P^-1 (b - A x)."""

    rtol: float | None = eqx.field(static=True, default=1e-12)
    atol: float = eqx.field(static=True, default=0.0)
    max_steps: int = eqx.field(static=True, default=4000)

    def iterate(self, problem, precondition, loop):
        operator, residual, norm2, tolerance2 = problem

        def unfinished(carry):
            *_, norm2, count = carry
            return (norm2 > tolerance2) & (count < self.max_steps)

        def step(carry):
            x, left, _, count = carry
            x = tree.add(x, precondition(left))
            left = tree.subtract(residual, operator(x))
            return x, left, tree.dot(left, left), count + 1

        first = (tree.zeros_like(residual), residual, norm2, jnp.array(0))
        x, _, norm2, count = loop(unfinished, step, first, self.max_steps)
        return Iterated(x, norm2, count)


class Chord(AbstractRootSolver):
    """Newton's method with the Jacobian of its start."""

    linear: AbstractLinearSolver = Richardson()
    adjoint: AbstractAdjoint = ImplicitAdjoint(Richardson())
    max_steps: int = eqx.field(static=True, default=60)

    def solve(
        self, residual, guess, preconditioner=None, *, rtol=None, loop=while_loop, at_zero=None
    ):
        start = tree.zeros_like(at_zero.value) if guess is None and at_zero else guess
        value, jacobian = jax.linearize(residual, start)
        scale = tree.norm(value)

        def unfinished(carry):
            _, norm, steps, _ = carry
            return (norm > 1e-11 * scale) & (steps < self.max_steps)

        def step(carry):
            u, _, steps, iterations = carry
            right = tree.negate(residual(u))
            change, outcome = self.linear.solve(jacobian, right, None, preconditioner, loop=loop)
            u = tree.add(u, change)
            return u, tree.norm(residual(u)), steps + 1, iterations + outcome.iterations

        first = (start, scale, jnp.array(0), jnp.array(0))
        u, norm, steps, iterations = loop(unfinished, step, first, self.max_steps)
        good = norm <= 1e-10 * scale
        result = jnp.where(good, Result.CONVERGED, Result.MAX_STEPS)
        return u, Outcome(result, iterations, norm / scale, steps)


class Diagonal(AbstractInverse):
    """Division by a diagonal."""

    values: Any

    def apply(self, vector):
        return jax.tree.map(jnp.divide, vector, self.values)

    def transpose(self):
        return self


class RowSums(AbstractPreconditioner):
    """Division by the sum of a row's magnitudes, so that a plain iteration contracts."""

    def make(self, operator):
        def sums(stencil):
            shifted = stencil.shifted_identity(operator.weight)
            whole = jnp.abs(shifted.centre)
            return whole + sum(jnp.abs(a) + jnp.abs(b) for a, b in shifted.sides)

        parts = operator.field_stencils()
        return Diagonal({field: sums(stencil) for field, stencil in parts.stencils.items()})


class Implicit(AbstractImplicitStepper):
    """Backward Euler, written anew."""

    solver: AbstractRootSolver | None = None
    preconditioner: AbstractPreconditioner | None = None
    keep_preconditioner: bool | None = None

    @property
    def implicit_weight(self):
        return 1.0

    def advance(self, dynamics, time, dt, state, setup=None, context=None):
        context = StepContext() if context is None else context
        found = root_and_increment(
            _residual,
            state,
            (dynamics.at(time + dt), dt, state),
            choose_solver(self.solver, dynamics.is_affine),
            preconditioner=self.inverse(dynamics, time, dt, state) if setup is None else setup,
            context=context.of_solve(context.end),
        )
        return Step(found.value, jax.lax.stop_gradient(found.increment), found.outcome)


def _residual(unknown, inputs):
    tendency, dt, before = inputs
    return jax.tree.map(lambda u, b, f: u - b - dt * f, unknown, before, tendency(unknown))


class Explicit(AbstractStepper):
    """Heun's method: a stepper that solves nothing."""

    def check(self, dynamics):
        """It advances anything."""

    def setup(self, dynamics, time, dt, state):
        return None

    def advance(self, dynamics, time, dt, state, setup=None, context=None):
        first = dynamics.at(time)(state)
        guess = jax.tree.map(lambda u, k: u + dt * k, state, first)
        second = dynamics.at(time + dt)(guess)
        increment = jax.tree.map(lambda a, b: dt * (a + b) / 2, first, second)
        return Step(tree.add(state, increment), increment, Outcome.exact())


OWN = Implicit(Chord(), RowSums())


@pytest.mark.thorough
def test_own_parts_give_the_solution_of_ours_and_their_statistics():
    """Under `jit`: the same states as a direct solver's, with the work that they took."""
    run = jax.jit(lambda stepper: simulate(Equations(2.0), START, TIMES, stepper))
    ours = run(BackwardEuler(Newton(DenseLU(1e-13), DenseLU(1e-13), rtol=1e-13)))
    found = run(OWN)
    np.testing.assert_allclose(found.states["u"], ours.states["u"], rtol=1e-9)
    assert bool(found.outcome.converged.all())
    assert (found.outcome.steps > 1).all() and (found.outcome.iterations > 10).all()
    # An own explicit step solves nothing.
    outcome = simulate(Equations(2.0), START, TimeGrid.build(0.0, 0.1, 1e-3), Explicit()).outcome
    assert (outcome.iterations == 0).all()


@pytest.mark.thorough
@pytest.mark.parametrize("memory", [KeepAll(), Snapshots(2)])
def test_gradients_go_through_own_parts(memory):
    def loss(decay, probe=None):
        states = simulate(Equations(decay), START, TIMES, OWN, memory=memory, probe=probe).states
        return jnp.sum(jnp.sin(states["u"][-1]))

    assert taylor_rate(loss, jnp.array(2.0), step=1e-2) >= 1.9
    cotangent = jax.jit(jax.grad(lambda probe: loss(jnp.array(2.0), probe)))(AdjointOutcome.probe())
    reported = AdjointOutcome.from_cotangent(cotangent)
    assert reported.solves == TIMES.num_steps and reported.failures == 0
    assert reported.iterations > 10 * TIMES.num_steps


@pytest.mark.thorough
def test_steps_of_own_parts_are_halved_where_they_fail():
    """The chord method does not reach the root of a long step, and that of a short one."""
    stepper = Implicit(Chord(max_steps=12), RowSums())
    times = TimeGrid.build(0.0, [0.5], 0.5)
    failed = simulate(Equations(2.0), START, times, stepper, on_failure="keep")
    assert int(failed.outcome.result[0]) == StepResult.MAX_STEPS
    found = simulate_with_rescue(Equations(2.0), START, times, stepper)
    assert found.halved and bool(found.trajectory.outcome.converged.all())


def test_own_bounds_are_kept():
    """A negative decay lets the field grow."""
    growing = Equations(-0.5, largest=2.0)
    found = simulate(growing, START, TimeGrid.build(0.0, [0.4], 0.1), OWN, on_failure="keep")
    assert StepResult.OUT_OF_BOUNDS in found.outcome.result.tolist()
    violation = found.outcome.violation
    assert violation is not None and "above its limits [-2, 2]" in violation.message(3)


@pytest.mark.thorough
def test_the_solver_of_an_own_stepper_is_chosen_from_own_equations():
    choice = select_solver(Equations(2.0), START, 10.0, Implicit())
    assert choice.name == "elimination" and "diffusion number" in choice.reason
    assert isinstance(choice.stepper, Implicit) and choice.stepper.solver is not None
    chosen = simulate(Equations(2.0), START, TIMES, choice.stepper)
    np.testing.assert_allclose(
        chosen.states["u"], simulate(Equations(2.0), START, TIMES, OWN).states["u"], rtol=1e-6
    )
    # What names its solver, or has none to name, is left as it is.
    for stepper in (OWN, Explicit()):
        assert select_solver(Equations(2.0), START, 0.1, stepper).stepper is stepper
