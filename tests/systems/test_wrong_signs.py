"""Coefficients of the wrong sign are refused before a rollout, where they are known by then."""

from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from impindiff._errors import InputError, NumericsError
from impindiff.data import to_dataset
from impindiff.forecast import predict
from impindiff.grid import Grid
from impindiff.integrate import BackwardEuler, CrankNicolson, RungeKutta4
from impindiff.latent import AbstractLatent, FilmField, Parameter
from impindiff.rollout import StepResult, TimeGrid, simulate, simulate_with_rescue
from impindiff.systems import Field, System
from impindiff.terms import Diffusion, Dirichlet, NoFlux, Robin, Source

GRID = Grid.uniform((4,), ((0, 1),))
TIMES = TimeGrid.build(0.0, [1.0], 0.1)
ONES = jnp.ones(4)


def spreading(diffusivity: Any = 0.1, ends=None, coefficients=None, **said) -> System:
    field = Field([Diffusion(diffusivity)], ends or {"x": NoFlux()}, **said)
    return System(GRID, {"c": field}, coefficients=coefficients)


FALLING = "at t = 0.6: "
REFUSED = {
    "place": (
        spreading(lambda x: x - 0.5),
        "the diffusivity of Diffusion in the equation of 'c' is -0.375 at x = 0.125: ",
    ),
    "time": (spreading(lambda t: 0.55 - t), f"Diffusion .* is -0.05, {FALLING}"),
    "place and time": (
        spreading(lambda t, x: 0.55 - t + x - 0.125),
        f"Diffusion .* is -0.05 at x = 0.125, {FALLING}",
    ),
    "named": (
        spreading(lambda k: k, coefficients={"k": lambda x: x - 0.5}),
        "is -0.375 at x = 0.125: ",
    ),
    "learned": (
        spreading(Parameter("D", -0.5, (-1.0, 1.0))),
        "is -0.5: .*Parameter.name, initial, .0.0, float",
    ),
    "transfer": (
        spreading(ends={"x": (Dirichlet(0.0), Robin(lambda t: 0.55 - t, 0.0))}),
        f"the transfer of Robin of 'c' at the upper end of axis 'x' is -0.05, {FALLING}",
    ),
    "storage": (spreading(storage=lambda x: x - 0.5), "the storage of 'c' is -0.375 at x = 0.125"),
    "storage in time": (spreading(storage=lambda t: 0.5 - t), "storage of 'c' is 0, at t = 0.5: "),
    "capacity": (spreading(capacity=lambda x: x - 0.125), "capacity of 'c' is 0 at x = 0.125: "),
}


@pytest.mark.many
@pytest.mark.parametrize("system, message", REFUSED.values(), ids=REFUSED.keys())
def test_it_is_refused_with_its_least_value_and_where_that_is(system, message):
    with pytest.raises(InputError, match=message):
        simulate(system, {"c": ONES}, TIMES, CrankNicolson())
    with pytest.raises(InputError, match=message):
        simulate_with_rescue(system, {"c": ONES}, TIMES, CrankNicolson())
    with pytest.raises(InputError, match=message):
        predict(system, to_dataset(GRID, [0.0], {"c": np.ones((1, 1, 4))}), times=[1.0], dt=0.1)


@pytest.mark.thorough
def test_times_are_counted_from_where_they_are():
    """A moment is known exactly, also in single precision and many years after zero."""
    start = 1.7e9
    later = TimeGrid.build(start, [start + 1.0], 0.1)
    system = spreading(lambda t: 0.55 - (t - start))
    state = {"c": ONES.astype(jnp.float32)}
    with pytest.raises(InputError, match="at t = 1700000001: |at t = 1700000000.6: "):
        simulate(system, state, later, CrankNicolson())
    fine = simulate(spreading(lambda t: 1.05 - (t - start)), state, later, CrankNicolson())
    assert bool(fine.outcome.converged.all())


def test_what_is_refused_under_jit_is_what_depends_on_no_traced_array():
    run = jax.jit(lambda u: simulate(REFUSED["time"][0], {"c": u}, TIMES, BackwardEuler()))
    with pytest.raises(InputError, match=FALLING):
        run(ONES)


def scaled(k, on_failure: Any = "raise"):
    system = spreading(lambda k, x: k * (1 + x), coefficients={"k": k})
    return simulate(system, {"c": ONES}, TIMES, BackwardEuler(), on_failure=on_failure)


@pytest.mark.thorough
def test_every_step_fails_where_it_is_traced():
    good, bad = (jax.jit(scaled)(k) for k in (0.1, -0.1))
    assert np.isfinite(good.states["c"]).all() and bool(good.outcome.converged.all())
    assert np.isnan(bad.states["c"]).all()
    assert set(np.asarray(bad.outcome.result)) == {StepResult.ILL_POSED}
    with pytest.raises(NumericsError, match="the diffusivity of 'c' is -0.1875 at cell 3") as told:
        bad.check(TIMES)
    assert "whatever the state is" in str(told.value)
    kept = jax.jit(lambda k: scaled(k, "keep"))(-0.1)
    assert not kept.outcome.converged.any()
    slope = jax.jit(jax.grad(lambda k: scaled(k).states["c"][-1, 0]))
    assert np.isfinite(slope(0.1))
    with pytest.raises(Exception, match="not to be trusted"):
        slope(-0.1)


@pytest.mark.thorough
def test_samples_whose_parameter_has_the_wrong_sign_fail_by_themselves():
    field = Field([Diffusion(lambda k: k)], {"x": NoFlux()})
    system = System(GRID, {"c": field}, parameters="k")
    data = to_dataset(GRID, [0.0], {"c": np.ones((2, 1, 4))}).assign(k=("sample", [0.1, -0.1]))
    with pytest.raises(NumericsError, match="sample 1: the diffusivity of 'c' is -0.1 "):
        predict(system, data, times=[1.0], dt=0.5)


