"""A run on sensors is scored by what they read: in its summary, by `evaluate`, on its page."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import xarray as xr
from small_problem import save, write_problem

from impindiff import InputError
from impindiff.config import load_config
from impindiff.runs import RunFolder, evaluate_run, train_run

OBSERVE = """
import impindiff as ipd


def observe():
    return [ipd.Sensors("concentration", "probe", noise=0.01)]
"""


@pytest.mark.thorough
def test_sensors_are_scored_trained_and_held_back_apart(tmp_path: Path):
    """The field is known at the start alone; four sensors read at all times."""
    changes = {
        "data.observe": "instruments:observe",
        "data.train_times": [0.05, 0.1],
        "training.stages": [{"optimiser": "adam", "epochs": 2}],
    }
    config, file = write_problem(tmp_path, changes)
    (tmp_path / "instruments.py").write_text(OBSERVE)
    with xr.open_dataset(file) as opened:
        data = opened.load()
    values, at = data["concentration"].values.copy(), ([1, 4, 7, 10], [1, 2, 3, 4])
    data["probe"] = (("sample", "time", "sensor"), values[:, :, at[0], at[1]])
    data["probe"].attrs = {"units": "mol", "long_name": "probes"}
    data = data.assign_coords(
        sensor_x=("sensor", data["x"].values[at[0]]), sensor_y=("sensor", data["y"].values[at[1]])
    )
    data["concentration"].values[:, 1:] = np.nan
    data.to_netcdf(file)

    run, said = RunFolder(tmp_path / "run"), []
    train_run(load_config(config), file, run, say=said.append)
    summary = json.loads((run.path / "summary.json").read_text())
    assert summary["fields"]["concentration"]["time"] == []
    tested = len(summary["samples"])
    found = summary["readings"]["probe"]
    assert found["count"] == 4 * 4 * tested and found["rmse"] > 0
    # The samples forecast at the end are those held back.
    assert summary["validation_samples"] == summary["samples"]
    assert summary["reading_units"] == {"probe": "mol"}
    assert found["trained"] is None and found["held_back"]["count"] == found["count"]

    scores = evaluate_run(run, file).readings["probe"]
    samples = data.sizes["sample"]
    assert scores.count == 4 * 4 * samples
    assert scores.trained is not None
    assert scores.trained.count == 4 * 2 * len(summary["training_samples"])
    # Also of a copy: what was trained on is not held back because it lies elsewhere.
    copy = Path(shutil.copy(file, tmp_path / "copy.nc"))
    assert evaluate_run(run, copy).readings["probe"] == scores
    # And of the same readings in another format and precision, or of some samples alone.
    with xr.open_dataset(file) as opened:
        again = opened.load().drop_encoding().astype("float64")
    save(again, tmp_path / "again.zarr")
    again_scored = evaluate_run(run, tmp_path / "again.zarr").readings["probe"].trained
    assert again_scored is not None and again_scored.count == scores.trained.count
    save(again.isel(sample=[3, 1]), tmp_path / "some.nc")
    some = evaluate_run(run, tmp_path / "some.nc").readings["probe"]
    assert some.trained is not None and some.trained.count == 4 * 2
    save(again.isel(sample=[1]), tmp_path / "one.nc")  # fewer than were trained on
    one = evaluate_run(run, tmp_path / "one.nc").readings["probe"]
    assert one.trained is not None and one.trained.count == 4 * 2
    for change in (
        again["probe"].transpose("sensor", "sample", "time"),
        again["probe"][0, 0, 0],
        again["probe"].astype(str),
    ):
        save(again.assign(probe=change), tmp_path / "odd.nc")
        with pytest.raises(InputError, match="'probe'"):
            evaluate_run(run, tmp_path / "odd.nc")
        (tmp_path / "odd.nc").unlink()
    again["probe"] *= 1.001
    save(again, tmp_path / "other.nc")
    assert evaluate_run(run, tmp_path / "other.nc").readings["probe"].trained is None
    page = (run.path / "report.html").read_text()
    assert "error of readings held back" in page and "to the eye the same" not in page
