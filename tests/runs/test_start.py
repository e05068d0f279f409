"""A run on data that begin later than its system: when it starts is said in the config."""

import json
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner, Result

import impindiff as ipd
from impindiff._errors import InputError
from impindiff.cli._app import app
from impindiff.config import load_config
from impindiff.runs import RunPlan

TIMES = np.array([0.5, 1.0, 1.5])
CODE = """
import jax.numpy as jnp
import impindiff as ipd


def make_system():
    return ipd.System(
        None,
        {"c": ipd.Field([ipd.Reaction(lambda c, k: -k * c)], initial=1.0)},
        coefficients={"k": ipd.Parameter("k", 1.0, (0.0, jnp.inf))},
    )


def make_stages():
    return [ipd.Stage(ipd.LevenbergMarquardt(), 8)]
"""
CONFIG = """
[data]
file = "late.nc"
fields = ["c"]
train_samples = "0"
train_times = [0.5, 1.0]
test_samples = "1"

[system]
build = "decay:make_system"

[time]
scheme = "runge-kutta-4"
dt = 0.05
until = 1.5
START

[training]
stages = "decay:make_stages"
validate_every = 1
"""


def call(*arguments: object) -> Result:
    return CliRunner().invoke(app, [str(argument) for argument in arguments])


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("start")
    (folder / "decay.py").write_text(CODE)
    (folder / "zero.toml").write_text(CONFIG.replace("START", "start = 0"))
    (folder / "unsaid.toml").write_text(CONFIG.replace("START", ""))
    (folder / "late.toml").write_text(CONFIG.replace("START", "start = 1.0"))
    data = ipd.to_dataset(None, TIMES, {"c": np.tile(np.exp(-2 * TIMES), (2, 1))})
    ipd.save_dataset(data, folder / "late.nc")
    return folder


def test_what_is_not_said_is_asked_for(folder: Path):
    for name, said in (
        ("unsaid", r"time.start: .*late.nc: the system gives the initial values of 'c'"),
        ("late", "time.start: is 1, but the data begin earlier, at 0.5"),
    ):
        with pytest.raises(InputError, match=said):
            RunPlan.make(load_config(folder / f"{name}.toml"), folder / "late.nc", folder / "run")


@pytest.mark.thorough
def test_a_run_starts_before_its_data(folder: Path):
    result = call("train", folder / "zero.toml", "--out", folder / "RUN")
    assert result.exit_code == 0, result.stderr
    kept = ipd.open_dataset(folder / "RUN" / "forecast.nc")
    assert float(kept["k"]) == pytest.approx(2, rel=1e-4) and kept.attrs["begun"] == 0.0
    np.testing.assert_allclose(kept["c"][0], np.exp(-2 * TIMES), rtol=1e-4)
    lines = (folder / "RUN" / "metrics.jsonl").read_text().splitlines()
    followed = [line["validation"] for line in map(json.loads, lines) if line["validation"]]
    assert followed and followed[-1] < 1e-2
    # What scores and forecasts it knows when it started.
    result = call("evaluate", folder / "RUN", "--data", folder / "late.nc", "--json")
    assert result.exit_code == 0, result.stderr
    scores = json.loads(result.stdout)["fields"]["c"]
    assert scores["time"] == TIMES.tolist() and max(scores["relative_l2_percent"]) < 1e-2
    out = folder / "forecast.nc"
    given = ("--initial", folder / "late.nc", "--every", 0.5, "--until", 1)
    result = call("forecast", folder / "RUN", *given, "--out", out)
    assert result.exit_code == 0, result.stderr
    found = ipd.open_dataset(out)
    np.testing.assert_allclose(found["time"], [0.0, 0.5, 1.0])
    np.testing.assert_allclose(found["c"][0], np.exp(-2 * found["time"]), rtol=1e-4)
    result = call("forecast", folder / "RUN", *given, "--from", "first", "--out", folder / "l.nc")
    assert result.exit_code == 0, result.stderr
    assert float(ipd.open_dataset(folder / "l.nc")["c"][0, 0]) == 1.0


@pytest.mark.thorough
def test_a_run_has_readings_that_are_repeated(folder: Path):
    """At t = 1 once too high and once too low: what is learned lies between."""
    times, values = [0.0, 0.5, 1.0, 1.0, 1.5], np.exp(-2 * np.array([0.0, 0.5, 1.0, 1.0, 1.5]))
    values[2:4] += [0.01, -0.01]
    data = ipd.to_dataset(None, times, {"c": np.tile(values, (2, 1))})
    ipd.save_dataset(data, folder / "twice.nc")
    result = call(
        "train", folder / "unsaid.toml", "--data", folder / "twice.nc", "--out", folder / "T"
    )
    assert result.exit_code == 0, result.stderr
    kept = ipd.open_dataset(folder / "T" / "forecast.nc")
    assert float(kept["k"]) == pytest.approx(2, rel=1e-3)
    assert kept["time"].values.tolist() == [0.0, 0.5, 1.0, 1.5]
    scores = json.loads((folder / "T" / "summary.json").read_text())["fields"]["c"]
    assert scores["time"] == times
    assert scores["relative_l1_percent"][2:4] == pytest.approx([6.9, 8.0], abs=0.1)
    result = call("evaluate", folder / "T", "--data", folder / "twice.nc", "--json")
    assert result.exit_code == 0, result.stderr
