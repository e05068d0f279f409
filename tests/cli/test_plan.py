"""`impindiff plan`, and training within a budget: what is said, and that it is kept to."""

import json
from pathlib import Path
from typing import Any

import pytest
from small_problem import losses, write_problem
from typer.testing import CliRunner

from impindiff.cli._app import app
from impindiff.cli._show import plan_table
from impindiff.runs import _feasibility
from impindiff.train import MemoryPlan, PolicyPlan

GRID = [
    {"name": "x", "lower": -1.0, "upper": 1.0, "cells": 12},
    {"name": "y", "lower": 0.0, "upper": 1.0, "cells": 6},
]


def call(*arguments: object) -> tuple[int, str, str]:
    result = CliRunner().invoke(app, [str(argument) for argument in arguments])
    return result.exit_code, result.stdout, " ".join(result.stderr.replace("│", " ").split())


FINE = {
    "time.dt": 2e-3,
    "grid": GRID,
    "training.stages": [{"optimiser": "adam", "epochs": 2}],
}


@pytest.fixture(scope="module")
def found(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    config, data = write_problem(tmp_path_factory.mktemp("plan"), FINE)
    status, out, err = call("plan", config, "--data", data, "--memory", "1GiB", "--json")
    assert (status, err) == (0, "")
    return json.loads(out)


@pytest.mark.thorough
def test_the_object_is_as_documented(found: dict[str, Any]):
    assert found["state_bytes"] == 2 * 12 * 6 * 4
    keep_all, snapshots, budget = found["policies"]
    names = ["policy", "snapshots", "peak_bytes", "extra_forward_steps", "seconds", "fits"]
    assert list(keep_all) == names
    assert [p["policy"] for p in found["policies"]] == ["keep-all", "snapshots", "budget"]
    assert (keep_all["snapshots"], keep_all["extra_forward_steps"], keep_all["fits"]) == (
        50,
        0,
        True,
    )
    assert snapshots["peak_bytes"] < keep_all["peak_bytes"] == budget["peak_bytes"]


@pytest.mark.slow
def test_shapes_are_enough(tmp_path: Path, found: dict[str, Any]):
    """Without data, on the config's grid, the plan is the one with data."""
    config, _ = write_problem(tmp_path, FINE)
    few = found["policies"][1]["peak_bytes"]
    table = call("plan", config, "--memory", f"{few}B")[1]
    assert table.startswith("One gradient through 50 steps; a state of all samples takes 576 B")
    assert [line.split()[-1] for line in table.splitlines()[2:]] == ["no", "yes", "yes"]


@pytest.mark.parametrize(
    "changes, options, told",
    [
        ({}, (), "neither data nor a grid"),
        ({"grid": GRID, "data.train_samples": "0:"}, (), "'0:', which without data has no end"),
        ({"grid": GRID, "data.train_times": [0.0]}, (), "what is trained on must come later"),
        ({"grid": GRID}, ("--memory", "2 gigs"), "no amount of memory"),
        ({"training.memory": "much"}, (), "training.memory"),
        ({"training.samples_at_once": 0}, (), "training.samples_at_once"),
    ],
)
def test_what_cannot_be_planned(tmp_path: Path, changes, options, told: str):
    config, _ = write_problem(tmp_path, changes)
    status, out, err = call("plan", config, *options)
    assert (status, out) == (2, "") and told in err


@pytest.mark.slow
def test_training_within_a_budget_is_the_same_training(tmp_path: Path, found: dict[str, Any]):
    config, data = write_problem(tmp_path, FINE)
    least = found["policies"][1]["peak_bytes"]
    runs = [tmp_path / "all", tmp_path / "some"]
    for run, options in zip(runs, ((), ("--memory", f"{least}B")), strict=True):
        assert call("train", config, "--data", data, "--out", run, *options)[0] == 0
    all_, some = ([entry[2] for entry in losses(run)] for run in runs)
    assert some == pytest.approx(all_, rel=1e-4)
    assert f'memory = "{least}B"' in (runs[1] / "config.toml").read_text()


@pytest.mark.thorough
def test_training_refuses_what_cannot_fit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    config, data = write_problem(tmp_path)
    out = tmp_path / "run"
    status, _, err = call("train", config, "--data", data, "--out", out, "--memory", "4KiB")
    assert status == 2 and "budget of 4 KiB is too small" in err and "needs" in err
    assert not out.exists(), "the advice can be followed"
    # Two steps of 576 bytes each: the states alone, and then the program that keeps them.
    for there_is, told in ((1000, "would take 1.12 KiB"), (2000, "would take")):
        monkeypatch.setattr(_feasibility, "available_bytes", lambda there_is=there_is: there_is)
        other = tmp_path / f"run-{there_is}"
        status, _, err = call("train", config, "--data", data, "--out", other)
        assert status == 2 and told in err and "impindiff plan" in err
        assert not other.exists()


@pytest.mark.slow
def test_batches_from_a_config(tmp_path: Path):
    stage = {"optimiser": "adam", "epochs": 3, "batch_samples": 1, "window": 1}
    changes = {"training.stages": [stage], "training.samples_at_once": 1}
    config, data = write_problem(tmp_path, changes | {"data.train_times": [0.1, 0.2]})
    assert call("train", config, "--data", data, "--out", tmp_path / "run")[0] == 0
    assert len(losses(tmp_path / "run")) == 3
    config, data = write_problem(tmp_path, changes | {"training.rescue": {}})
    status, _, err = call("train", config, "--data", data, "--out", tmp_path / "other")
    assert status == 2 and "leave out training.rescue, or the window" in err


def test_the_table_has_a_row_for_each_policy_and_says_whether_it_fits():
    policies = [
        PolicyPlan("keep-all", 40, 3 * 2**20, 0, 0.25, False),
        PolicyPlan("snapshots", 4, 2**19, 75, None, True),
    ]
    lines = plan_table(MemoryPlan(40, 2048, 2**20, policies)).splitlines()
    assert lines[0].startswith("One gradient through 40 steps; a state of all samples takes 2 KiB")
    assert lines[0].endswith("1 MiB may be taken")
    rows = [line.split() for line in lines[1:]]
    assert rows[1] == ["keep-all", "40", "3", "MiB", "0", "0.25", "no"]
    assert rows[2] == ["snapshots", "4", "512", "KiB", "75", "yes"]
