"""What was written selects exactly what it says, or nothing."""

import numpy as np
import pytest
import xarray as xr

from impindiff._errors import InputError
from impindiff.data import (
    check_observed,
    initial_fields,
    open_dataset,
    readings,
    select_samples,
    select_times,
    start_of,
    to_dataset,
)
from impindiff.forecast import evaluate

NAME = "concentration"


@pytest.mark.parametrize(
    "text, positions",
    [
        ("0:5", [0, 1, 2, 3, 4]),
        ("5:10", [5, 6, 7, 8, 9]),
        ("8:", [8, 9]),
        (":2", [0, 1]),
        (":", list(range(10))),
        ("7", [7]),
        ("0,2,4:6", [0, 2, 4, 5]),
        (" 9 , 1:3 ", [9, 1, 2]),
        ([3, 1], [3, 1]),
        (range(2), [0, 1]),
        ((np.int64(4),), [4]),
    ],
)
def test_samples_by_position(dataset: xr.Dataset, text, positions: list[int]):
    relabelled = dataset.assign_coords(sample=np.arange(10) + 100)
    for data in (dataset, relabelled, dataset.drop_vars("sample")):
        found = select_samples(data, text)
        assert found == positions
        assert all(type(position) is int for position in found)


@pytest.mark.parametrize(
    "text, said",
    [
        ("", "select nothing; the data has 10 samples, 0 to 9"),
        ([], "select nothing"),
        ("5:5", "select nothing"),
        ("7:3", "select nothing"),
        ("10", "10 lies outside: the data has 10 samples, 0 to 9"),
        ("5:11", "5:11 lies outside"),
        ("12:", "select nothing"),
        ("0:99999999999", "lies outside"),
        ("-1", "-1 lies outside"),
        ([0, -1], "-1 lies outside"),
        ([0, 10], "10 lies outside"),
        ("-3:", "cannot read '-3:' as a position or a range"),
        ("0:10:2", "cannot read '0:10:2'"),
        ("0-5", "cannot read '0-5'"),
        ("0,,2", "cannot read ''"),
        ("all", "cannot read 'all'"),
        ([True, False], "cannot read 'True'"),
        ("0:5,4", "4 is selected more than once"),
        ([1, 1], "1 is selected more than once"),
    ],
)
def test_samples_that_are_not_there_are_refused(dataset: xr.Dataset, text, said: str):
    dataset.encoding["source"] = "data.nc"
    with pytest.raises(InputError) as caught:
        select_samples(dataset, text)
    assert str(caught.value).startswith(f"data.nc: samples {text!r}")
    assert said in str(caught.value)


def test_names_of_samples_that_lie_elsewhere_are_refused(dataset: xr.Dataset):
    other = dataset.drop_vars("sample", errors="ignore").assign(sample=("q", [1.0, 2.0]))
    with pytest.raises(InputError, match=r"'sample' has the dimensions \('q'\)"):
        select_samples(other, ":")


def test_a_dataset_without_samples_says_so(dataset: xr.Dataset):
    with pytest.raises(InputError, match="no dimension 'sample'"):
        select_samples(dataset.isel(sample=0), "0")


@pytest.mark.parametrize("precision", [np.float32, np.float64])
def test_times_match_within_round_off(dataset: xr.Dataset, precision):
    dataset = dataset.assign_coords(time=dataset["time"].values.astype(precision))
    assert select_times(dataset, [0.0, 0.05, 0.15, 0.2]) == [0, 1, 3, 4]
    assert select_times(dataset, 0.1 + 0.05) == [3]
    assert select_times(dataset, np.array([0.1, 0.2], np.float32)) == [2, 4]


@pytest.mark.parametrize(
    "first, hour, off",
    [(1_709_251_200.0, 3600.0, 200.0), (2_460_000.5, 1 / 24, 0.004)],
    ids=["seconds since 1970", "Julian days"],
)
def test_minutes_far_from_zero_are_no_round_off(first: float, hour: float, off: float):
    """They would be in float32, which these times are not."""
    clock = first + hour * np.arange(5)
    decay = {"c": np.exp(-np.arange(5.0))[None]}
    data = to_dataset(None, clock, decay)
    for exact in (clock[2], float(f"{clock[2]:.12g}")):
        assert select_times(data, exact) == [2]
        assert start_of(data, exact)[0] == 2
    for at in (start_of, select_times):
        with pytest.raises(InputError, match="is not in the data; the nearest are"):
            at(data, clock[2] + off)
    with pytest.raises(InputError, match="share no time to be compared at"):
        evaluate(to_dataset(None, clock + off, decay), data)


def test_times_of_public_data_match(public_file):
    dataset = open_dataset(public_file)
    asked = [float(f"{time:.6g}") for time in dataset["time"].values]
    assert select_times(dataset, asked) == list(range(len(asked)))


