"""Rollouts that keep a few states: the gradients of those that keep all, in less memory."""

from collections.abc import Callable
from functools import partial

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from gradients import random_like, taylor_rate
from jaxtyping import Array
from smooth import box, wave, winds

from impindiff._errors import InputError
from impindiff.implicit import AbstractAdjoint, AbstractRootSolver, Affine
from impindiff.integrate import SDIRK2, AbstractStepper, BogackiShampine3, CrankNicolson, Theta
from impindiff.latent import AbstractLatent
from impindiff.linear import AdjointOutcome, BiCGStab
from impindiff.precondition import AbstractPreconditioner, Fourier
from impindiff.rollout import KeepAll, Snapshots, TimeGrid, simulate
from impindiff.rollout._snapshot_schedule import least_steps
from impindiff.systems import Reaction, System, advection_diffusion
from impindiff.terms import Advection, Diffusion, Source

GRID = box(5, 4)
TIGHT = Affine(BiCGStab(1e-13), BiCGStab(1e-13))
IMPLICIT = CrankNicolson(TIGHT)
# Two spans of unequal steps, the start saved as well.
TIMES = TimeGrid.build(0.0, np.array([0.0, 0.03, 0.1]), 0.012)


def loss(given, memory, stepper: AbstractStepper = IMPLICIT, probe=None, time_grid=TIMES):
    initial, wind, diffusivity = given
    system = advection_diffusion(GRID, wind, diffusivity)
    state = {"concentration": initial}
    found = simulate(system, state, time_grid, stepper, probe=probe, memory=memory)
    return jnp.sum(jnp.exp(found.states["concentration"]) * jnp.arange(1, 4)[:, None, None])


def given():
    return wave(GRID), winds(GRID) + 0.15, 0.05 * wave(GRID, 1.0)


def assert_close(found, expected, rtol=1e-10):
    jax.tree.map(partial(np.testing.assert_allclose, rtol=rtol, atol=1e-11), found, expected)


@pytest.mark.thorough
@pytest.mark.parametrize(
    "stepper", [IMPLICIT, CrankNicolson(TIGHT, Fourier()), SDIRK2(TIGHT), BogackiShampine3(2)]
)
@pytest.mark.parametrize(
    "count", [pytest.param(n, marks=[pytest.mark.slow] * (n != 2)) for n in (1, 2, 3, 5, 9)]
)
def test_values_and_gradients_are_those_of_keeping_all(count, stepper):
    assert TIMES.num_steps == 9
    found, expected = (
        jax.jit(jax.value_and_grad(partial(loss, memory=memory, stepper=stepper)))(given())
        for memory in (Snapshots(count), KeepAll())
    )
    assert_close(found, expected)


@pytest.mark.slow
def test_one_step():
    once = TimeGrid.build(0.0, np.array([0.0, 0.01, 0.02]), 0.01).halved([])
    single = TimeGrid.build(0.0, 0.01, 0.01)
    assert single.num_steps == 1

    def last(given, memory, time_grid):
        system = advection_diffusion(GRID, *given[1:])
        state = {"concentration": given[0]}
        found = simulate(system, state, time_grid, IMPLICIT, memory=memory)
        return jnp.sum(found.states["concentration"] ** 3)

    for time_grid in (single, once):
        found, expected = (
            jax.jit(jax.grad(partial(last, memory=memory, time_grid=time_grid)))(given())
            for memory in (Snapshots(1), KeepAll())
        )
        assert_close(found, expected)


@pytest.mark.thorough
def test_taylor():
    assert taylor_rate(partial(loss, memory=Snapshots(3)), given(), step=1e-2) >= 1.9


@pytest.mark.slow
def test_the_gradient_of_what_is_compiled_already():
    """`grad` of `jit`, the other way round: nothing of one trace may be left in the other."""
    point = given()
    compiled = jax.jit(partial(loss, memory=Snapshots(3)))
    assert_close(jax.grad(compiled)(point), jax.grad(partial(loss, memory=Snapshots(3)))(point))


