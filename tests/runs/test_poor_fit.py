"""A run whose training ended at a poor fit says so: on the way, in its summary, in its report."""

import json
from pathlib import Path

import pytest
from small_problem import write_problem

from impindiff.config import load_config
from impindiff.runs import RunFolder, train_run

OBSERVE = """
import impindiff as ipd


def observe():
    return [ipd.Cells("concentration", noise={noise})]
"""


def warnings_of(folder: Path, noise: float) -> tuple[list[str], RunFolder]:
    changes = {
        "data.observe": "instruments:observe",
        "training.stages": [{"optimiser": "adam", "epochs": 2}],
    }
    folder.mkdir()
    config, data = write_problem(folder, changes)
    (folder / "instruments.py").write_text(OBSERVE.format(noise=noise))
    run, said = RunFolder(folder / "run"), []
    train_run(load_config(config), data, run, say=said.append)
    return [text for text in said if text.startswith("warning: ")], run


@pytest.mark.thorough
def test_a_run_says_that_its_fit_is_poor(tmp_path: Path):
    (told,), run = warnings_of(tmp_path / "poor", 1e-4)
    assert "ended at a poor fit: chi squared per reading is" in told
    summary = json.loads((run.path / "summary.json").read_text())
    assert summary["warnings"] == [told.removeprefix("warning: ")]
    assert "ended at a poor fit" in (run.path / "report.html").read_text()


@pytest.mark.thorough
def test_a_run_that_fits_as_well_as_its_noise_says_nothing(tmp_path: Path):
    found, run = warnings_of(tmp_path / "good", 10.0)
    assert found == []
    assert "warnings" not in json.loads((run.path / "summary.json").read_text())
