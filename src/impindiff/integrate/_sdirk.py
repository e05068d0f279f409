r"""A singly diagonally implicit Runge-Kutta method: two stages, order two, L-stable.

With $\gamma = 1 - 1/\sqrt 2$ the two stages are

$$ q(U) = q(u_0) + \gamma \Delta t\,F(t_0 + \gamma \Delta t, U), \qquad
   q(u_1) = q(u_0) + (1 - \gamma) \Delta t\,F(t_0 + \gamma \Delta t, U) + \gamma \Delta t\,F(t_1,
   u_1). $$

The second is the step's end, so that a field without storage satisfies its equation there, too.
"""

from dataclasses import replace
from typing import final

import equinox as eqx
import jax
import jax.numpy as jnp

from impindiff._types import Scalar, State
from impindiff.implicit import AbstractRootSolver
from impindiff.integrate._dynamics import AbstractDynamics
from impindiff.integrate._explicit import axpy
from impindiff.integrate._implicit import AbstractImplicitStepper, choose_solver
from impindiff.integrate._quadrature import add_integrals, split_unknowns, tendency_at
from impindiff.integrate._stage import Stage, change_in_storage, solve_stage, stored_at
from impindiff.integrate._stepper import Step, StepContext
from impindiff.linear import AbstractInverse, Outcome
from impindiff.precondition import AbstractPreconditioner

_GAMMA = 1 - 0.5**0.5


@final
class SDIRK2(AbstractImplicitStepper):
    r"""Alexander's method of order two: damps what it does not resolve, as backward Euler does.

    Twice the work of a Crank-Nicolson step, and no ringing at long steps.

    Args:
        solver: see `Theta`.
        preconditioner: see `Theta`; the weight is $\gamma\Delta t$ in both stages.
        keep_preconditioner: see `Theta`.

    Raises: InputError for a solver that is none, and a system that is not affine under a solver
        for affine systems.
    Reference: R. Alexander, SIAM J. Numer. Anal. 14 (1977) 1006.
    """

    solver: AbstractRootSolver | None = None
    preconditioner: AbstractPreconditioner | None = None
    keep_preconditioner: bool | None = eqx.field(static=True, default=None)

    @property
    def implicit_weight(self) -> float:
        """See `AbstractStepper.implicit_weight`."""
        return _GAMMA

    def advance(
        self,
        dynamics: AbstractDynamics,
        time: Scalar,
        dt: Scalar,
        state: State,
        setup: AbstractInverse | None = None,
        context: StepContext | None = None,
    ) -> Step:
        """See `AbstractStepper.advance`; kept is the state of the first stage."""
        weight = _GAMMA * dt
        state, integrals = split_unknowns(dynamics, state)
        context = StepContext() if context is None else context
        end = None if context.end is None else split_unknowns(dynamics, context.end)[0]
        of_solve = context.of_solve(end)
        if setup is None:
            setup = self.inverse(dynamics, time + dt, weight, state)
        solver = choose_solver(self.solver, dynamics.is_affine)
        before, shares = stored_at(dynamics, time, state), dynamics.volume_shares
        roots = None
        if context.stages is not None:
            roots = jax.tree.map(lambda *each: jnp.stack(each), context.stages, end)

        def stage(carry, of_stage):
            known, start, grown = carry
            at, is_last, share, root = of_stage
            # The first begins at the step's start, the second where the first has come to.
            wanted = replace(of_solve, start=start)
            if root is not None:
                wanted = replace(wanted, root=root)
            elif end is not None:
                # It is that of the second stage.
                wanted = replace(wanted, is_known=is_last)
            tendency = tendency_at(dynamics, at, state)
            this = Stage(tendency, weight, state, before, known, shares)
            found = solve_stage(this, solver, setup, wanted)
            # F of the first stage is what was stored in it, over the time: evaluated anew, it would
            # multiply what the solve left over by the fastest rate of the system.
            stored_change = change_in_storage(tendency, state, before, found)
            known = jax.tree.map(lambda q: (1 - _GAMMA) / _GAMMA * q, stored_change)
            grown = add_integrals(dynamics, grown, share, at, found.value)
            return (known, found.increment, grown), found

        # A loop over both, so that a solve and its adjoint are compiled once.
        times, weights = jnp.stack([time + weight, time + dt]), jnp.stack([dt - weight, weight])
        nothing = jax.tree.map(jnp.zeros_like, (state, state, integrals))
        (_, increment, grown), (states, _, outcome) = jax.lax.scan(
            stage, nothing, (times, jnp.array([False, True]), weights, roots)
        )
        first, last = (jax.tree.map(lambda each, k=k: each[k], states) for k in (0, 1))
        after = last | axpy(integrals, 1, grown)
        return Step(after, jax.lax.stop_gradient(increment | grown), _both(outcome), first)


def _both(outcome: Outcome) -> Outcome:
    """The outcome of two solves: the worse result, and all the work."""
    return Outcome(
        jnp.maximum(*outcome.result),
        jnp.add(*outcome.iterations),
        jnp.maximum(*outcome.relative_residual),
        jnp.add(*outcome.steps),
    )
