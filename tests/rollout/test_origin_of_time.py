"""The same problem with its times counted from another moment: the same answer, or a refusal."""

from collections.abc import Callable
from inspect import signature
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from contracts import final_classes
from smooth import box, wave

import impindiff as ipd
from impindiff._errors import InputError
from impindiff.coefficients import Instant, time_parts
from impindiff.grid import Grid
from impindiff.integrate import (
    SDIRK2,
    AbstractStepper,
    BackwardEuler,
    CrankNicolson,
    RungeKutta4,
)
from impindiff.latent import AbstractLatent, FilmField, HypernetworkField, SeparableField
from impindiff.rollout import TimeGrid, consistent, simulate, stable_dt
from impindiff.systems import Field, System, balances
from impindiff.terms import Diffusion, Dirichlet, Source

GRID = box(6, 5)
STEPPERS = [BackwardEuler(), CrankNicolson(), SDIRK2(), RungeKutta4()]
# Days since 1900, hours since 1900, Julian days; seconds since 1970 by steps of a minute.
ORIGINS = {"days": (46_000.0, 1 / 96), "hours": (1.1e6, 0.25), "Julian": (2_461_373.0, 1 / 96)}
ORIGINS["seconds"] = (1.7e9, 60.0)
KEY = jax.random.key(0)
SIZES = {"layers": ipd.latents.Layers(8), "output_range": (0.5, 1.5), "key": KEY}
LATENTS: dict[str, Callable[[tuple[float, float]], AbstractLatent]] = {
    "film": lambda span: FilmField(2, ("k",), span, **SIZES),
    "hypernetwork": lambda span: HypernetworkField(2, ("k",), span, **SIZES),
    "separable": lambda span: SeparableField(2, ("k",), span, **SIZES),
    "spectral": lambda span: _drawn(ipd.latents.SpectralField(2, ("k",), 1, span, degree=2)),
}


def test_every_latent_with_a_span_is_under_contract():
    found = {kind for kind in final_classes(AbstractLatent) if "span" in signature(kind).parameters}
    assert {type(make((0.0, 1.0))) for make in LATENTS.values()} == found


def _drawn(field: AbstractLatent) -> AbstractLatent:
    values = field.coefficients  # type: ignore[attr-defined]
    drawn = 0.2 * jax.random.normal(KEY, values.shape, values.dtype)
    return eqx.tree_at(lambda f: f.coefficients, field, drawn)


@pytest.fixture(params=[False, True], ids=["single", "double"])
def precision(request) -> Any:
    """The precision of JAX itself, and of the fields."""
    jax.config.update("jax_enable_x64", request.param)
    yield np.float64 if request.param else np.float32


def run(make: Callable[[float, float], System], stepper: AbstractStepper, first, dt, dtype) -> Any:
    """The states of 8 steps that begin at a moment, saved at every second of them."""
    times = TimeGrid.build(first, first + dt * np.array([0.0, 2, 4, 6, 8]), dt)
    start = {"c": jnp.asarray(wave(GRID), dtype)}

    @eqx.filter_jit
    def states(system, time_grid):  # where arrays of times are traced
        return simulate(system, start, time_grid, stepper).states["c"]

    return np.asarray(states(make(first, dt), times))


def same(make, stepper, origin: str, dtype) -> None:
    first, dt = ORIGINS[origin]
    ours, from_zero = (run(make, stepper, at, dt, dtype) for at in (first, 0.0))
    # The data are doubles: of a step of a minute 4e-9 is lost, since 1970.
    rtol = 2e-6 if dtype == np.float32 else 1e-12 + 20 * np.spacing(first) / dt
    np.testing.assert_allclose(ours, from_zero, rtol=rtol, atol=rtol)
    assert np.abs(ours[-1] - ours[0]).max() > 1e-2


def forced(first: float, dt: float) -> System:
    """Sources that are functions of the time since the start."""
    rate = Source(lambda t, x: jnp.cos(2 * (t - first) / dt) * (1 + x) / dt)
    late = Source(lambda t: jnp.where(t > first + 4.5 * dt, 0.1 / dt, 0.0))
    return System(GRID, {"c": [Diffusion(1e-3 / dt), rate, late]})


@pytest.mark.thorough
@pytest.mark.parametrize("origin", ORIGINS)
@pytest.mark.parametrize("stepper", STEPPERS, ids=["Euler", "CN", "SDIRK2", "RK4"])
def test_functions_of_the_time_since_a_moment(stepper, origin, precision):
    same(forced, stepper, origin, precision)


@pytest.mark.thorough
@pytest.mark.parametrize("origin", ["days", "seconds"])
@pytest.mark.parametrize("stepper", STEPPERS, ids=["Euler", "CN", "SDIRK2", "RK4"])
def test_systems_that_do_not_name_the_time(stepper, origin, precision):
    same(lambda first, dt: System(GRID, {"c": [Diffusion(1e-2 / dt)]}), stepper, origin, precision)


