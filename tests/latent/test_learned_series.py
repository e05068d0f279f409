"""Numbers that vary in time, learned at knots: between them, with and without a grid, refusals."""

from typing import Any

import equinox as eqx
import jax.numpy as jnp
import numpy as np
import pytest
import runtime_types
from gradients import taylor_rate
from scipy.interpolate import PchipInterpolator

import impindiff as ipd
from impindiff import InputError
from impindiff.coefficients import Instant
from impindiff.latents import LearnedSeries

TIMES = np.array([0.0, 0.5, 1.2, 2.0, 3.0])
VALUES = np.array([1.0, 2.0, 0.5, 0.6, 1.5])
AT = np.linspace(0.0, 3.0, 37)


@pytest.mark.parametrize("bounds", [(-np.inf, np.inf), (0.0, np.inf), (0.0, 4.0)])
def test_it_is_the_series_of_its_values(bounds):
    """Straight as numpy has it, smooth as scipy does."""
    straight = LearnedSeries("q", TIMES, VALUES, bounds)
    smooth = LearnedSeries("q", TIMES, VALUES, bounds, "pchip")
    np.testing.assert_allclose(smooth.values, VALUES, rtol=1e-14)
    for series, exact in (
        (straight, np.interp(AT, TIMES, VALUES)),
        (smooth, PchipInterpolator(TIMES, VALUES)(AT)),
    ):
        found = [float(series.evaluate(None, jnp.asarray(t))) for t in AT]
        np.testing.assert_allclose(found, exact, atol=1e-13)
        assert np.isnan(series.evaluate(None, jnp.asarray(3.1)))
        assert series.time_span == (0.0, 3.0)


def test_single_precision_tells_dates_apart():
    """Seconds since 1970 are 128 apart there."""
    begin = np.datetime64("2026-03-01", "s")
    series = LearnedSeries("q", begin + np.array([0, 60, 120]), [0.0, 1.0, 0.0], dtype=jnp.float32)
    seconds = float(begin.astype(int)) + 30.0
    found = series.evaluate(None, Instant.of(seconds, jnp.float32))
    assert float(found) == pytest.approx(0.5, abs=1e-6) and found.dtype == jnp.float32


def basin(inflow: Any) -> ipd.System:
    r"""$\dot u = q(t) - u/2$."""
    return ipd.System(
        None,
        {"u": ipd.Field([ipd.Source(lambda q: q), ipd.Reaction(lambda u: -u / 2)], initial=1.0)},
        coefficients={"q": inflow},
    )


@pytest.mark.thorough
@pytest.mark.parametrize("method", ["linear", "pchip"])
def test_an_inflow_is_found_by_what_it_fills(method: Any):
    """As many knots as the truth has: exactly; steps end at the knots."""
    when = np.linspace(0.0, 3.0, 31)
    truth = LearnedSeries("inflow", TIMES, VALUES, (0.0, 4.0), method)
    steps = ipd.TimeGrid.build(0.0, when[1:], 0.1)
    stepper = ipd.CrankNicolson()
    exact = ipd.simulate(basin(truth), {"u": jnp.array(1.0)}, steps, stepper).states["u"]
    data = ipd.to_dataset(None, when, {"u": np.concatenate([[1.0], exact])[None]})
    unknown = basin(LearnedSeries("inflow", TIMES, 1.1, (0.0, 4.0), method))
    found = ipd.fit(unknown, data, dt=0.1, stages=[ipd.Stage(ipd.LevenbergMarquardt(), 25)])
    np.testing.assert_allclose(found.coefficients["q"].values, VALUES, rtol=1e-5)
    forecast = ipd.predict(found, data, times=when[[10, 20]], dt=0.1)
    assert forecast["inflow"].dims == ("time",)
    known = [truth.evaluate(None, jnp.asarray(t)) for t in when[[10, 20]]]
    np.testing.assert_allclose(forecast["inflow"], known, rtol=1e-5)
    with pytest.raises(InputError, match=r"has the time span \(0, 3\), .*Give it times from 0"):
        ipd.predict(found, data, times=[3.5], dt=0.1)


