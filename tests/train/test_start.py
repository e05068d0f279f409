"""When simulations begin: at the time at which initial values of the system hold."""

from typing import Any

import jax.numpy as jnp
import numpy as np
import pytest
import runtime_types
import xarray as xr

import impindiff as ipd
from impindiff._errors import InputError
from impindiff.train import Observations

RATE = 2.0
LATE = [0.5, 1.0]
HOW: Any = {
    "samples": ":",
    "dt": 0.05,
    "options": ipd.FitOptions(stepper=ipd.steppers.RungeKutta4()),
}
FIT: Any = HOW | {"stages": [ipd.Stage(ipd.LevenbergMarquardt(), 8)]}


def decay(rate: Any, initial: Any = 1.0) -> ipd.System:
    """The value 1 at t = 0, as the system says."""
    field = ipd.Field([ipd.Reaction(lambda c, k: -k * c)], initial=initial)
    return ipd.System(None, {"c": field}, coefficients={"k": rate})


def unknown(initial: Any = 1.0) -> ipd.System:
    return decay(ipd.Parameter("k", 1.0, (0.0, jnp.inf)), initial)


def measured(times=LATE) -> xr.Dataset:
    """The exact solution, from elsewhere: nothing says when it began."""
    return ipd.to_dataset(None, times, {"c": np.exp(-RATE * np.asarray(times))[None]})


def rate(system: ipd.System) -> float:
    return float(system.latents()["k"])


def test_data_that_begin_later_are_refused_with_both_ways_out():
    said = r"of 'c', Field\(..., initial=...\), and the data begin at t = 0.5: .*start=0"
    for call in (
        lambda: ipd.fit(unknown(), measured(), **FIT),
        lambda: ipd.plan(unknown(), measured(), samples=":", dt=0.05, calibrate=False),
        lambda: ipd.predict(decay(RATE), measured(), times=[1.0], dt=0.05),
    ):
        with pytest.raises(InputError, match=said):
            call()


@pytest.mark.thorough
def test_the_start_is_where_the_initial_values_hold():
    found = ipd.fit(unknown(), measured(), start=0.0, **FIT)
    assert rate(found) == pytest.approx(RATE, rel=1e-5)
    how: Any = {"dt": 0.05, "stepper": ipd.steppers.RungeKutta4()}
    forecast = ipd.predict(found, measured(), times=LATE, start=0, **how)
    np.testing.assert_allclose(forecast["c"][0], np.exp(-RATE * np.array(LATE)), rtol=1e-4)
    # As asked for: 1 at t = 0.5, exp(-2) at t = 1.
    for first in (0.5, "first"):
        assert rate(ipd.fit(unknown(), measured(), start=first, **FIT)) == pytest.approx(
            4, rel=1e-4
        )


def test_data_from_zero_on_need_no_start():
    assert rate(ipd.fit(unknown(), measured([0.0, 0.5, 1.0]), **FIT)) == pytest.approx(2, rel=1e-5)
    made = Observations.of(unknown(), measured([0.0, 0.5, 1.0]), ":")
    assert (made.start, made.times) == (0.0, (0.5, 1.0))


@pytest.mark.thorough
def test_a_forecast_carries_its_start():
    start = xr.Dataset(coords={"sample": [0], "time": [0.0]})
    data = ipd.predict(decay(RATE), start, times=LATE, dt=0.01)
    assert data["time"].values.tolist() == LATE and data.attrs["begun"] == 0.0
    assert rate(ipd.fit(unknown(), data, **FIT)) == pytest.approx(RATE, rel=1e-3)
    read = ipd.observations.measure(
        data, None, [ipd.observations.Measured(lambda c: 3 * c, "signal")]
    )
    observe = [ipd.observations.Measured(lambda c: 3 * c, "signal")]
    found = ipd.fit(unknown(), read, observe=observe, **FIT)
    assert rate(found) == pytest.approx(RATE, rel=1e-3)
    # From readings alone it is the system that says where a forecast begins.
    again = ipd.predict(found, read, times=LATE, dt=0.01)
    np.testing.assert_allclose(again["c"], data["c"], rtol=1e-3)


@pytest.mark.thorough
def test_a_forecast_is_gone_on_with_from_its_own_states():
    start = xr.Dataset(coords={"sample": [0], "time": [0.0]})
    data = ipd.predict(decay(RATE), start, times=LATE, dt=0.01)
    further = ipd.predict(decay(0.0), data, times=[1.0], dt=0.5)
    np.testing.assert_allclose(further["c"][0, -1], data["c"][0, 0])


