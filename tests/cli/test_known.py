"""`run --known`: the forward model alone, with the truth in the place of what is to be learned."""

import json
from pathlib import Path

import numpy as np
import pytest
import xarray as xr
from typer.testing import CliRunner, Result

from impindiff import CASES, to_dataset
from impindiff.cases import Case
from impindiff.cli._app import app
from impindiff.data import open_dataset, save_dataset

SYSTEM = """
import impindiff as ipd

def build(known=False):
    k = 8.0 if known else ipd.Parameter("k", 4.0, (0.0, 9.0))
    return ipd.System(
        None,
        {"c": ipd.Field([ipd.Reaction(lambda c, k: -k * c)], initial=1.0, bounds=(0.0, 9.0))},
        coefficients={"k": k},
    )
"""
CONFIG = """
data = {fields = ["c"], train_samples = "0", train_times = [0.25], test_samples = "1"}
system = {build = "system:build"}
time = {scheme = "forward-euler", dt = 0.25, until = 0.5}
training = {stages = [{optimiser = "adam", epochs = 1}]}
"""
TIMES = np.array([0.0, 0.25, 0.5])


def call(*arguments: object, status: int = 0) -> Result:
    result = CliRunner().invoke(app, [str(argument) for argument in arguments])
    assert result.exit_code == status, (result.exit_code, result.output, result.exception)
    return result


def complaint(*arguments: object) -> str:
    return " ".join(call(*arguments, status=2).stderr.replace("│", " ").split())


def generate(samples: int, seed: int) -> xr.Dataset:
    return to_dataset(None, TIMES, {"c": np.tile(np.exp(-8 * TIMES), (samples, 1))})


@pytest.fixture
def decay(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A case whose steps lead below zero as a whole, and just to zero in halves."""
    folder = tmp_path / "case"
    folder.mkdir()
    (folder / "system.py").write_text(SYSTEM)
    (folder / "config.toml").write_text(CONFIG)
    changes = {"quick": {}}
    known = ("system.options.known=true",)
    case = Case("decay", "", generate, str(folder), changes, samples=2, known=known)
    monkeypatch.setitem(CASES, "decay", case)
    return tmp_path


@pytest.mark.thorough
def test_data_that_lie_in_the_folder_are_not_overwritten(decay: Path):
    run = decay / "RUN"
    run.mkdir()
    save_dataset(generate(3, 0), run / "data.nc")
    before = (run / "data.nc").read_bytes()
    assert "other data than this command makes" in complaint("run", "decay", "--out", run)
    assert (run / "data.nc").read_bytes() == before and not (run / "config.toml").exists()
    # What a killed run left is what this one makes.
    save_dataset(generate(2, 0), run / "data.nc", overwrite=True)
    call("run", "decay", "--known", "--out", run)


@pytest.mark.thorough
def test_nothing_is_trained_and_all_else_is_as_ever(decay: Path):
    run = decay / "RUN"
    told = call("run", "decay", "--known", "--out", run).stdout
    assert told.startswith("Learned    nothing: all is known")
    assert "Forecast   c of 1 sample to t = 0.5: 100 % off" in told
    assert "Halved     steps that failed as a whole: t = 0 to 0.25 in 2 parts\n" in told
    summary = json.loads((run / "summary.json").read_text())
    assert summary["halved_steps"] == "t = 0 to 0.25 in 2 parts"
    assert (summary["epochs"], summary["trainable_parameters"]) == (0, 0)
    assert not summary["latent"] and not (run / "metrics.jsonl").read_text()
    np.testing.assert_allclose(open_dataset(run / "forecast.nc")["c"], [[1, 0, 0]], atol=1e-6)
    page = (run / "report.html").read_text()
    assert "Steps halved in the forecast" in page


@pytest.mark.thorough
def test_it_forecasts_samples_of_which_data_hold_nothing(decay: Path):
    """All fields begin as the system says."""
    run, file, out = decay / "RUN", decay / "bare.nc", decay / "out.nc"
    call("run", "decay", "--known", "--out", run)
    save_dataset(generate(3, 0).drop_vars("c"), file)
    call("forecast", run, "--initial", file, "--until", 0.5, "--out", out)
    np.testing.assert_allclose(open_dataset(out)["c"], [[1, 0, 0]] * 3, atol=1e-6)


def test_what_is_not_known_is_not_run(decay: Path, tmp_path: Path):
    told = complaint("run", "burgers-dynamic", "--known", "--out", tmp_path / "RUN")
    assert "--known: case 'burgers-dynamic' has no option" in told
    assert "vapour-infiltration, vapour-infiltration-2d" in told
    change = ("--set", "system.options.known=false")
    told = complaint("run", "decay", "--known", *change, "--out", tmp_path / "RUN")
    assert "the system has 'k' to learn: train it" in told
    told = complaint("run", "decay", "--set", "system.options.known=true", "--out", tmp_path / "R")
    assert "has nothing to learn" in told
