"""Limits of fields: a state that cannot be is refused, or its step fails; nothing is clipped."""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
import runtime_types
from smooth import box, wave

from impindiff._errors import InputError, NumericsError
from impindiff.grid import Grid
from impindiff.implicit import Affine
from impindiff.integrate import (
    SDIRK2,
    BackwardEuler,
    Bounds,
    CrankNicolson,
    ForwardEuler,
    RungeKutta4,
)
from impindiff.latent import Parameter
from impindiff.linear import BiCGStab
from impindiff.rollout import KeepAll, Snapshots, StepResult, TimeGrid, Trajectory, simulate
from impindiff.systems import Field, Reaction, System, check_readings
from impindiff.terms import Diffusion, Source

INFINITY = float("inf")
STEPPERS = [BackwardEuler(), CrankNicolson(), SDIRK2(), ForwardEuler(), RungeKutta4()]
TIMES = TimeGrid.build(0.0, [1.0], 0.25)


def falling(bounds=None, grid: Grid | None = None) -> System:
    """Two fields, one of which falls by one in a unit of time while the other rests."""
    terms = {"rests": [Reaction(lambda rests: 0 * rests)], "falls": [Source(-1.0)]}
    bounds = bounds or {}
    fields = {name: Field(terms[name], bounds=bounds.get(name)) for name in terms}
    return System(grid or box(3, 2), fields)


def state(falls: float = 0.6, grid: Grid | None = None) -> dict[str, jax.Array]:
    shape = (grid or box(3, 2)).shape
    return {"rests": jnp.zeros(shape), "falls": jnp.full(shape, falls)}


def results(found: Trajectory) -> list[StepResult]:
    return [StepResult(int(result)) for result in found.outcome.result]


@pytest.mark.thorough
@pytest.mark.parametrize("stepper", STEPPERS, ids=lambda one: type(one).__name__)
def test_a_step_that_leaves_them_fails_and_says_where(stepper):
    """0.6 - t is below 0.05 after the third of four steps, and not after the second."""
    start = state() | {"falls": state()["falls"].at[2, 1].set(0.55)}
    system = falling({"rests": (-1, 1), "falls": (0.02, INFINITY)})
    found = simulate(system, start, TIMES, stepper, on_failure="keep")
    assert [result is StepResult.OUT_OF_BOUNDS for result in results(found)] == [0, 0, 1, 1]
    with pytest.raises(NumericsError) as caught:
        found.check(TIMES)
    for part in (
        "step 3 of 4 (to t = 0.75), sample 0: 'falls' is -0.2",
        "at cell (2, 1), below its limits [0.02, inf] (2 of 4 steps failed)",
        "shorten the step",
        "Field(..., bounds=",
    ):
        assert part in str(caught.value)
    # Nothing is clipped.
    np.testing.assert_allclose(found.states["falls"][-1].min(), -0.45, rtol=1e-6)


@pytest.mark.thorough
def test_above_is_told_from_below_and_the_sample_is_named():
    system = falling({"falls": (-INFINITY, 0.9)})
    start = jax.tree.map(lambda a, b: jnp.stack([a, b]), state(0.5), state(1.3))
    found = jax.vmap(lambda one: simulate(system, one, TIMES, BackwardEuler()))(start)
    with pytest.raises(NumericsError, match=r"step 1 of 4.*sample 1: 'falls' is 1.3 .* above its"):
        found.check(TIMES)


def test_without_limits_nothing_is_computed():
    def program(limits) -> str:
        system = falling(limits)
        return str(jax.make_jaxpr(lambda u: simulate(system, u, TIMES, ForwardEuler()))(state()))

    assert "argmax" in program({"falls": (0, 1)})
    assert "argmax" not in program({}) and "argmax" not in program(None)
    assert simulate(falling(), state(), TIMES, ForwardEuler()).outcome.violation is None


@pytest.mark.thorough
def test_a_solve_that_failed_stays_what_it_is():
    scarce = BackwardEuler(Affine(BiCGStab(1e-12, max_steps=1)))
    system = System(box(6), {"c": Field([Diffusion(0.1), Source(9.0)], bounds=(0.0, 2.0))})
    found = simulate(system, {"c": wave(box(6))}, TIMES, scarce, on_failure="keep")
    assert results(found)[0] is StepResult.MAX_STEPS and found.states["c"].max() > 2


