"""A step that ends where diffusion runs backwards has failed, whatever its residual is."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from impindiff._errors import NumericsError
from impindiff.grid import Grid
from impindiff.implicit import Newton
from impindiff.integrate import BackwardEuler, CrankNicolson, RungeKutta4
from impindiff.linear import Tridiagonal
from impindiff.rollout import StepResult, TimeGrid, simulate, simulate_with_rescue
from impindiff.systems import Field, Reaction, System
from impindiff.systems._well_posed import DIFFUSIVITY, Signed, smallest_spread
from impindiff.terms import Diffusion, Dirichlet, Flux, NoFlux, Source

GRID = Grid.uniform((6,), ((0, 1),))
DIRECT = Newton(Tridiagonal())


def results(outcome) -> list[StepResult]:
    return [StepResult(int(result)) for result in outcome.result]


def falling(bounds=None, spread=lambda u: 2 * u) -> System:
    """Everywhere the same, less by one in a unit of time."""
    terms = [Diffusion(spread, mean="arithmetic"), Source(-1.0)]
    return System(GRID, {"u": Field(terms, {"x": NoFlux()}, bounds=bounds)})


@pytest.mark.thorough
@pytest.mark.parametrize("stepper", [BackwardEuler(DIRECT), RungeKutta4()])
def test_the_step_fails_and_says_where(stepper):
    times = TimeGrid.build(0.0, [1.0], 0.25)
    found = simulate(falling(), {"u": jnp.full(6, 0.6)}, times, stepper, on_failure="keep")
    assert (
        results(found.outcome) == [StepResult.CONVERGED] * 2 + [StepResult.NEGATIVE_DIFFUSIVITY] * 2
    )
    with pytest.raises(NumericsError) as caught:
        found.check(times)
    for part in (
        "step 3 of 4 (to t = 0.75)",
        "the diffusivity of 'u' is -0.3 at cell ",
        ", where 'u' is -0.15 ",
        "shorten the step",
        "Field(..., bounds=...)",
    ):
        assert part in str(caught.value)


@pytest.mark.thorough
def test_limits_come_first_and_both_are_watched():
    times = TimeGrid.build(0.0, [1.0], 0.25)
    system = falling((-0.3, 0.5), lambda u: 2 * u)
    found = simulate(
        system, {"u": jnp.full(6, 0.5)}, times, BackwardEuler(DIRECT), on_failure="keep"
    )
    negative, out = StepResult.NEGATIVE_DIFFUSIVITY, StepResult.OUT_OF_BOUNDS
    assert results(found.outcome) == [StepResult.CONVERGED] * 2 + [negative, out]
    with pytest.raises(NumericsError, match="step 3.*the diffusivity of 'u' is -0.5 at cell"):
        found.check(times)
    late = jax.tree.map(lambda leaf: leaf[3:], found.outcome.violation)
    assert late.message().startswith("'u' is -0.5 at cell")
    assert late.message().endswith("below its limits [-0.3, 0.5]")
    beyond = under_jit(system, jnp.full(6, 0.7), times)
    assert beyond[0] is StepResult.START_OUT_OF_BOUNDS


def under_jit(system: System, start, times: TimeGrid) -> list[StepResult]:
    run = jax.jit(lambda u: simulate(system, {"u": u}, times, BackwardEuler(DIRECT)).outcome)
    return results(run(start))


@pytest.mark.thorough
def test_what_cannot_be_negative_is_not_looked_at():
    for spread in (0.1, lambda x: 0.1 + x):
        assert (
            falling(spread=spread)
            .prepare(jnp.dtype("float64"))
            .negative_diffusivity({"u": jnp.ones(6)}, jnp.zeros(()), jnp.ones(()))
            is None
        )
    times = TimeGrid.build(0.0, [1.0], 0.25)
    system = falling(spread=lambda u: 0.1 + u**2)
    found = simulate(system, {"u": jnp.full(6, 0.6)}, times, BackwardEuler(DIRECT))
    assert bool(found.outcome.converged.all())


def test_round_off_and_solid_cells_are_none():
    solid = np.zeros(6, bool)
    solid[5] = True
    grid = Grid(GRID.axes, solid=solid)
    terms = [Diffusion(lambda u: 2 * u), Reaction(lambda u: 0 * u)]
    system = System(grid, {"u": Field(terms, {"x": NoFlux()})}).prepare(jnp.dtype("float64"))
    state = {"u": jnp.array([1.0, 0.5, -1e-9, 0.2, 0.1, -3.0])}
    found = system.negative_diffusivity(state, jnp.zeros(()), jnp.ones(()))
    assert found is not None and not found.is_outside
    state["u"] = state["u"].at[1].set(-1e-3)
    found = system.negative_diffusivity(state, jnp.zeros(()), jnp.ones(()))
    assert found is not None and found.is_outside and int(found.cell) == 1


@pytest.mark.thorough
def test_more_than_there_is_cannot_be_drawn_out():
    """No state without a cell below zero fulfils it, at any step: that is said."""
    ends = {"x": (NoFlux(), Flux(1.0))}
    system = System(GRID, {"u": Field([Diffusion(lambda u: 2 * u, mean="arithmetic")], ends)})
    times = TimeGrid.build(0.0, [0.1], 0.05)
    with pytest.raises(NumericsError, match="Halving steps did not help"):
        simulate_with_rescue(system, {"u": jnp.full(6, 1e-3)}, times, BackwardEuler(DIRECT))


@pytest.mark.thorough
def test_halved_steps_find_the_other_root():
    """The trapezoidal rule overshoots below zero ahead of a front, in steps that are too long."""
    grid = Grid.uniform((32,), ((0, 1),))
    ends = {"x": (Dirichlet(1.0), NoFlux())}
    system = System(grid, {"u": Field([Diffusion(lambda u: 2 * u, mean="arithmetic")], ends)})
    (x,) = grid.centres()
    start = {"u": jnp.asarray(np.where(abs(x - 0.6) < 0.05, 1.0, 0.0))}
    times = TimeGrid.build(0.0, [0.025], 0.1 / 16)
    stepper = CrankNicolson(DIRECT)
    failed = simulate(system, start, times, stepper, on_failure="keep")
    assert StepResult.NEGATIVE_DIFFUSIVITY in results(failed.outcome)
    found = simulate_with_rescue(system, start, times, stepper)
    assert found.halved and float(found.trajectory.states["u"].min()) > -1e-6
    fine = TimeGrid.build(0.0, [0.025], 0.1 / 256)
    expected = simulate(system, start, fine, stepper).states["u"][-1]
    assert float(jnp.abs(found.trajectory.states["u"][-1] - expected).mean()) < 0.01


@pytest.mark.parametrize(
    "lowest, largest, is_negative",
    [(-5e-8, 0.0, True), (-5e-9, 0.0, False), (-5e-8, 0.1, False), (-5e-7, 0.1, True)],
)
def test_what_is_negative_beyond_round_off(lowest: float, largest: float, is_negative: bool):
    """A millionth of the largest, or of what spreads through a cell of 0.1 in a step of 1."""
    grid = Grid.uniform((10,), ((0, 1),))
    values = jnp.zeros(10).at[3].set(lowest).at[7].set(largest)
    part = Signed("u", DIFFUSIVITY, "of Diffusion", values, "")
    found = part.lowest(grid, smallest_spread(grid, jnp.array(1.0)))
    assert (int(found.cell), bool(found.is_wrong)) == (3, is_negative)