@pytest.mark.thorough
@pytest.mark.parametrize("origin", ["days", "seconds"])
@pytest.mark.parametrize("kind", LATENTS)
def test_fields_that_vary_in_time(kind, origin, precision):
    def make(first: float, dt: float) -> System:
        field = LATENTS[kind]((first, first + 8 * dt))
        return System(GRID, {"c": [Source(lambda k: k / dt)]}, coefficients={"k": field})

    same(make, SDIRK2(), origin, precision)


@pytest.mark.thorough
@pytest.mark.parametrize("origin", ["days", "seconds"])
def test_learned_functions_of_the_time_and_conditions_at_the_ends(origin, precision):
    def make(first: float, dt: float) -> System:
        law = ipd.NeuralClosure("q", {"t": (first, first + 8 * dt)}, key=KEY)
        # Its last layer is zero at first.
        law = jax.tree.map(lambda leaf: leaf + 0.1 if eqx.is_inexact_array(leaf) else leaf, law)
        pulse = Dirichlet(lambda t: jnp.sin((t - first) / dt))
        grid = Grid.uniform((6, 5), ((0.0, 1.0), (0.0, 1.0)), periodic=(False, True))
        ends = {"x": pulse}
        return System(grid, {"c": Field([Diffusion(1e-2 / dt), Source(lambda q: q / dt)], ends)},
                      coefficients={"q": law})  # fmt: skip

    same(make, BackwardEuler(), origin, precision)


REFUSED: dict[str, Callable[..., Any]] = {
    "sine": lambda t: jnp.sin(t),
    "product": lambda t: 2.0 * t,
    "quotient": lambda t: (t / 24) - 1,
    "sum": lambda t, x: x + t,
    "remainder": lambda t: t % 1.0,
    "itself": lambda t: t,
    "attribute": lambda t: t.astype(jnp.float32),
    "table": lambda t: jnp.interp(t, jnp.arange(3.0), jnp.arange(3.0)),
    "field": lambda t, c: t - c,
    "power": lambda t: t**2,
    "condition": lambda t: jnp.where(t, 1.0, 0.0),
    "list": lambda t: jnp.stack([t, t]),
}


@pytest.mark.parametrize("function", REFUSED.values(), ids=REFUSED)
def test_whatever_else_a_function_does_with_such_a_time_is_refused(function):
    def make(first: float, dt: float) -> System:
        return System(GRID, {"c": [ipd.Reaction(function)]})

    with pytest.raises(InputError) as caught:
        run(make, BackwardEuler(), *ORIGINS["days"], np.float32)
    for part in (
        f"the function <lambda>({', '.join(function.__code__.co_varnames)})",
        "0.0039 apart at t = 46000.",
        "a thousandth of the step, 0.0104167",
        "t - 46000",
        "dtype=np.float64",
    ):
        assert part in str(caught.value)


def test_in_double_precision_nothing_is_refused():
    def make(first: float, dt: float) -> System:
        return System(GRID, {"c": [Source(lambda t: jnp.cos((t - first) * 24) + 0 * t / 7)]})

    same(make, RungeKutta4(), "days", np.float64)


@eqx.filter_jit
def _last(system: Any, start: Any, times: TimeGrid) -> Any:
    return simulate(system, start, times, RungeKutta4()).states


class Pulsating(AbstractLatent):
    """A coefficient of a user's own, which takes the time as a number."""

    names: tuple[str, ...] = eqx.field(static=True, default=("k",))

    @property
    def is_steady(self) -> bool:
        return False

    def evaluate(self, grid: Any, time: Any = None) -> Any:
        return jnp.sin(time)


def test_what_takes_the_time_as_a_number_is_refused_by_name():
    system = System(None, {"c": [Source(Pulsating())]})
    start = {"c": jnp.zeros((), jnp.float32)}
    near, far = (TimeGrid.build(at, [at + 1.0], 0.01) for at in (3.0, 46_000.0))
    np.testing.assert_allclose(
        _last(system, start, near)["c"][-1], np.cos(3) - np.cos(4), rtol=1e-5
    )
    with pytest.raises(InputError, match="the Pulsating would see the time in single precision"):
        _last(system, start, far)


def test_long_rollouts_from_zero_are_resolved_for_thousands_of_steps():
    system = System(None, {"c": [ipd.Reaction(lambda t, c: jnp.cos(t) + 0 * c)]})
    start = {"c": jnp.zeros((), jnp.float32)}
    for steps, is_fine in ((8_000, True), (40_000, False)):
        times = TimeGrid.build(0.0, [0.01 * steps], 0.01)
        assert (times.coarse is None) is is_fine
    with pytest.raises(InputError, match=r"t - 0, which is exact"):
        _last(system, start, times)