@pytest.mark.parametrize(
    "times, said",
    [
        ([], "no times were given; the data has 5 times from 0 to 0.2"),
        ([0.25], "time 0.25 lies outside the data; the data has 5 times from 0 to 0.2"),
        ([-0.05, 0], "time -0.05 lies outside the data"),
        ([0.05, 0.12], "time 0.12 is not in the data; the nearest are 0.1 and 0.15"),
        ([0.0501], "time 0.0501 is not in the data; the nearest are 0.05 and 0.1"),
        ([0.1, 0.05], "times must increase, without repetition; found 0.05 after 0.1"),
        ([0.1, 0.1], "found 0.1 after 0.1"),
        ([0.1, 0.10000001], "two of the times fall on 0.1"),
        ([0.1, np.nan], "must be finite"),
    ],
)
def test_times_that_are_not_there_are_refused(dataset: xr.Dataset, times, said: str):
    dataset.encoding["source"] = "data.nc"
    with pytest.raises(InputError) as caught:
        select_times(dataset, times)
    assert str(caught.value).startswith("data.nc: ")
    assert said in str(caught.value)


def test_a_single_time_can_be_selected(dataset: xr.Dataset):
    assert select_times(dataset.isel(time=[2]), [0.1]) == [0]
    with pytest.raises(InputError, match="from 0.1 to 0.1"):
        select_times(dataset.isel(time=[2]), [0.2])


def test_tolerance_does_not_grow_with_the_last_time(dataset: xr.Dataset):
    """A long record must not blur its fine beginning."""
    dataset = dataset.assign_coords(time=[0, 1e-3, 2e-3, 3e-3, 1e6])
    assert select_times(dataset, [1e-3]) == [1]
    with pytest.raises(InputError, match="time 0.0015 is not in the data"):
        select_times(dataset, [1.5e-3])


def test_arrays_are_what_was_selected(dataset: xr.Dataset):
    values = dataset[NAME].values.copy()
    start = initial_fields(dataset, NAME, [4, 2])
    later = readings(dataset, NAME, [4, 2, 0], [1, 4])
    np.testing.assert_array_equal(start, values[[4, 2], 0])
    np.testing.assert_array_equal(later, values[[4, 2, 0]][:, [1, 4]])
    assert start.dtype == later.dtype == np.float32
    start[:], later[:] = 0, 0
    np.testing.assert_array_equal(dataset[NAME], values)


def test_an_initial_field_is_known_everywhere(dataset: xr.Dataset):
    dataset[NAME][3, 0, :2, 0] = np.nan
    dataset[NAME][5, 0, 1, 1] = np.inf
    initial_fields(dataset, NAME, [0, 1, 2, 4])
    with pytest.raises(InputError) as caught:
        initial_fields(dataset, NAME, [2, 3, 5])
    assert "'concentration' at time 0, where simulations start, must be known" in str(caught.value)
    assert "in sample 3 (2 cells), 5 (1 cells), of 24 cells each" in str(caught.value)


def test_readings_may_have_gaps_but_not_be_one(dataset: xr.Dataset):
    def check(samples: list[int], times: list[int], *others: str) -> np.ndarray:
        found = {name: readings(dataset, name, samples, times) for name in (NAME, *others)}
        check_observed(dataset, found, samples, times)
        return found[NAME]

    dataset[NAME][1, 2] = np.nan
    assert np.isnan(check([0, 1], [2, 3])[1, 0]).all()
    with pytest.raises(InputError, match="everywhere in sample 1 at the selected times"):
        check([0, 1], [2])
    dataset["well"] = dataset[NAME][..., 0, 0].fillna(1.0)
    check([0, 1], [2], "well")
    dataset[NAME][:, 3] = np.nan
    with pytest.raises(InputError, match="everywhere in the selected samples at time 0.15"):
        check([0, 2], [2, 3])
    with pytest.raises(InputError, match="'concentration' is NaN .* everywhere in the selected"):
        check([0, 2], [3], "well")


def test_readings_have_samples_and_times(dataset: xr.Dataset):
    dataset["well"] = dataset[NAME][0, :, 0, 0]
    with pytest.raises(InputError, match=r"'well' has the dimensions \('time'\), but"):
        readings(dataset, "well", [0], [1])
    dataset[NAME][0, 1, 0, 0] = np.inf
    with pytest.raises(InputError, match="'concentration' has 1 value.*that are infinite"):
        readings(dataset, NAME, [0], [1])


@pytest.mark.parametrize("take", [initial_fields, lambda d, f, s: readings(d, f, s, [0])])
def test_a_missing_field_is_named(dataset: xr.Dataset, take):
    with pytest.raises(InputError, match="no variable 'concentratio'.*mean 'concentration'"):
        take(dataset, "concentratio", [0])


@pytest.mark.parametrize("start, position", [("first", 0), ("last", 4), (0.1, 2), (0.15, 3)])
def test_a_forecast_begins_at_a_time_of_the_data(dataset: xr.Dataset, start, position: int):
    times = dataset["time"].values
    assert len(times) == 5
    assert start_of(dataset, start) == (position, pytest.approx(times[position], abs=1e-6))