def test_values_that_are_a_function_of_time_hold_whenever_data_begin():
    moving = unknown(lambda t: jnp.exp(-RATE * t))
    assert rate(ipd.fit(moving, measured(), **FIT)) == pytest.approx(RATE, rel=1e-4)


def test_fields_of_the_data_begin_as_ever():
    """At the first of their times, or at another of them."""
    system = ipd.System(None, {"c": unknown().equations["c"]}, coefficients=unknown().coefficients)
    times = [0.5, 1.0, 1.5]
    made = Observations.of(system, measured(times), ":")
    assert (made.start, made.times) == (0.5, (1.0, 1.5))
    made = Observations.of(system, measured(times), ":", start=1.0)
    assert (made.start, made.times) == (1.0, (1.5,))
    assert float(made.initial["c"][0]) == pytest.approx(np.exp(-2.0), rel=1e-6)
    with pytest.raises(InputError, match="time 0.7 is not in the data"):
        Observations.of(system, measured(times), ":", start=0.7)


def test_simulations_begin_at_one_time():
    """The system gives one field at t = 0, the data another at t = 0.5."""
    both = ipd.System(
        None,
        {
            "c": [ipd.Reaction(lambda c, k: -k * c)],
            "d": ipd.Field([ipd.Reaction(lambda c, d: c - d)], initial=0.0),
        },
        coefficients={"k": ipd.Parameter("k", 1.0, (0.0, 9.0))},
    )
    with pytest.raises(InputError, match="hold at t = 0, but those of 'c' are taken from the data"):
        Observations.of(both, measured(), ":", start=0.0)
    assert Observations.of(both, measured(), ":", start=0.5).start == 0.5


@pytest.mark.parametrize(
    "start, said",
    [
        (1.0, "start is 1, when the initial values of the system hold, but the data begin earlier"),
        (np.inf, "it must be a finite time"),
        ("middle", "found 'middle'"),
    ],
)
def test_a_start_that_cannot_be_is_refused(start, said: str):
    with pytest.raises(InputError, match=said):
        Observations.of(unknown(), measured(), ":", start=start)


def test_times_before_the_start_are_not_trained_on():
    with pytest.raises(InputError, match="training time 0.5 lies before the start, 0.7"):
        Observations.of(unknown(), measured([0.5, 1.0]).isel(time=[0, 1]), ":", [0.5], start=0.7)


def test_a_start_between_times_drops_none_unasked():
    """The reading at 0.5 would be left out without a word."""
    with pytest.raises(InputError, match=r"start is 0.7, .* but the data begin earlier, at 0.5"):
        Observations.of(unknown(), measured(), ":", start=0.7)
    assert Observations.of(unknown(), measured(), ":", [1.0], start=0.7).times == (1.0,)


@pytest.mark.thorough
def test_a_start_may_be_a_date():
    noon = np.datetime64("2024-03-01T12:00", "ns")
    data = measured().assign_coords(time=noon + np.array([500, 1000]) * np.timedelta64(1, "ms"))
    assert rate(ipd.fit(unknown(), data, start=noon, **FIT)) == pytest.approx(RATE, rel=1e-4)
    found = ipd.predict(decay(RATE), data, times=data["time"].values, dt=0.01, start=noon)
    np.testing.assert_allclose(found["c"].values[0], np.exp(-RATE * np.array(LATE)), rtol=1e-3)
    with pytest.raises(InputError, match="start=1709294400.5 if they hold at the data's first"):
        Observations.of(unknown(), data, ":")
    several: Any = [noon, noon]
    with runtime_types.without(), pytest.raises(InputError, match="a number or a date"):
        Observations.of(unknown(), data, ":", start=several)


@pytest.mark.parametrize("stepper", [ipd.steppers.SDIRK2, "sdirk"])
def test_a_stepper_that_is_none_is_refused(stepper: Any):
    with runtime_types.without(), pytest.raises(InputError, match="the stepper is"):
        ipd.fit(unknown(), measured(), **(FIT | {"options": ipd.FitOptions(stepper=stepper)}))
    with runtime_types.without(), pytest.raises(InputError, match="the stepper is"):
        ipd.predict(decay(RATE), measured(), times=[1.0], dt=0.1, start=0.0, stepper=stepper)


def test_data_without_times_are_refused():
    with pytest.raises(InputError, match="'time' is one number and no dimension"):
        Observations.of(unknown(), measured().isel(time=0), ":")


def test_a_function_of_what_was_measured_that_fails_is_named():
    data = measured([0.0, 1.0])
    seen = [ipd.observations.Measured(lambda c: {}["k"], "c")]
    with pytest.raises(InputError, match=r"function <lambda>\(c\) of what was .*KeyError: 'k'"):
        Observations.of(unknown(), data, ":", observe=seen)
