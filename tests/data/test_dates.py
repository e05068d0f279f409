"""Data whose times are dates: computed with as seconds since 1970, forecasts have dates again."""

import datetime
from typing import Any

import jax.numpy as jnp
import numpy as np
import pytest
import runtime_types
import xarray as xr

import impindiff as ipd
from impindiff._dates import as_dates, as_seconds, holds_dates
from impindiff._errors import InputError
from impindiff.data import check_dataset, select_times, time_slack, times_of

HOURS = np.datetime64("2026-11-28T06:00", "ns") + np.arange(25) * np.timedelta64(1, "h")


def pond(first: float = 0.0, span: tuple[Any, Any] | None = None) -> ipd.System:
    """Warmth in a pond, driven by what comes with the hours."""
    terms = [ipd.Reaction(lambda T, t: (jnp.sin((t - first) / 7200) - T) / 5000)]
    rate = 1.0 if span is None else ipd.latents.SpectralField(1, ("k",), 0, span, degree=2)
    grid = ipd.Grid.uniform((3,), ((0.0, 1.0),))
    return ipd.System(grid, {"T": [*terms, ipd.Source(lambda k: 1e-4 * k)]},
                      coefficients={"k": rate})  # fmt: skip


def weather(times: Any) -> xr.Dataset:
    start = np.full((1, len(times), 3), np.nan, np.float32)
    start[:, 0] = [0.1, 0.5, 0.9]
    names = ("sample", "time", "x")
    x = (np.arange(3) + 0.5) / 3
    attrs = {"boundary": "not periodic"}
    given = xr.Dataset({"T": (names, start)}, {"sample": [0], "time": times, "x": x}, attrs)
    return given.drop_attrs()


def test_dates_are_seconds_since_1970_to_the_microsecond():
    known = {"1970-01-01": 0, "2001-09-09T01:46:40": 10**9, "1969-12-31T23:59:59.5": -0.5}
    for text, seconds in known.items():
        assert as_seconds(np.datetime64(text)) == seconds
    fine = np.datetime64("2026-11-28T06:00:00.123457", "us") + np.arange(50)
    np.testing.assert_array_equal(as_dates(as_seconds(fine)), fine)
    assert np.isnan(as_seconds(np.array(["2026-01-01", "NaT"], "datetime64[s]"))[1])


@pytest.mark.parametrize(
    "times", [HOURS[:2], list(HOURS[:2]), [datetime.datetime(2026, 11, 28, k) for k in (6, 7)]]
)
def test_dates_of_every_library_are_known(times):
    assert holds_dates(times)
    np.testing.assert_array_equal(as_seconds(times), as_seconds(HOURS[:2]))
    assert not holds_dates([1.0, 2.0])


@pytest.mark.parametrize("times", [["noon"], [np.timedelta64(1, "h")]])
def test_what_is_neither_date_nor_number_is_refused(times):
    with pytest.raises(InputError, match="times must be numbers or dates"):
        as_seconds(times)


@pytest.mark.thorough
def test_a_forecast_of_dates_is_that_of_hours_since_the_start(tmp_path):
    seconds = 3600.0 * np.arange(25)
    exact = ipd.predict(pond(), weather(seconds), times=seconds, dt=600.0)
    begin = float(as_seconds(HOURS[0]))
    data = weather(HOURS)
    for asked in (HOURS, as_seconds(HOURS)):
        found = ipd.predict(pond(begin), data, times=asked, dt=600.0)
        np.testing.assert_array_equal(found["time"], HOURS)
        np.testing.assert_allclose(found["T"], exact["T"], rtol=1e-6)
    later = ipd.predict(pond(begin), found, times=HOURS[5:], dt=600.0, start=HOURS[4])
    np.testing.assert_allclose(later["T"], exact["T"][:, 5:], rtol=2e-6)
    ipd.save_dataset(found, path := tmp_path / "found.nc")
    np.testing.assert_array_equal(xr.open_dataset(path)["time"], HOURS)
    np.testing.assert_array_equal(ipd.open_dataset(path)["time"], as_seconds(HOURS))
    scores = ipd.evaluate(found, found, ":").fields["T"]
    assert len(scores.time) == 25 and max(scores.relative_l1_percent) == 0
    ipd.forecast_to(store := tmp_path / "found.zarr", pond(begin), data, times=HOURS[:9], dt=600.0)
    ipd.continue_forecast(store, pond(begin), times=HOURS, dt=600.0)
    opened = xr.open_zarr(store)
    np.testing.assert_array_equal(opened["time"], HOURS)
    np.testing.assert_allclose(opened["T"], exact["T"], rtol=2e-6)