@pytest.mark.thorough
def test_the_temperature_of_a_wall_is_found_by_a_sensor_inside():
    """On a grid, as what holds at an end."""
    grid = ipd.Grid.uniform((10,), ((0.0, 1.0),))

    def wall(outside: Any) -> ipd.System:
        ends = {"x": (ipd.Dirichlet(outside), ipd.NoFlux())}
        return ipd.System(grid, {"T": ipd.Field([ipd.Diffusion(0.5)], ends, initial=1.0)})

    knots, values = [0.0, 0.5, 1.0], [1.0, 3.0, 2.0]
    when = np.linspace(0.0, 1.0, 11)
    probe = ipd.Sensors("T", "probe", positions=[[0.3]])
    data = ipd.to_dataset(grid, when, {"T": np.full((1, 11, 10), np.nan)})
    truth = ipd.predict(wall(LearnedSeries("out", knots, values)), data, times=when, dt=0.05)
    data = data.merge(ipd.observations.measure(truth, grid, [probe]).drop_vars("sample"))
    unknown = wall(LearnedSeries("out", knots, [1.0, 1.0, 1.0]))
    stages = [ipd.Stage(ipd.LevenbergMarquardt(), 10)]
    found = ipd.fit(unknown, data, dt=0.05, observe=[probe], stages=stages)
    learned = [float(found.latents(t)["out"].mean()) for t in knots]
    np.testing.assert_allclose(learned[1:], values[1:], rtol=1e-5)


@pytest.mark.thorough
@pytest.mark.parametrize("method", ["linear", "pchip"])
def test_its_gradient_leaves_a_second_order_remainder(method: Any):
    steps = ipd.TimeGrid.build(0.0, [1.0, 3.0], 0.25)

    def loss(values):
        # Unbounded, the learned numbers are the values.
        series = LearnedSeries("inflow", TIMES, VALUES, method=method)
        series = eqx.tree_at(lambda s: s.raw, series, values)
        states = ipd.simulate(basin(series), {"u": jnp.array(1.0)}, steps, ipd.CrankNicolson())
        return jnp.sum(states.states["u"] ** 2)

    assert taylor_rate(loss, jnp.asarray(VALUES), step=1e-3) == pytest.approx(2, abs=0.1)


@pytest.mark.parametrize(
    "arguments, said",
    [
        (([0.0, 1.0, 1.0], 1.0), "times of learned series 'q' must increase .* found 1 after 1"),
        (([0.0], 1.0), "give at least two"),
        (([0.0, 1.0], [1.0, 2.0, 3.0]), "for each of its 2 times"),
        (([0.0, 1.0], 5.0, (0.0, 4.0)), "starts at 5.0, which is not inside its bounds"),
        (([0.0, 1.0], 1.0, (0.0, 4.0), "cubic"), "method='cubic': give 'linear' or 'pchip'"),
    ],
)
def test_what_is_no_series_is_refused(arguments, said: str):
    with runtime_types.without(), pytest.raises(InputError, match=said):
        LearnedSeries("q", *arguments)


def test_a_simulation_beyond_the_knots_is_refused_before_its_first_step():
    """And not by what is not finite in it."""
    system, start = basin(LearnedSeries("inflow", TIMES, 1.0)), {"u": jnp.array(1.0)}
    said = r"inflow has the time span \(0, 3\), but the simulation goes from t = 0 to 4, .* Give it"
    with pytest.raises(InputError, match=said):
        ipd.simulate(system, start, ipd.TimeGrid.build(0.0, [4.0], 0.5), ipd.CrankNicolson())
    with pytest.raises(InputError, match=said):
        ipd.steppers.simulate_controlled(system, start, [0.0, 4.0])
