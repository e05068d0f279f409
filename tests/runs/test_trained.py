"""A finished run forecasts and is scored from its folder alone, wherever that now lies."""

import os
import shutil
import threading
from pathlib import Path

import numpy as np
import pytest
from small_problem import make_dataset

from impindiff import InputError, NumericsError
from impindiff.data import locked, open_dataset, save_dataset
from impindiff.report import write_report
from impindiff.runs import (
    RunFolder,
    evaluate_run,
    forecast_run,
    forecast_run_to,
    trained_system,
)


@pytest.fixture
def run(finished: Path) -> RunFolder:
    return RunFolder(finished / "run")


@pytest.mark.thorough
def test_a_moved_run_whose_data_are_gone_forecasts_and_reports(finished: Path, run: RunFolder):
    expected = forecast_run(run, finished / "data.nc", 0.2)
    others = finished.parent / "others.nc"
    shutil.copy(finished / "data.nc", others)
    moved = RunFolder(run.path.rename(finished.parent / "my rün"))
    shutil.rmtree(finished)
    assert forecast_run(moved, others, 0.2).identical(expected)
    before = (moved.path / "report.html").read_text()
    (moved.path / "report.html").unlink()
    assert write_report(moved.path).read_text() == before


@pytest.mark.thorough
def test_the_forecast_of_a_run_is_the_one_in_its_folder(finished: Path, run: RunFolder):
    import xarray as xr

    stored = xr.load_dataset(run.forecast_file, engine="h5netcdf", decode_times=False)
    found = forecast_run(run, finished / "data.nc", 0.2, 0.05)
    np.testing.assert_allclose(
        found["concentration"].isel(sample=[2, 3]), stored["concentration"], rtol=1e-5
    )
    np.testing.assert_array_equal(found["advection_x"], stored["advection_x"])


@pytest.mark.thorough
@pytest.mark.many
@pytest.mark.parametrize(
    "until, every, expected",
    [
        (0.2, None, [0, 0.05, 0.1, 0.15, 0.2]),
        (0.2, 0.1, [0, 0.1, 0.2]),
        (0.12, 0.05, [0, 0.05, 0.1, 0.12]),
        (0.1, 7.0, [0, 0.1]),
    ],
)
def test_times_of_a_forecast(finished: Path, run: RunFolder, until: float, every, expected):
    found = forecast_run(run, finished / "data.nc", until, every)
    np.testing.assert_allclose(found["time"], expected, atol=1e-12)
    assert found.sizes["sample"] == 4


@pytest.mark.thorough
def test_a_store_that_goes_on_is_the_undivided_forecast(finished: Path, run: RunFolder):
    """Its times bit for bit, its states to round-off."""
    whole, parts = finished / "whole.zarr", finished / "parts.zarr"
    forecast_run_to(run, finished / "data.nc", whole, 3.0, 0.1)
    forecast_run_to(run, finished / "data.nc", parts, 1.0, 0.1)
    for until in (1.7, 3.0):  # 17 * 0.1 is not 1.7
        forecast_run_to(run, parts, parts, until, 0.1, "last")
    found, expected = open_dataset(parts), open_dataset(whole)
    assert found["time"].identical(expected["time"]) and found.attrs == expected.attrs
    np.testing.assert_allclose(found["concentration"], expected["concentration"], rtol=1e-6)


@pytest.mark.thorough
def test_two_that_go_on_with_one_store_do_not_mix(finished: Path, run: RunFolder, monkeypatch):
    """The second is refused for as long as the first lasts, not for as long as it writes."""
    store = finished / "f.zarr"
    forecast_run_to(run, finished / "data.nc", store, 0.5)
    monkeypatch.setattr(locked.__wrapped__, "__defaults__", (0.1,))
    refused = []

    def compete(time: float) -> None:
        def attempt() -> None:
            try:
                forecast_run_to(run, store, store, 2.0, None, "last")
            except InputError as error:
                refused.append(str(error))

        thread = threading.Thread(target=attempt)
        thread.start()
        thread.join()

    added = forecast_run_to(run, store, store, 1.0, None, "last", compete)
    assert added.times.size == 10 and open_dataset(store).sizes["time"] == 21
    assert len(refused) == 1 and f"process {os.getpid()} on" in refused[0]