@pytest.mark.parametrize("given, told", [(1.5, "'falls' is 1.5 at cell"), (-0.5, "below")])
def test_a_start_outside_is_refused_where_it_is_known(given, told):
    system = falling({"falls": (0, 1)})
    with pytest.raises(InputError, match=told):
        simulate(system, state(given), TIMES, BackwardEuler())
    with pytest.raises(InputError, match=told):
        system.check(state(given))


@pytest.mark.thorough
def test_under_jit_the_first_step_is_blamed_for_its_start():
    """Though it ends inside."""
    system = falling({"falls": (0, 1)})
    times = TimeGrid.build(0.0, [0.5], 0.25)

    def run(on_failure):
        # The state is an argument: were it known, it would be refused at once.
        return jax.jit(
            lambda u: simulate(system, u, times, BackwardEuler(), on_failure=on_failure)
        )(state(1.1))

    found = run("keep")
    assert results(found) == [StepResult.START_OUT_OF_BOUNDS, StepResult.CONVERGED]
    spoiled = run("raise")
    assert results(spoiled)[0] is StepResult.START_OUT_OF_BOUNDS
    assert all(np.isnan(u).all() for u in spoiled.states.values())
    with pytest.raises(NumericsError, match="'falls' is 1.1 .* correct the initial values"):
        found.check(times)


def test_what_stands_in_solid_cells_has_no_limits():
    solid = np.array([True, False, False, False])
    grid = Grid.uniform((4,), ((0.0, 1.0),), solid=solid)
    system = falling({"falls": (0, 1)}, grid)
    hidden = state(0.5, grid)
    hidden["falls"] = hidden["falls"].at[0].set(-9.0)
    system.check(hidden)
    with pytest.raises(InputError, match="cell 1"):
        system.check(hidden | {"falls": hidden["falls"].at[1].set(-9.0)})


def test_fields_without_a_grid_have_limits():
    system = System(None, {"a": Field([Reaction(lambda a: -1 + 0 * a)], bounds=(0, 1))})
    with pytest.raises(NumericsError, match="step 3 of 4 .*'a' is -0.15, below"):
        simulate(system, {"a": jnp.array(0.6)}, TIMES, ForwardEuler())


@pytest.mark.thorough
@pytest.mark.parametrize("memory", [KeepAll(), Snapshots(2)], ids=["all", "snapshots"])
def test_gradients_are_those_without_limits(memory):
    def slope(bounds) -> float:
        unknown = Parameter("D", 0.1, (0.0, 1.0))
        system = System(box(6), {"c": Field([Diffusion(unknown)], bounds=bounds)})

        def loss(system):
            found = simulate(system, {"c": wave(box(6))}, TIMES, ForwardEuler(), memory=memory)
            return jnp.sum(found.states["c"] ** 2)

        return float(jax.tree.leaves(eqx.filter_grad(loss)(system))[0])

    assert slope((-9.0, 9.0)) == slope(None) != 0


@pytest.mark.parametrize(
    "bounds, message",
    [
        ((1, 0), "the bounds of 'falls' are .1, 0."),
        (3, "give two numbers"),
        ((0, float("nan")), "give two numbers"),
    ],
)
def test_what_are_no_bounds_is_refused(bounds, message):
    with runtime_types.without(), pytest.raises(InputError, match=message):
        falling({"falls": bounds})


@pytest.mark.parametrize("beyond, is_fine", [(4.9, True), (5.1, False)])
@pytest.mark.parametrize("side", [-1, 1])
def test_readings_may_lie_five_deviations_beyond_either_limit(side, beyond, is_fine):
    limit, noise = Bounds("c", -1.0, 3.0), np.full((1, 1), 0.2)
    value = np.full((1, 1), (3.0 if side > 0 else -1.0) + side * beyond * 0.2)

    def check(deviations: np.ndarray | None) -> None:
        check_readings(limit, "c", value, deviations, [0.5], [7])

    if is_fine:
        check(noise)
    else:
        with pytest.raises(InputError, match="more than 5 standard deviations of the noise"):
            check(noise)
    with pytest.raises(InputError, match="no noise is stated"):
        check(None)
