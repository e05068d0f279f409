"""Errors of a forecast: by hand on small numbers, and only where there is something to compare."""

import numpy as np
import pytest
import xarray as xr
from small_problem import make_dataset

from impindiff import InputError, Sensors, evaluate, grid_of
from impindiff.forecast import Seen
from impindiff.grid import Grid
from impindiff.observe import AbstractObservation, VolumeAverage


@pytest.fixture
def truth() -> xr.Dataset:
    return make_dataset()


def test_errors_are_relative_norms_averaged_over_samples(truth: xr.Dataset):
    forecast = truth.isel(sample=[1, 2]).copy(deep=True)
    values = truth["concentration"].values[[1, 2]].astype(np.float64)
    error = np.zeros_like(values)
    error[0, 1, 0, 0], error[1, 1, 0, 0] = 3.0, -1.0
    forecast["concentration"].values[:] = values + error
    scores = evaluate(forecast, truth, "1:3")
    l1 = (3 / np.abs(values[0, 1]).sum() + 1 / np.abs(values[1, 1]).sum()) / 2
    l2 = (3 / np.linalg.norm(values[0, 1]) + 1 / np.linalg.norm(values[1, 1])) / 2
    found = scores.fields["concentration"]
    assert found.time == truth["time"].values.tolist()
    assert found.relative_l1_percent == pytest.approx([0, 100 * l1, 0, 0, 0], abs=1e-4)
    assert found.relative_l2_percent == pytest.approx([0, 100 * l2, 0, 0, 0], abs=1e-4)
    assert scores.samples == [1, 2]
    assert scores.latent["advection_x"].relative_l2_percent == 0


def test_a_latent_is_compared_over_all_cells(truth: xr.Dataset):
    forecast = truth.copy(deep=True)
    forecast["advection_x"] = 1.1 * truth["advection_x"]
    scores = evaluate(forecast, truth, ":")
    assert scores.latent["advection_x"].relative_l2_percent == pytest.approx(10)
    assert set(scores.latent) == {"advection_x", "advection_y"}
    assert not evaluate(forecast, truth.drop_vars(["advection_x", "advection_y"]), ":").latent


def test_a_truth_that_varies_counts_at_the_forecast_times(truth: xr.Dataset):
    """Whether the latent varies, too, or not: here it is right at those times, and only there."""
    latent = truth["advection_x"]
    shape = (truth.sizes["time"], *latent.shape)
    varying = truth.assign(
        advection_x=(("time", *latent.dims), np.tile(latent.values, (shape[0], *[1] * latent.ndim)))
    )
    varying["advection_x"].values[3:] *= 2
    for forecast in (truth, varying):
        scores = evaluate(forecast.isel(time=[0, 2]), varying, ":")
        assert scores.latent["advection_x"].relative_l2_percent == 0


def test_only_shared_times_count(truth: xr.Dataset):
    forecast = 1.1 * truth.isel(time=[1, 3]).assign_coords(time=[0.05, 0.17])
    assert evaluate(forecast, truth, ":").fields["concentration"].time == [0.05]
    with pytest.raises(InputError, match=r"forecast \(7 to 8\) and the data \(0 to 0.2\) share no"):
        evaluate(forecast.assign_coords(time=[7.0, 8.0]), truth, ":")


def test_times_in_single_precision_are_the_same_times(truth: xr.Dataset):
    single = truth.assign_coords(time=truth["time"].values.astype(np.float32))
    found = evaluate(truth, single, ":").fields["concentration"]
    assert found.time == pytest.approx([0.0, 0.05, 0.1, 0.15, 0.2], abs=1e-12)
    assert max(found.relative_l1_percent) == 0


def test_times_far_from_zero_are_told_apart(truth: xr.Dataset):
    far = truth.assign_coords(time=10000 + 0.013 * np.arange(5))
    found = evaluate(far, far, ":").fields["concentration"]
    np.testing.assert_allclose(found.time, far["time"])
    assert max(found.relative_l1_percent) == 0


