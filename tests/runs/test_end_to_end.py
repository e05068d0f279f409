"""Whole runs in every dimension, format and precision; unknowns come out as they are in truth."""

from pathlib import Path

import jax.numpy as jnp
import numpy as np
import pytest
from small_problem import DIFFUSIVITY, losses, make_dataset, save, write_problem

from impindiff import advection_diffusion, grid_of, predict
from impindiff.config import load_config
from impindiff.data import open_dataset
from impindiff.runs import RunFolder, train_run, trained_system

ADAM = [{"optimiser": "adam", "epochs": 20, "learning_rate": 1e-2}]
LBFGS = [{"optimiser": "lbfgs", "epochs": 60}]
NAMES = ["advection_x", "advection_y", "advection_z"]


def run(folder: Path, changes: dict, data=None) -> RunFolder:
    config, file = write_problem(folder, changes, data)
    out = RunFolder(folder / "run")
    train_run(load_config(config), file, out)
    return out


@pytest.mark.slow
def test_one_dimension_in_double_precision(tmp_path: Path):
    changes = {
        "precision": "float64",
        "system.options.velocity.names": NAMES[:1],
        "training.stages": LBFGS,
    }
    out = run(tmp_path, changes, make_dataset((16,)))
    summary = out.read_json("summary.json")
    assert summary["fields"]["concentration"]["relative_l1_percent"][-1] < 0.1
    assert summary["latent"]["advection_x"]["relative_l2_percent"] < 2
    assert trained_system(out).latents()["advection_x"].dtype == jnp.float64
    assert open_dataset(out.forecast_file)["concentration"].dtype == np.float64


@pytest.mark.thorough
def test_three_dimensions(tmp_path: Path):
    changes = {"system.options.velocity.names": NAMES, "training.stages": ADAM}
    out = run(tmp_path, changes, make_dataset((6, 5, 4)))
    summary = out.read_json("summary.json")
    assert set(summary["latent"]) == set(NAMES)
    history = losses(out.path)
    assert history[-1][2] < 0.5 * history[0][2]
    assert open_dataset(out.forecast_file)["concentration"].shape == (2, 5, 6, 5, 4)


@pytest.mark.slow
def test_an_unknown_diffusivity_is_recovered(tmp_path: Path):
    """With a known uniform velocity, the number that made the data is found."""
    unknown = {"name": "D", "initial": 0.3, "bounds": [1e-4, 1.0]}
    data = make_dataset((16,))
    known = float(data["advection_x"].mean())
    uniform = data.drop_vars("advection_x")
    truth = advection_diffusion(grid_of(data, "concentration"), jnp.array([known]), DIFFUSIVITY)
    made = predict(truth, uniform, times=uniform["time"].values, dt=0.05, dtype=jnp.float64)
    changes = {
        "system.options.velocity": [known],
        "system.options.diffusivity": unknown,
        "training.stages": LBFGS,
        "precision": "float64",
    }
    out = run(tmp_path, changes, made)
    found = float(trained_system(out).latents()["D"][0])
    assert found == pytest.approx(DIFFUSIVITY, rel=1e-4)


@pytest.mark.thorough
def test_zarr_single_precision_coordinates_and_a_late_start(finished: Path, tmp_path: Path):
    """The same numbers in another wrapping give the same results."""
    data = make_dataset()
    coordinates = {"time": data["time"] + 3.5, "x": data["x"], "y": data["y"]}
    wrapped = data.assign_coords({k: v.values.astype(np.float32) for k, v in coordinates.items()})
    config, _ = write_problem(tmp_path, {"time.until": 3.7, "data.train_times": [3.6]})
    save(wrapped, tmp_path / "data.zarr")
    out = RunFolder(tmp_path / "run")
    train_run(load_config(config), tmp_path / "data.zarr", out)
    first, second = (r.read_json("summary.json") for r in (RunFolder(finished / "run"), out))
    assert second["training_times"] == [3.6]
    found, expected = (s["fields"]["concentration"] for s in (second, first))
    assert found["time"] == [3.5, 3.55, 3.6, 3.65, 3.7]
    assert found["relative_l1_percent"] == pytest.approx(expected["relative_l1_percent"], rel=0.01)


@pytest.mark.slow
def test_names_in_other_alphabets(tmp_path: Path):
    data = make_dataset((16,)).rename(concentration="концентрация", advection_x="vitesse é")
    changes = {
        "data.field": "концентрация",
        "system.options.velocity.names": ["vitesse é"],
        "system.options.field": "концентрация",
        "training.stages": ADAM,
        "time.scheme": "forward-euler",
    }
    folder = tmp_path / "mit Leerzeichen 数据"
    folder.mkdir()
    out = run(folder, changes, data)
    assert "концентрация" in (out.path / "report.html").read_text(encoding="utf-8")
    assert set(out.read_json("summary.json")["latent"]) == {"vitesse é"}
