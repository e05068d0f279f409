"""Given time series as coefficients: between samples, at their ends, for each sample, exact."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import xarray as xr
from gradients import taylor_rates
from scipy.interpolate import PchipInterpolator

import impindiff as ipd
from impindiff import InputError
from impindiff.coefficients import Instant, evaluate_coefficients

RNG = np.random.default_rng(0)
TIMES = np.sort(RNG.uniform(0, 10, 12))
VALUES = np.round(RNG.normal(size=12), 1)


def value(series: ipd.Series, time: float, dtype: Any = jnp.float64, **known: Any) -> Any:
    instant = Instant.of(time, dtype)
    return evaluate_coefficients(series, None, instant, {"t": instant.named} | known)


@pytest.mark.parametrize("count", [2, 3, 12])
def test_smooth_curves_are_those_of_scipy(count: int):
    """Flat stretches, extrema and steep ends among them."""
    times, values = TIMES[:count], VALUES[:count].copy()
    if count == 12:
        values[5] = values[6]
    at = np.linspace(times[0], times[-1], 57)
    found = [float(value(ipd.Series(times, values, "pchip"), t)) for t in at]
    np.testing.assert_allclose(found, PchipInterpolator(times, values)(at), atol=1e-13)


def test_straight_lines_are_those_of_numpy():
    at = np.linspace(TIMES[0], TIMES[-1], 57)
    found = [float(value(ipd.Series(TIMES, VALUES), t)) for t in at]
    np.testing.assert_allclose(found, np.interp(at, TIMES, VALUES), atol=1e-13)


@pytest.mark.parametrize("end", [TIMES[0] - 0.1, TIMES[-1] + 0.1])
def test_beyond_the_series_there_is_no_value(end: float):
    assert np.isnan(value(ipd.Series(TIMES, VALUES), end))


def tank(feed: Any, **options: Any) -> ipd.System:
    """What flows in stays."""
    field = ipd.Field([ipd.Source(feed)], initial=0.0)
    return ipd.System(None, {"u": field}, **options)


def filled(system: ipd.System, times: Any, dt: float) -> np.ndarray:
    grid = ipd.TimeGrid.build(times[0], times[1:], dt)
    start = {"u": jnp.zeros((), jnp.float64)}
    return np.asarray(ipd.simulate(system, start, grid, ipd.CrankNicolson()).states["u"])


def test_a_rollout_sums_up_what_flows_in():
    """The trapezoidal rule is exact for straight lines whose kinks are ends of steps."""
    times, values = np.array([0.0, 1.0, 3.0, 4.0]), np.array([0.0, 2.0, 2.0, -1.0])
    found = filled(tank(ipd.Series(times, values)), times, 0.5)
    np.testing.assert_allclose(found, [1.0, 5.0, 5.5], rtol=1e-12)


def test_dates_are_exact_in_single_precision():
    """Hourly values of a year that began 31 years ago: seconds that float32 knows to 64."""
    hours = np.datetime64("2001-01-01T00", "s") + np.arange(48) * np.timedelta64(3600, "s")
    series = ipd.Series(hours, np.arange(48.0))
    grid = ipd.TimeGrid.build(hours[0], hours[[1, 5]], 60.0)
    system = tank(series)
    start = {"u": jnp.zeros((), jnp.float32)}
    found = ipd.simulate(system, start, grid, ipd.CrankNicolson()).states["u"]
    exact = 3600.0 * np.array([0.5, 12.5])
    np.testing.assert_allclose(found, exact, rtol=1e-4)
    origin = jnp.asarray(grid.origin, jnp.float32)
    instant = Instant(jnp.float32(1801.0), origin, grid.coarse)
    one: Any = evaluate_coefficients(series, None, instant, {"t": instant.named})
    assert float(one) == pytest.approx(1801 / 3600, rel=1e-6)


def test_each_sample_has_a_row_of_its_own():
    rows = np.array([[1.0, 1.0], [2.0, 4.0]])
    series = ipd.Series([0.0, 1.0], rows, row="site")
    system = tank(series, parameters=("site",))

    def run(site: jax.Array) -> jax.Array:
        one = system.with_sample_parameters({"site": site})
        grid = ipd.TimeGrid.build(0.0, [1.0], 0.25)
        start = {"u": jnp.zeros(())}
        return ipd.simulate(one, start, grid, ipd.CrankNicolson()).states["u"][0]

    found = jax.vmap(run)(jnp.array([1.0, 0.0, 1.0]))
    np.testing.assert_allclose(found, [3.0, 1.0, 3.0], rtol=1e-12)
    assert np.isnan(value(series, 0.5, site=2.0)) and np.isnan(value(series, 0.5, site=0.4))
    data = xr.Dataset(
        {"u": (("sample", "time"), [[0.0, 1.0], [0.0, 3.0]]), "site": ("sample", [0.0, 1.0])},
        {"time": [0.0, 1.0]},
    )
    forecast = ipd.predict(system, data, times=[1.0], dt=0.25)
    np.testing.assert_allclose(forecast["u"].values[:, -1], [1.0, 3.0], rtol=1e-6)


@pytest.mark.thorough
@pytest.mark.parametrize("method", ["linear", "pchip"])
def test_it_stands_in_conditions_and_coefficients_and_is_differentiable(method: Any):
    times = np.array([0.0, 0.3, 0.5, 1.0])
    grid = ipd.TimeGrid.build(0.0, [0.5, 1.0], 0.1)

    def loss(parts: dict) -> Any:
        end = ipd.Series(times, parts["end"], method)
        k = ipd.Series(times, 1 + parts["k"] ** 2, method)
        source = ipd.Reaction(lambda T, rain: rain - T**2, rain=parts["rain"])
        rod = ipd.System(
            ipd.Grid([ipd.Axis("x", 0.0, 1.0, 6)]),
            {"T": ipd.Field([ipd.Diffusion(lambda k: k), source], {"x": ipd.Dirichlet(end)})},
            coefficients={"k": k},
        )
        states = ipd.simulate(rod, {"T": jnp.zeros(6)}, grid, ipd.CrankNicolson()).states
        return jnp.sum(states["T"] ** 3)

    parts = {name: jnp.asarray(RNG.uniform(0.5, 1.5, 4)) for name in ("end", "k")}
    rates = taylor_rates(loss, parts | {"rain": jnp.asarray(0.4)}, step=1e-3)
    assert all(rate >= 1.9 for rate in rates.values()), rates


class TestWrongInput:
    @pytest.mark.parametrize(
        "arguments, message",
        [
            (([0.0, 1.0], [1.0]), r"the values of Series have the shape \(1,\)"),
            (([0.0, 1.0], [[1.0, 2.0]]), "row='...' names the sample parameter"),
            (([0.0, 0.0, 1.0], [1.0, 2.0, 3.0]), "found 0 after 0, at position 1"),
            (([0.0], [1.0]), "at least two in a row"),
            (([0.0, np.nan], [1.0, 2.0]), "all finite"),
            (([0.0, 1.0], ["a", "b"]), "no numbers"),
            (([0.0, 1.0], [1.0, 2.0], "cubic"), "give 'linear' or 'pchip'"),
        ],
    )
    def test_it_is_refused(self, arguments: Any, message: str):
        with pytest.raises(InputError, match=message):
            ipd.Series(*arguments)

    def test_gaps_are_named(self):
        values = np.ones(9)
        values[[1, 2, 4, 5, 6, 7]] = np.nan
        with pytest.raises(InputError, match="gaps, NaN or infinite at t = 1, 2, 4, 5, 6 and 1 mo"):
            ipd.Series(np.arange(9.0), values)

    @pytest.mark.parametrize("method", ["simulate", "jit", "steady"])
    def test_forcing_that_ends_before_the_run_is_refused_before_it(self, method: str):
        series = ipd.Series([0.0, 1.0], [1.0, 1.0])
        start = {"u": jnp.zeros(())}
        grid = ipd.TimeGrid.build(0.0, [0.5, 1.5], 0.25)

        def run() -> Any:
            if method == "steady":
                decay = ipd.Reaction(lambda u, feed: feed - u, feed=series)
                return ipd.steady(ipd.System(None, {"u": [decay]}), start, time=1.5)
            return ipd.simulate(tank(series), start, grid, ipd.CrankNicolson())

        with pytest.raises(InputError, match="from t = 0 to 1, but the simulation goes"):
            (jax.jit(run) if method == "jit" else run)()