@pytest.mark.thorough
def test_forecasts_in_pieces_of_such_times(tmp_path, precision):
    first, dt = ORIGINS["days"]
    times = first + np.arange(1, 25) / 24
    data = ipd.to_dataset(GRID, [first], {"c": np.asarray(wave(GRID), precision)[None, None]})
    given: dict[str, Any] = {"times": times, "dt": dt, "stepper": SDIRK2(), "dtype": precision}
    field = LATENTS["separable"]((first, first + 1))
    terms = [Diffusion(0.1), Source(lambda t, k: k + jnp.cos(6 * (t - first)))]
    system = System(GRID, {"c": terms}, coefficients={"k": field})
    whole = ipd.predict(system, data, **given)
    path = tmp_path / "forecast.zarr"
    nbytes = int(4 * np.dtype(precision).itemsize * np.prod(GRID.shape))
    given["times"] = times[:13]
    ipd.forecast_to(path, system, data, **given, piece=nbytes)
    ipd.continue_forecast(path, system, times=times, dt=dt, stepper=SDIRK2(), piece=nbytes)
    found = ipd.open_dataset(path)
    np.testing.assert_array_equal(found["time"], times)
    tolerance = 3e-6 if precision == np.float32 else 1e-9
    for name in ("c", "k"):
        scale = float(np.abs(whole[name]).max())
        np.testing.assert_allclose(found[name], whole[name], rtol=0, atol=tolerance * scale)


@pytest.mark.thorough
def test_what_is_asked_at_one_time(precision):
    """Latents, balances, starts, consistent states and stable steps."""
    found = {}
    for first in (0.0, 46_000.0):
        span = (first, first + 1.0)
        law = SeparableField(1, ("k",), span, **SIZES)
        line = Grid.uniform((4,), ((0.0, 1.0),))
        system = System(
            line,
            {
                "c": Field([Diffusion(lambda k: k)], {"x": ipd.NoFlux()}),
                "p": Field([ipd.Reaction(lambda p, k: k - p)], storage=0),
            },
            coefficients={"k": law},
            balances={"mass": {"in": lambda c, t, at=first: c * (t - at)}},
        )
        moving = System(line, {"c": Field(system.equations["c"], {"x": ipd.NoFlux()})},
                        coefficients={"k": law})  # fmt: skip
        state = {name: jnp.ones(4, precision) for name in ("c", "p")}
        states = {name: np.ones((3, 4), precision) for name in ("c", "p")}
        when = first + np.array([0.0, 0.01, 0.02])
        found[first] = [
            system.latents(first + 0.3)["k"],
            consistent(system, state, first + 0.3)[0]["p"],
            stable_dt(moving, {"c": state["c"]}, RungeKutta4(), first + 0.3),
            balances(system, states, when)["mass"].changes["in"],
        ]
    rtol = 1e-5 if precision == np.float32 else 1e-9
    for near, far in zip(*found.values(), strict=True):
        np.testing.assert_allclose(far, near, rtol=rtol)
    assert abs(found[0.0][3][-1]) == pytest.approx(0.02, rel=1e-4)


@pytest.mark.parametrize("origin", [0.0, 46_000.0, 1.1e6, 2_461_373.0, 1.7e9, -3e5])
def test_a_difference_from_a_moment_loses_no_digit(origin):
    """Whatever the single numbers are that cancel in it, compiled or not."""
    draw = np.random.default_rng(0)
    since = jax.jit(lambda instant, moment: instant.since(moment), static_argnums=1)
    for _ in range(30):
        begin = origin + draw.uniform(0, 1e4)
        moment = begin + draw.choice([1e3, 1.0, 1e-3]) * draw.uniform(-1, 1)
        elapsed = np.float32(draw.choice([10.0, 1e-2, 0.0]) * draw.uniform())
        instant = Instant(jnp.asarray(elapsed), jnp.asarray(time_parts(begin), jnp.float32))
        exact = (begin - moment) + float(elapsed)
        slack = 4e-7 * (abs(begin - moment) + elapsed) + 1e-30
        assert float(since(instant, moment)) == pytest.approx(exact, abs=slack)
        assert float(instant.since(moment)) == pytest.approx(exact, abs=slack)


@pytest.mark.thorough
def test_the_parts_of_a_time_add_up_to_it():
    draw = np.random.default_rng(0)
    for time in [0.0, 0.1, -1e30, *draw.uniform(-1, 1, 50) * 10.0 ** draw.integers(-9, 20, 50)]:
        parts = time_parts(float(time))
        assert parts.sum() == time
        np.testing.assert_array_equal(parts, parts.astype(np.float32))


@pytest.mark.parametrize("time", [1e9 / 3, -1.7e9 - 1 / 7, 46_000.1])
def test_a_time_as_one_number_has_all_its_digits(time: float):
    assert float(Instant.of(time, jnp.float64).number) == time
    later = Instant(jnp.asarray(0.25), jnp.asarray(time_parts(time)))
    assert float(later.number) == time + 0.25
    single = Instant.of(time, jnp.float32).number
    assert single.dtype == jnp.float32 and float(single) == np.float32(time)