@pytest.mark.thorough
def test_fields_that_vary_in_time_have_spans_of_dates():
    law = ipd.latents.SpectralField(1, ("k",), 0, (HOURS[0], HOURS[-1]), degree=2)
    assert law.span is not None
    assert (law.span.first, law.span.last) == tuple(as_seconds(HOURS[[0, -1]]))
    ipd.predict(pond(0.0 + float(as_seconds(HOURS[0])), (HOURS[0], HOURS[-1])), weather(HOURS),
                times=HOURS[:3], dt=600.0)  # fmt: skip


@pytest.mark.thorough
def test_training_on_dates_ends_where_training_on_seconds_does():
    """The rate at which a pond cools, from its temperatures every hour."""

    def found(times: Any) -> float:
        rate = ipd.Parameter("k", 2.0, (0.1, 10.0))
        terms = [ipd.Reaction(lambda T, k: -1e-4 * k * T)]
        system = ipd.System(None, {"T": terms}, coefficients={"k": rate})
        values = np.exp(-5e-4 * 3600 * np.arange(7)).astype(np.float32)
        data = xr.Dataset({"T": (("sample", "time"), values[None])}, {"sample": [0], "time": times})
        options = ipd.FitOptions(stepper=ipd.steppers.SDIRK2())
        stages = [ipd.Stage(ipd.LevenbergMarquardt(), 15)]
        fitted = ipd.fit(system, data, dt=600.0, stages=stages, options=options)
        return float(fitted.latents()["k"])

    by_seconds = found(3600.0 * np.arange(7))
    assert by_seconds == pytest.approx(5.0, rel=0.02)
    assert found(HOURS[:7]) == pytest.approx(by_seconds, rel=1e-5)


def test_times_are_selected_by_date():
    data = weather(HOURS)
    check_dataset(data, fields=["T"])
    assert select_times(data, HOURS[[2, 5]]) == [2, 5]
    np.testing.assert_array_equal(times_of(data), as_seconds(HOURS))
    with pytest.raises(InputError, match="is not in the data"):
        select_times(data, [HOURS[2] + np.timedelta64(20, "m")])


@pytest.mark.parametrize("first", [0.0, 46_000.0, 2_461_373.0])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_another_time_than_those_of_the_data_is_never_taken_for_one(first, dtype):
    exact = first + np.arange(25) / 24
    data = weather(exact.astype(dtype).astype(np.float64))
    if dtype == np.float32 and first > 1e6:
        return  # whose hours it does not know
    assert select_times(data, exact[[3, 7]]) == [3, 7]
    assert time_slack(times_of(data)) < 0.1 / 24
    with runtime_types.without(), pytest.raises(InputError, match="is not in the data"):
        select_times(data, [exact[3] + 0.25 / 24])


@pytest.mark.parametrize("time", [46_000.03125, 2_461_373.25, 0.25, 3.0, 1.7e9])
def test_a_single_time_of_few_digits_is_what_it_is(time):
    assert times_of(weather([time]))[0] == time


def test_a_single_time_that_went_through_float32_is_tidied():
    assert times_of(weather([float(np.float32(0.05))]))[0] == 0.05