def test_what_was_not_observed_counts_neither_for_nor_against(truth: xr.Dataset):
    forecast = truth.copy(deep=True)
    forecast["concentration"] = 1.1 * truth["concentration"]
    values = truth["concentration"].values
    values[0, 1] = np.nan  # a sample at one time
    values[:, 2, ::2] = np.nan  # cells of all of them
    values[:, 3] = np.nan  # a time
    found = evaluate(forecast, truth, ":").fields["concentration"]
    assert found.time == pytest.approx([0.0, 0.05, 0.1, 0.2])
    assert found.relative_l1_percent == pytest.approx([10] * 4, rel=1e-5)
    assert found.relative_l2_percent == pytest.approx([10] * 4, rel=1e-5)


def test_the_error_of_what_is_zero_in_truth_is_no_number_in_json(truth: xr.Dataset):
    forecast = truth.copy(deep=True)
    truth["concentration"].values[:, 1] = 0
    scores = evaluate(forecast, truth, ":")
    assert scores.fields["concentration"].relative_l1_percent[1] == np.inf
    assert '"relative_l1_percent":[0.0,null,' in scores.model_dump_json()


@pytest.mark.parametrize("samples", ["0:2", [0], "1:9", ""])
def test_samples_that_do_not_match_are_refused(truth: xr.Dataset, samples):
    with pytest.raises(InputError):
        evaluate(truth, truth, samples)


def test_the_same_samples_in_another_order_are_refused(truth: xr.Dataset):
    swapped = truth.isel(sample=slice(None, None, -1))
    assert swapped["sample"].values.tolist() != truth["sample"].values.tolist()
    with pytest.raises(InputError, match="the same in another order"):
        evaluate(truth, swapped)
    again = swapped.sel(sample=truth["sample"])
    assert evaluate(truth, again).fields["concentration"].relative_l1_percent == [0.0] * 5
    # A file of test samples counts its own from 0, and data need not name theirs.
    for change in (lambda d: d.drop_vars("sample"), lambda d: d.assign_coords(sample=["a", "b"])):
        forecast = truth.isel(sample=[1, 2]).assign_coords(sample=[0, 1])
        known = change(truth.isel(sample=[1, 2]))
        assert evaluate(forecast, known).fields["concentration"].relative_l1_percent == [0.0] * 5


@pytest.mark.parametrize("change", [lambda x: x + 0.1, lambda x: x[::-1], lambda x: 100 * x])
def test_cells_that_lie_elsewhere_are_refused(truth: xr.Dataset, change):
    with pytest.raises(InputError, match="along 'x' cell .+ is at .* in the forecast, and at"):
        evaluate(truth, truth.assign_coords(x=change(truth["x"].values)))
    rounded = truth.assign_coords(x=truth["x"].astype("float32"))
    assert evaluate(truth, rounded).fields["concentration"].relative_l1_percent == [0.0] * 5


def test_the_start_is_not_compared_with_itself(truth: xr.Dataset):
    """Where the data hold nothing later there is no error, rather than one of zero."""
    forecast = truth.copy(deep=True)
    alone = truth.copy(deep=True)
    alone["concentration"].values[:, 1:] = np.nan
    assert evaluate(forecast, alone, ":").fields["concentration"].time == []
    # A start that was learned may well be off.
    forecast["concentration"].values[:, 0] *= 1.1
    assert evaluate(forecast, alone, ":").fields["concentration"].time == [0.0]


@pytest.fixture
def sensors(truth: xr.Dataset) -> tuple[xr.Dataset, list[AbstractObservation], Grid]:
    """Two sensors at cell centres, which read 0.3 too much at the last time of the last sample."""
    grid = grid_of(truth, "concentration")
    at = np.stack([centres[[2, 7], [1, 4]] for centres in grid.centres()], axis=1)
    read = truth["concentration"].values[:, :, [2, 7], [1, 4]].astype(float)
    read[-1, -1] += 0.3
    read[0, 1, 0] = np.nan
    data = truth.assign(probe=(("sample", "time", "sensor"), read))
    return data, [Sensors("concentration", "probe", noise=0.1, positions=at)], grid