@pytest.mark.thorough
@pytest.mark.parametrize(
    "until, every, message",
    [
        (0.0, None, "must end after the initial time 0"),
        (-1.0, None, "found until = -1"),
        (0.2, 0.0, "it must be positive"),
        (0.2, -0.1, "it must be positive"),
        (1e9, 1e9, "steps"),
    ],
)
def test_times_that_cannot_be_are_refused(finished: Path, run, until: float, every, message: str):
    with pytest.raises(InputError, match=message):
        forecast_run(run, finished / "data.nc", until, every)


@pytest.mark.thorough
def test_a_file_with_one_time_is_enough_to_forecast_from(finished: Path, run: RunFolder):
    start = make_dataset().isel(time=[2], sample=[1]).drop_vars(["advection_x", "advection_y"])
    save_dataset(start, finished / "start.zarr")
    found = forecast_run(run, finished / "start.zarr", 0.3, 0.1)
    np.testing.assert_allclose(found["time"], [0.1, 0.2, 0.3])


@pytest.mark.thorough
@pytest.mark.parametrize(
    "samples, expected", [(":", [0, 1, 2, 3]), ("3", [3]), ("0,2:4", [0, 2, 3])]
)
def test_samples_to_be_scored(finished: Path, run: RunFolder, samples: str, expected):
    scores = evaluate_run(run, finished / "data.nc", samples)
    assert scores.samples == expected
    assert set(scores.latent) == {"advection_x", "advection_y"}
    assert scores.fields["concentration"].relative_l1_percent[0] == 0


@pytest.mark.parametrize("samples", ["4:5", "", "two", "1:1", "-1"])
def test_samples_that_are_not_there(finished: Path, run: RunFolder, samples: str):
    with pytest.raises(InputError, match="samples"):
        evaluate_run(run, finished / "data.nc", samples)


def test_a_run_without_a_checkpoint_has_nothing_to_forecast_with(finished: Path, run: RunFolder):
    shutil.rmtree(run.path / "checkpoints")
    with pytest.raises(InputError, match="holds no checkpoint: train first"):
        forecast_run(run, finished / "data.nc", 0.2)
    assert not (run.path / "checkpoints").exists()


def test_a_changed_config_is_noticed(finished: Path, run: RunFolder):
    text = run.config_file.read_text()
    run.config_file.write_text(text.replace("width = 8", "width = 9"))
    mismatch = pytest.raises(InputError, match="the shape of .* is .*8.*, expected is .*9")
    with pytest.warns(RuntimeWarning, match="was edited"), mismatch:
        trained_system(run)


def test_an_edited_config_that_still_fits_is_told_of(finished: Path, run: RunFolder):
    text = run.config_file.read_text()
    run.config_file.write_text("# a note\n" + text)
    assert evaluate_run(run, finished / "data.nc")  # warnings are errors here
    run.config_file.write_text(text.replace("diffusivity = 0.02", "diffusivity = 0.03"))
    with pytest.warns(RuntimeWarning, match="config.toml was edited after the run was begun"):
        trained_system(run)


def test_data_on_another_grid_are_refused(finished: Path, run: RunFolder):
    save_dataset(make_dataset((12, 7)), finished / "other.nc")
    with pytest.raises(InputError, match="does not lie on the grid asked for"):
        evaluate_run(run, finished / "other.nc")


@pytest.mark.thorough
def test_a_forecast_that_blows_up_is_no_result(finished: Path, run: RunFolder):
    text = run.config_file.read_text()
    text = text.replace('scheme = "crank-nicolson"', 'scheme = "forward-euler"')
    text = text.replace("dt = 0.05", "dt = 50.0")
    run.config_file.write_text(text)
    blows_up = pytest.raises(NumericsError, match="not finite at t = ")
    with pytest.warns(RuntimeWarning, match="was edited"), blows_up:
        forecast_run(run, finished / "data.nc", 5000.0, 1000.0)
