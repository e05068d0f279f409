"""What every stepper owes its caller, whatever it does inside a step."""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
import runtime_types
from contracts import final_classes
from gradients import taylor_rates
from smooth import box, wave, winds

from impindiff.grid import Grid
from impindiff.implicit import Affine
from impindiff.integrate import (
    ARK4,
    ESDIRK3,
    ESDIRK5,
    SDIRK2,
    AbstractStepper,
    BackwardEuler,
    BogackiShampine3,
    CrankNicolson,
    ForwardEuler,
    QuasiSteady,
    RungeKutta4,
    Tsitouras5,
)
from impindiff.integrate._diagonally_implicit import overall
from impindiff.latent import SineField
from impindiff.linear import BiCGStab, Outcome, Result
from impindiff.systems import System
from impindiff.terms import Advection, Diffusion, Source

TIGHT = Affine(BiCGStab(1e-13), BiCGStab(1e-12))
STEPPERS = {
    "forward Euler": ForwardEuler(),
    "Runge-Kutta": RungeKutta4(),
    "Bogacki-Shampine in parts": BogackiShampine3(2),
    "Tsitouras": Tsitouras5(),
    "backward Euler": BackwardEuler(TIGHT),
    "Crank-Nicolson": CrankNicolson(TIGHT),
    "SDIRK-2": SDIRK2(TIGHT),
    "ESDIRK-3": ESDIRK3(TIGHT),
    "ESDIRK-5": ESDIRK5(TIGHT),
    "ARK-4": ARK4(TIGHT),
}
# It does not advance in time, and the states under contract have no steady one: see
# `tests/rollout/test_steady.py`.
NO_STEPS_IN_TIME = {QuasiSteady}
GRIDS = {"1-D": box(7), "3-D": box(4, 3, 2)}
DT = 0.02


def test_every_stepper_is_under_contract():
    under_contract = {type(stepper) for stepper in STEPPERS.values()}
    assert final_classes(AbstractStepper) - NO_STEPS_IN_TIME == under_contract


def parts(grid: Grid, dtype=jnp.float64) -> dict:
    """All that a gradient may be taken of: two fields, and what moves each of them."""
    names = tuple(f"wind_{axis}" for axis in grid.names)
    network = SineField(grid.num_axes, names, width=4, depth=1, key=jax.random.key(0))
    whole = {
        "initial": {"known": wave(grid), "learned": wave(grid, 1.0)},
        # No cell is becalmed: there the donor changes, and upwinding has no derivative.
        "velocity": winds(grid) + 0.15,
        "diffusivity": 0.05 * wave(grid, 2.0),
        "network": network,
    }
    return jax.tree.map(lambda a: a.astype(dtype), whole)


def two_steps(stepper: AbstractStepper, grid: Grid, given: dict) -> tuple[dict, Outcome]:
    system = System(
        grid,
        {
            "known": [Advection(given["velocity"]), Diffusion(given["diffusivity"])],
            "learned": [Advection(given["network"], "central"), Diffusion(0.1), Source(0.3)],
        },
    )
    initial = given["initial"]
    dtype = initial["known"].dtype
    dynamics = system.prepare(dtype)

    def step(state, time):
        return stepper.step(dynamics, time, jnp.asarray(DT, dtype), state)

    state, outcomes = jax.lax.scan(step, initial, jnp.asarray([0, DT], dtype))
    return state, jax.tree.map(lambda of_steps: of_steps[-1], outcomes)


def is_heavy(name: str, dimensions: str) -> bool:
    """To compile."""
    return dimensions == "3-D" and name not in ("forward Euler", "Crank-Nicolson")