@pytest.mark.thorough
def test_samples_side_by_side():
    samples = jax.tree.map(lambda leaf: jnp.stack([leaf, 1.1 * leaf, leaf**2]), given())

    def total(samples, memory):
        return jnp.sum(jax.vmap(lambda one: loss(one, memory))(samples))

    found, expected = (
        jax.jit(jax.grad(partial(total, memory=memory)))(samples)
        for memory in (Snapshots(3), KeepAll())
    )
    assert_close(found, expected)


@pytest.mark.slow
def test_hessian_vector_products():
    direction = random_like(given(), 1)

    def product(memory):
        gradient = jax.grad(partial(loss, memory=memory))
        return jax.jit(lambda x, v: jax.jvp(gradient, (x,), (v,)))(given(), direction)

    assert_close(product(Snapshots(3)), product(KeepAll()), rtol=1e-9)


@pytest.mark.thorough
def test_the_adjoint_solves_report():
    def reported(memory):
        gradient = jax.grad(lambda probe: loss(given(), memory, probe=probe))
        return AdjointOutcome.from_cotangent(jax.jit(gradient)(AdjointOutcome.probe()))

    found, expected = reported(Snapshots(3)), reported(KeepAll())
    assert int(found.solves) == int(expected.solves) == TIMES.num_steps
    assert int(found.iterations) == int(expected.iterations)


class CountedSetups(AbstractPreconditioner):
    """Calls back wherever it makes an approximate inverse."""

    called: Callable[[], None] = eqx.field(static=True)

    def make(self, operator):
        jax.debug.callback(self.called)
        return Fourier().make(operator)


@pytest.mark.thorough
@pytest.mark.parametrize("count", [1, 2, 5])
def test_no_step_is_solved_more_often_than_the_schedule_says(count):
    """Counted at run time: the first sweep solves every step, the reversal none of its own."""
    solved = []

    stepper = Theta(0.5, TIGHT, CountedSetups(lambda: solved.append(1)), False)
    gradient = jax.jit(jax.grad(partial(loss, memory=Snapshots(count), stepper=stepper)))
    jax.block_until_ready(gradient(given()))
    jax.effects_barrier()
    steps = TIMES.num_steps
    # Each reversal makes a preconditioner, too, for its adjoint.
    assert len(solved) == steps + (least_steps(steps, count) - (steps - 1)) + steps


class Counted(AbstractRootSolver):
    """Calls back at every solve."""

    called: Callable[[Array], None] = eqx.field(static=True)

    @property
    def adjoint(self) -> AbstractAdjoint:
        return TIGHT.adjoint

    def solve(self, residual, guess, preconditioner=None, **options):
        # With an argument that changes, so that it cannot be moved out of a loop.
        jax.debug.callback(self.called, *jax.tree.leaves(guess))
        return TIGHT.solve(residual, guess, preconditioner, **options)


@pytest.mark.thorough
@pytest.mark.parametrize("count", [2, 5, 9])
def test_stages_are_solved_again_only_where_states_are(count):
    solved = []
    stepper = SDIRK2(Counted(lambda _: solved.append(1)))
    gradient = jax.jit(jax.grad(partial(loss, memory=Snapshots(count), stepper=stepper)))
    jax.block_until_ready(gradient(given()))
    jax.effects_barrier()
    steps = TIMES.num_steps
    again = least_steps(steps, count) - (steps - 1)
    # Without all states kept, a reversal begins both solves, of which the second ends at once.
    assert len(solved) == 2 * steps + (2 * again + 2 * steps if again else 0)


@pytest.mark.thorough
def test_a_program_is_no_longer_for_more_steps():
    def size(num_steps):
        time_grid = TimeGrid.build(0.0, np.array([0.0, 0.5, 1.0]), 1.0 / num_steps)
        gradient = jax.grad(partial(loss, memory=Snapshots(5), time_grid=time_grid))
        return len(jax.jit(gradient).lower(given()).as_text(dialect="stablehlo").splitlines())

    assert size(200) == pytest.approx(size(20), rel=0.01)