@pytest.mark.thorough
def test_round_off_and_solid_cells_are_none():
    solid = np.array([False, False, False, True])
    grid = Grid(GRID.axes, solid=solid)
    spread = Diffusion(lambda x: jnp.where(x > 0.7, -1.0, jnp.where(x > 0.5, -1e-9, 0.1)))
    system = System(grid, {"c": Field([spread], {"x": NoFlux()})})
    simulate(system, {"c": ONES}, TIMES, CrankNicolson()).check(TIMES)


@pytest.mark.thorough
def test_a_step_fails_that_ends_at_a_negative_capacity():
    field = Field([Source(-1.0)], capacity=lambda c: c - 0.5)
    system = System(GRID, {"c": field})
    with pytest.raises(NumericsError, match="step 1 .*the capacity of 'c' is -0.2.* where 'c' is"):
        simulate(system, {"c": 0 * ONES}, TIMES, RungeKutta4())
    simulate(system, {"c": 3 * ONES}, TIMES, RungeKutta4()).check(TIMES)


class Falling(AbstractLatent):
    """A learned number less the time."""

    first: Any
    names: tuple[str, ...] = eqx.field(static=True, default=("falling",))

    @property
    def is_steady(self) -> bool:
        return False

    def evaluate(self, grid, time=None):
        return self.first - time


FALLS = Falling(first=jnp.array(0.55))
# The step to t = 0.6 is the sixth.
IN_A_STEP = {
    "learned, in time": (
        spreading(FALLS),
        "step 6 .*the diffusivity of 'c'",
    ),
    "learned transfer, in time": (
        spreading(ends={"x": (Dirichlet(1.0), Robin(FALLS, 0.0))}),
        "step 6 .*the transfer of 'c'",
    ),
    "transfer, of the state": (
        spreading(ends={"x": (Dirichlet(1.0), Robin(lambda c: 0.2 - c, 0.0))}),
        "step 1 .*the transfer of 'c' is -0.",
    ),
    "transfer, of another field": (
        System(
            GRID,
            {
                "c": Field([Diffusion(0.1)], {"x": Robin(lambda d: 0.55 - d, 0.0)}),
                "d": [Source(1.0)],
            },
        ),
        "step 6 .*the transfer of 'c' is -0.05",
    ),
}


@pytest.mark.thorough
@pytest.mark.many
@pytest.mark.parametrize("system, message", IN_A_STEP.values(), ids=IN_A_STEP.keys())
def test_what_is_known_in_a_step_only_fails_there(system, message):
    start = {field: (1 if field == "c" else 0) * ONES for field in system.fields}
    with pytest.raises(NumericsError, match=message):
        simulate(system, start, TIMES, BackwardEuler())


def test_a_function_of_time_and_of_what_is_traced_fails_in_a_step():
    def outcome(k):
        system = spreading(lambda t, k: k - t, coefficients={"k": k})
        return simulate(system, {"c": ONES}, TIMES, BackwardEuler()).outcome.result

    found = np.asarray(jax.jit(outcome)(0.55))
    assert found[4] <= StepResult.ROUND_OFF
    assert found[5] == StepResult.NEGATIVE_DIFFUSIVITY


def test_what_bounds_keep_right_is_not_looked_at():
    film = FilmField(1, ("D",), span=(0.0, 1.0), bounds=(0.0, 1.0), key=jax.random.key(0))
    prepared = spreading(film).prepare(jnp.dtype("float64"))
    prepared = prepared.check_coefficients(np.array([0.0, 1.0]), np.zeros(3))
    assert prepared.negative_diffusivity({"c": ONES}, jnp.ones(()), jnp.ones(())) is None
    free = spreading(FilmField(1, ("D",), span=(0.0, 1.0), key=jax.random.key(0)))
    free = free.prepare(jnp.dtype("float64"))
    free = free.check_coefficients(np.array([0.0, 1.0]), np.zeros(3))
    assert free.negative_diffusivity({"c": ONES}, jnp.ones(()), jnp.ones(())) is not None


ARRAY = np.array([1.0, -1.0, 1.0, 1.0])


@pytest.mark.thorough
@pytest.mark.many
@pytest.mark.parametrize(
    "storage, message",
    [
        (lambda c: -c, "the slope of the storage of 'c' is -1 at cell 0"),
        (lambda c: ARRAY * c, "the slope of the storage of 'c' is -1 at cell 1"),
        (lambda c: c - c**2, "step 1 .*the slope of the storage of 'c' is -"),
    ],
)
def test_a_step_fails_where_a_storage_falls(storage, message):
    with pytest.raises(NumericsError, match=message):
        simulate(spreading(storage=storage), {"c": 0.8 * ONES}, TIMES, BackwardEuler())


@pytest.mark.thorough
def test_a_storage_may_be_steep_at_zero_and_fall_where_nothing_diffuses():
    steep = spreading(storage=lambda c: c + jnp.abs(c) ** 0.7).prepare(jnp.dtype("float64"))
    for lowest, is_wrong in ((-1e-12, False), (-1e-2, True)):
        state = {"c": jnp.array([0.5, lowest, 0.0, 0.0])}
        found = steep.negative_diffusivity(state, jnp.zeros(()), jnp.ones(()))
        assert found is not None and bool(found.is_outside) == is_wrong
    alone = System(GRID, {"c": Field([Source(1.0)], storage=lambda c: -2 * c)})
    found = simulate(alone, {"c": ONES}, TIMES, BackwardEuler())
    np.testing.assert_allclose(found.states["c"][-1], 0.5)
