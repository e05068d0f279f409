"""No controlled step passes over a pulse that a given series has, however short it is.

A store that drains, u' = -u + r, under rain that is linear between samples: a span of width w, in
which the rain goes from a to b, adds a G(w) + (b - a) H(w) to e^-w of what there was, with
G(w) = 1 - e^-w and H(w) = 1 - G(w)/w.
"""

from itertools import pairwise
from typing import Any

import jax.numpy as jnp
import numpy as np
import pytest

import impindiff as ipd
from impindiff.latents import LearnedSeries
from impindiff.steppers import simulate_controlled

KNOTS = np.array([0, 1, 3.3, 3.3001, 3.3002, 7, 10])
RAIN = np.array([0, 0, 0, 1e4, 0, 0, 0.0])
DAY = np.datetime64("2024-01-01", "ns")


def stored(knots: np.ndarray, rain: np.ndarray) -> float:
    """What is in the store at the last knot, see above; expm1 where widths are small."""
    u = 0.0
    for (begin, end), (a, b) in zip(pairwise(knots), pairwise(rain), strict=True):
        w = end - begin
        gained = -np.expm1(-w)
        u = u * np.exp(-w) + a * gained + (b - a) * (1 - gained / w)
    return u


def store(rain: Any, rate: float = 1.0, **more: Any) -> ipd.System:
    return ipd.System(None, {"u": [ipd.Reaction(lambda u: -rate * u), ipd.Source(rain)]}, **more)


def last(system: ipd.System, times: Any = (0.0, 10.0), dtype: Any = jnp.float64) -> float:
    found = simulate_controlled(system, {"u": jnp.zeros((), dtype)}, times)
    return float(found.states["u"][-1])


@pytest.mark.thorough
@pytest.mark.parametrize("dtype", [jnp.float32, jnp.float64])
@pytest.mark.parametrize("is_dated", [False, True])
def test_a_spike_of_a_series(dtype, is_dated: bool):
    """From zero and as dates, whose unit is a second: of them doubles know 2e-7."""
    # In single precision ten times as wide: its clock has to resolve steps within the spike.
    wide = 10.0 if dtype == jnp.float32 else 1.0
    knots = np.where((KNOTS > 3.3) & (KNOTS < 4), 3.3 + (KNOTS - 3.3) * wide, KNOTS)
    expected = stored(knots, RAIN / wide)
    # All of its content, 1, falls at its middle: to the square of its width.
    assert expected == pytest.approx(np.exp(-(10 - knots[3])), rel=1e-5)
    unit = 1e4 if is_dated else 1.0
    times = DAY + (knots * unit * 1e9).round().astype("timedelta64[ns]") if is_dated else knots
    found = last(store(ipd.Series(times, RAIN / wide / unit), 1 / unit), times[[0, -1]], dtype)
    # Ten times and more what is asked for, 1e-6 and 1e-4: kinks lie inside of steps.
    assert found == pytest.approx(expected, rel=1e-2 if dtype == jnp.float32 else 2e-3)


def _named() -> ipd.System:
    return store(lambda rain: 2 * rain, coefficients={"rain": ipd.Series(KNOTS, RAIN / 2)})


def _in_a_function() -> ipd.System:
    return ipd.System(None, {"u": [ipd.Reaction(lambda u, r: r - u, r=ipd.Series(KNOTS, RAIN))]})


def _learned() -> ipd.System:
    return store(LearnedSeries("rain", KNOTS, RAIN))


@pytest.mark.thorough
@pytest.mark.parametrize("make", [_named, _in_a_function, _learned])
def test_wherever_the_series_stands(make):
    assert last(make()) == pytest.approx(stored(KNOTS, RAIN), rel=2e-3)


@pytest.mark.thorough
def test_a_dip_of_a_series():
    """Least, not greatest."""
    assert last(store(ipd.Series(KNOTS, -RAIN))) == pytest.approx(-stored(KNOTS, RAIN), rel=2e-3)


@pytest.mark.thorough
def test_each_sample_has_its_own_row():
    """Samples share their steps: one that is dry all the time must not hide the other."""
    import xarray as xr

    rows = np.stack([np.zeros_like(RAIN), RAIN])
    system = store(ipd.Series(KNOTS, rows, row="site"), parameters=["site"])
    data = xr.Dataset(
        {"u": (("sample", "time"), np.zeros((2, 1))), "site": ("sample", [0.0, 1.0])},
        {"time": [0.0]},
    )
    found = ipd.predict(system, data, times=[0.0, 10.0])["u"].values[:, -1]
    np.testing.assert_allclose(found, [0.0, stored(KNOTS, RAIN)], rtol=2e-3)


@pytest.mark.thorough
def test_in_a_condition():
    """One cell of width 1 behind a resistance: what enters is the rain, what leaves is u."""
    grid = ipd.Grid([ipd.Axis("x", 0.0, 1.0, 4)])
    ends = {"x": (ipd.Dirichlet(ipd.Series(KNOTS, RAIN)), ipd.Neumann(0.0))}
    system = ipd.System(grid, {"u": ipd.Field([ipd.Diffusion(1.0)], ends)})
    found = simulate_controlled(system, {"u": jnp.zeros(4)}, [0.0, 4.0]).states["u"][-1]
    # The scheme is u' = A u + b r: a pulse of content 1 leaves exp(A t) b, to 1e-4 of its length.
    h = 0.25
    matrix = (np.diag([-3, -2, -2, -1.0]) + np.eye(4, k=1) + np.eye(4, k=-1)) / h**2
    rates, modes = np.linalg.eigh(matrix)
    pulse = modes @ (np.exp(rates * (4.0 - 3.3001)) * modes[0] * 2 / h**2)
    np.testing.assert_allclose(found, pulse, rtol=5e-3)


@pytest.mark.thorough
def test_two_hours_of_rain_in_a_year():
    """Hourly samples, dates, nothing named: the right answer is that of the exact recursion."""
    hours = np.arange(365 * 24 + 1)
    rain = np.zeros(len(hours))
    rain[4807:4809] = 1.0
    scale = 1 / 240
    drain, source = ipd.Reaction(lambda u: -u / 864000), ipd.Source(ipd.Series(hours * 3600, rain))
    times = np.array([0, 100, 210, 365]) * 86400.0
    found = simulate_controlled(
        ipd.System(None, {"u": [drain, source]}), {"u": jnp.zeros(())}, times
    ).states["u"]
    # Content 7200 at most: a thousandth of it is what is asked for by default.
    ends = [stored(hours[: day * 24 + 1] * scale, rain[: day * 24 + 1]) for day in (210, 365)]
    np.testing.assert_allclose(found[2:], np.array(ends) * 864000, atol=7.2)