@pytest.mark.slow
def test_memory_grows_with_the_snapshots_and_not_with_the_steps():
    grid = box(64, 32)
    state = {"concentration": wave(grid)}

    def temporaries(num_steps, memory):
        time_grid = TimeGrid.build(0.0, 1.0, 1.0 / num_steps)

        def last(wind):
            system = advection_diffusion(grid, wind, 0.1)
            return jnp.sum(
                simulate(system, state, time_grid, IMPLICIT, memory=memory).states["concentration"]
                ** 2
            )

        compiled = jax.jit(jax.grad(last)).lower(winds(grid)).compile()
        analysis = compiled.memory_analysis()
        assert analysis is not None
        return analysis.temp_size_in_bytes

    one_state = state["concentration"].nbytes
    kept = temporaries(400, KeepAll()) - temporaries(200, KeepAll())
    assert kept > 190 * one_state
    few, more = temporaries(400, Snapshots(10)), temporaries(400, Snapshots(30))
    assert temporaries(200, Snapshots(10)) == pytest.approx(few, abs=one_state * 2)
    assert more - few == pytest.approx(20 * one_state, rel=0.3)


@pytest.mark.parametrize("count", [0, -1])
def test_nothing_to_keep(count):
    with pytest.raises(InputError, match="at least 1"):
        Snapshots(count)


def test_more_snapshots_than_steps():
    with pytest.raises(InputError, match=r"10 snapshots of 9 steps.*from 1 to 9"):
        loss(given(), Snapshots(10))


class Pulse(AbstractLatent):
    """A learned strength that comes and goes: evaluated anew at the times of each step."""

    strength: jax.Array
    names: tuple[str, ...] = eqx.field(static=True, default=("pulse",))

    @property
    def is_steady(self) -> bool:
        return False

    def evaluate(self, grid, time=None):
        assert time is not None and grid is not None
        return self.strength * jnp.sin(20 * time) * wave(grid)


@pytest.mark.thorough
def test_coefficients_that_depend_on_time():
    state = {"concentration": wave(GRID)}

    def total(strength, memory):
        terms = [Source(Pulse(strength=strength)), Diffusion(0.05), Advection(winds(GRID))]
        system = System(GRID, {"concentration": terms})
        found = simulate(system, state, TIMES, IMPLICIT, memory=memory)
        return jnp.sum(found.states["concentration"] ** 3)

    found, expected = (
        jax.jit(jax.value_and_grad(partial(total, memory=memory)))(jnp.array(0.7))
        for memory in (Snapshots(3), KeepAll())
    )
    assert_close(found, expected)
    assert abs(expected[1]) > 1e-3


@pytest.mark.thorough
def test_steps_below_round_off_are_taken_again_as_they_were():
    """Each changes a tenth of the spacing of numbers at 290: with v = u - 290, v' = r - k v^2."""
    steps, rate = 100, 3e-6
    grid, times = box(2), TimeGrid.build(0.0, [float(steps)], 1.0)

    def loss(decay):
        terms = [Diffusion(1.0), Source(rate), Reaction(lambda u, k: -k * (u - 290) ** 2, k=decay)]
        initial = {"u": jnp.full(2, 290, jnp.float32)}
        system = System(grid, {"u": terms})
        found = simulate(system, initial, times, Theta(1.0), memory=Snapshots(1))
        return found.states["u"][-1, 0]

    # At k = 0 v after n steps is r n, and dv/dk what the squares of these add up to.
    right = -(rate**2) * steps * (steps + 1) * (2 * steps + 1) / 6
    np.testing.assert_allclose(jax.grad(loss)(jnp.float32(0.0)), right, rtol=0.02)