def test_readings_are_scored_by_instrument_trained_and_held_back_apart(truth, sensors):
    """Four samples of two sensors at four times after the start, one reading missing."""
    data, observe, grid = sensors
    seen = Seen([0, 1], [0.05, 0.1])
    forecast = truth.copy(deep=True)
    found = evaluate(forecast, data, ":", observe=observe, grid=grid, seen=seen).readings["probe"]
    assert found.count == 4 * 4 * 2 - 1
    assert found.rmse == pytest.approx(0.3 * np.sqrt(2 / found.count), rel=1e-4)
    assert found.chi2_per_reading == pytest.approx(9 * 2 / found.count, rel=1e-4)
    assert found.trained is not None and found.held_back is not None
    assert (found.trained.count, found.held_back.count) == (2 * 2 * 2 - 1, found.count - 7)
    assert found.trained.rmse == pytest.approx(0, abs=1e-6)
    assert found.held_back.rmse == pytest.approx(0.3 * np.sqrt(2 / 24), rel=1e-4)


def test_a_meter_at_the_start_is_no_reading(truth: xr.Dataset):
    """It is 0 there by definition, also in a forecast of which the data have no field."""
    grid = grid_of(truth, "concentration")
    forecast = truth.rename(concentration="made")
    forecast["made"].attrs["cell_methods"] = "time: sum"
    forecast["made"].values[:] = np.array([0.0, 1.0, 2.0, 3.0, 4.0])[:, None, None]
    read = np.tile([0.0, 1.1, 2.1, 3.1, 4.1], (4, 1))
    data = truth.drop_vars("concentration").assign(meter=(("sample", "time"), read))
    observe = [VolumeAverage("made", "meter", noise=0.1)]
    found = evaluate(forecast, data, ":", observe=observe, grid=grid).readings["meter"]
    assert found.count == 4 * 4
    assert found.rmse == pytest.approx(0.1, rel=1e-4)
    assert found.chi2_per_reading == pytest.approx(1.0, rel=1e-4)
    # A meter that went on counting from before reads something there.
    later = forecast.isel(time=slice(1, None)).assign_attrs(begun=0.0)
    found = evaluate(later, data, ":", observe=observe, grid=grid).readings["meter"]
    assert found.count == 4 * 4 and found.rmse == pytest.approx(0.1, rel=1e-4)


def test_without_noise_there_is_no_chi_squared(truth, sensors):
    data, (one,), grid = sensors
    plain = Sensors("concentration", "probe", positions=one.positions)
    last = truth.isel(sample=[3])
    found = evaluate(last, data, "3:4", observe=[plain], grid=grid).readings["probe"]
    assert found.chi2_per_reading is None and found.trained is None
    assert found.rmse == pytest.approx(0.3 * np.sqrt(2 / 8), rel=1e-4)


def test_solid_cells_do_not_count(truth: xr.Dataset):
    """A large number that stands there, the same in forecast and truth, makes no error smaller."""
    grid = grid_of(truth, "concentration")
    solid = np.zeros(grid.shape, bool)
    solid[2:4, 1:3] = True
    forecast = 1.1 * truth
    scores = [
        evaluate(
            xr.where(solid, junk, forecast, keep_attrs=True),
            xr.where(solid, junk, truth, keep_attrs=True),
            grid=Grid(grid.axes, solid=solid),
        )
        for junk in (0.0, 1e9)
    ]
    assert scores[0].fields["concentration"].relative_l1_percent == pytest.approx([10] * 5)
    assert scores[1] == scores[0]


@pytest.mark.parametrize(
    "change, message",
    [
        (lambda d: d.transpose("time", "sample", ...), "'concentration' has the sizes .* in the"),
        (lambda d: d.transpose("sample", "time", "y", "x"), "'concentration' has the sizes"),
        (lambda d: d.isel(x=slice(6)), "'concentration' has the sizes"),
        (lambda d: d.assign(advection_x=("q", np.ones(4))), "'advection_x' has the sizes"),
        (lambda d: d.astype(str), "'concentration' must hold real numbers"),
        (lambda d: d.assign(advection_x=((), "a")), "'advection_x' must hold real numbers"),
    ],
)
def test_a_truth_of_another_layout_is_a_message(truth: xr.Dataset, change, message: str):
    with pytest.raises(InputError, match=message):
        evaluate(truth, change(truth.drop_vars(["x", "y"])))