@pytest.mark.parametrize(
    "stepper, grid",
    [
        pytest.param(
            stepper,
            grid,
            id=f"{name}-{dimensions}",
            marks=[pytest.mark.slow] if is_heavy(name, dimensions) else [],
        )
        for name, stepper in STEPPERS.items()
        for dimensions, grid in GRIDS.items()
    ],
)
class TestContract:
    @pytest.mark.many
    @pytest.mark.parametrize("dtype", [jnp.float32, jnp.float64])
    def test_a_step_keeps_fields_shapes_and_precision(self, stepper, grid: Grid, dtype):
        given = parts(grid, dtype)
        state, outcome = jax.eval_shape(lambda: two_steps(stepper, grid, given))
        assert state == jax.eval_shape(lambda: given["initial"])
        assert {leaf.shape for leaf in jax.tree.leaves(outcome)} == {()}

    @pytest.mark.thorough
    def test_gradients_leave_second_order_remainders(self, stepper, grid: Grid):
        """With respect to the initial field, the velocity, the diffusivity, and the weights."""
        given = parts(grid)

        def loss(given):
            state, _ = two_steps(stepper, grid, given)
            return sum(jnp.sum(jnp.exp(u)) for u in jax.tree.leaves(state))

        rates = taylor_rates(loss, given, step=1e-3)
        assert rates == pytest.approx(dict.fromkeys(given, 2), abs=0.1)


@pytest.mark.thorough
@pytest.mark.many
@pytest.mark.parametrize("stepper", STEPPERS.values(), ids=STEPPERS)
def test_a_batch_is_its_samples_one_by_one(stepper):
    grid = GRIDS["1-D"]
    given = parts(grid)
    initials = jax.tree.map(lambda u: jnp.stack([u, 3 - u]), given["initial"])

    @jax.jit
    def step(initial):
        return two_steps(stepper, grid, given | {"initial": initial})

    states, outcome = jax.jit(jax.vmap(step))(initials)
    assert outcome.result.shape == (2,) and bool(outcome.converged.all())
    for sample in range(2):
        one, _ = step(jax.tree.map(lambda u, s=sample: u[s], initials))
        for field, values in one.items():
            np.testing.assert_allclose(states[field][sample], values, rtol=1e-10)


@pytest.mark.thorough
@pytest.mark.parametrize("name", ["forward Euler", "Crank-Nicolson"])
def test_compiled_or_not_a_step_is_the_same(name: str):
    stepper = STEPPERS[name]
    grid = GRIDS["1-D"]
    given = parts(grid)
    plain, outcome = two_steps(stepper, grid, given)
    compiled, same = eqx.filter_jit(two_steps)(stepper, grid, given)
    for field, values in plain.items():
        np.testing.assert_allclose(compiled[field], values, rtol=1e-12)
    assert int(outcome.result) == int(same.result)


@pytest.mark.thorough
@pytest.mark.many
@pytest.mark.parametrize("stepper", STEPPERS.values(), ids=STEPPERS)
def test_nothing_moves_without_wind_and_diffusion(stepper):
    grid = box(5, 4)
    still = System(grid, {"c": [Advection(jnp.zeros(2)), Diffusion(0.0)]})
    state, outcome = stepper.step(
        still.prepare(jnp.dtype("float64")), jnp.zeros(()), jnp.array(10.0), {"c": wave(grid)}
    )
    np.testing.assert_array_equal(state["c"], wave(grid))
    assert bool(outcome.converged) and int(outcome.iterations) == 0


@pytest.mark.parametrize("kind", [ForwardEuler, RungeKutta4, BogackiShampine3, Tsitouras5])
def test_a_step_in_parts_takes_numbers_of_python_as_a_whole_one_does(kind):
    """One step of two parts is two steps."""
    dynamics = System(GRIDS["1-D"], {"c": [Diffusion(0.1)]}).prepare(jnp.dtype("float64"))
    state = {"c": wave(GRIDS["1-D"])}
    with runtime_types.without():
        once, _ = kind(2).step(dynamics, 0.0, DT, state)
        for _ in range(2):
            state, _ = kind().step(dynamics, 0.0, DT / 2, state)
    np.testing.assert_allclose(once["c"], state["c"], rtol=1e-14)


@pytest.mark.parametrize("failed", [0, 1])
def test_of_two_stages_the_worse_is_told_and_the_work_of_both(failed: int):
    results, residuals = np.full(2, int(Result.CONVERGED)), np.full(2, 1e-9)
    results[failed], residuals[failed] = int(Result.STALLED), 0.1
    counts = jnp.array([2, 3]), jnp.array([4, 1])
    stages = Outcome(jnp.asarray(results), counts[0], jnp.asarray(residuals), counts[1])
    both = overall(stages)
    assert (int(both.result), int(both.iterations), int(both.steps)) == (Result.STALLED, 5, 5)
    assert float(both.relative_residual) == 0.1
