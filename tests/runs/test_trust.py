"""The code of a run that somebody else made is not executed unasked."""

import errno
import json
import os
from pathlib import Path

import pytest
from small_problem import write_problem
from typer.testing import CliRunner

from impindiff import InputError
from impindiff.cli._app import app
from impindiff.config import load_config
from impindiff.runs import RunFolder, _folder, check_trusted, train_run

OBSERVE = """
import pathlib

import jax
import numpy as np

import impindiff as ipd

pathlib.Path({mark!r}).touch()


def observe():
    return [ipd.Cells("concentration", noise=0.1)]
"""


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    return tmp_path / "state"


@pytest.fixture
def made(tmp_path: Path) -> RunFolder:
    changes = {
        "data.observe": "instruments:observe",
        "training.stages": [{"optimiser": "adam", "epochs": 1}],
    }
    config, data = write_problem(tmp_path, changes)
    (tmp_path / "instruments.py").write_text(OBSERVE.format(mark=str(tmp_path / "executed")))
    run = RunFolder(tmp_path / "run")
    train_run(load_config(config), data, run)
    (tmp_path / "executed").unlink()
    return run


def evaluate(run: RunFolder, *options: str):
    data = run.path.parent / "data.nc"
    return CliRunner().invoke(app, ["evaluate", str(run.path), "--data", str(data), *options])


def move_home(home: Path) -> None:
    """As on the machine of somebody else, who has a key of his own."""
    (home / "impindiff" / "key").write_bytes(bytes(32))


@pytest.mark.thorough
def test_ones_own_run_is_opened_unasked(made: RunFolder, home: Path):
    check_trusted(made)
    key = home / "impindiff" / "key"
    assert key.stat().st_mode & 0o777 == 0o600 and len(key.read_bytes()) == 32
    key.unlink()
    os.mkfifo(key)
    with pytest.raises(InputError, match="not made by you on this machine"):
        check_trusted(made)


@pytest.mark.thorough
@pytest.mark.parametrize("change", ["another user", "code", "function", "no seal", "no key"])
def test_what_was_made_elsewhere_or_changed_is_not_executed(made, home, change):
    place = made.path / "provenance.json"
    held = json.loads(place.read_text())
    if change == "another user":
        move_home(home)
    elif change == "code":
        held["code"] = dict.fromkeys(held["code"], "0" * 64)
    elif change == "function":
        config = made.config_file.read_text().replace("instruments:observe", "os:getcwd")
        made.config_file.write_text(config)
    else:
        del held["seal"]
    if change == "no key":  # as of a user who has made no run yet
        (home / "impindiff" / "key").unlink()
    place.write_text(json.dumps(held))
    with pytest.raises(InputError, match="--trust"):
        check_trusted(made)
    found = evaluate(made)
    assert found.exit_code == 2
    assert not (made.path.parent / "executed").exists()


@pytest.mark.thorough
def test_who_says_so_has_it_executed(made: RunFolder, home: Path):
    move_home(home)
    assert evaluate(made, "--trust").exit_code == 0
    assert (made.path.parent / "executed").exists()


@pytest.mark.thorough
def test_an_answer_is_remembered(made: RunFolder, home: Path):
    move_home(home)
    asked = []
    with pytest.raises(InputError, match="brings Python code"):
        check_trusted(made, ask=lambda question: bool(asked.append(question)))
    check_trusted(made, ask=lambda question: True)
    check_trusted(made)
    assert "instruments.py" in asked[0]


@pytest.mark.thorough
def test_an_answer_counts_where_it_cannot_be_remembered(made: RunFolder, home: Path, monkeypatch):
    def forbidden(*given: object) -> None:
        raise PermissionError(errno.EACCES, "Permission denied")

    move_home(home)
    monkeypatch.setattr(_folder, "replace_file", forbidden)
    check_trusted(made, ask=lambda question: True)
    with pytest.raises(InputError, match="--trust"):
        check_trusted(made)


@pytest.mark.thorough
@pytest.mark.parametrize(
    "key, value", [("code", [1]), ("code", "x"), ("code", 3), ("seal", "\xe9"), ("seal", [1])]
)
def test_a_provenance_that_makes_no_sense_is_trusted_in_nothing(made: RunFolder, key, value):
    place = made.path / "provenance.json"
    place.write_text(json.dumps(json.loads(place.read_text()) | {key: value}))
    found = evaluate(made)
    assert found.exit_code == 2 and "--trust" in found.stderr
    assert not (made.path.parent / "executed").exists()


@pytest.mark.thorough
def test_arrays_config_and_page_need_no_code(made: RunFolder, home: Path):
    move_home(home)
    assert CliRunner().invoke(app, ["report", str(made.path)]).exit_code == 0
    assert not (made.path.parent / "executed").exists()


SHADOW = "import pathlib\n\npathlib.Path({mark!r}).touch()\nraise ImportError\n"


@pytest.mark.thorough
@pytest.mark.parametrize("added", ["numpy.py", "jax.py"])
@pytest.mark.parametrize("command", ["evaluate", "check-gradient", "resume", "plan"])
def test_a_file_that_was_added_is_not_imported(made: RunFolder, command: str, added: str):
    """Of a sealed run: the seal says nothing of files that the run was not begun with."""
    mark = made.path.parent / "added"
    (made.path / added).write_text(SHADOW.format(mark=str(mark)))
    assert open_run(made, command).exit_code == 0
    assert not mark.exists()


@pytest.mark.thorough
@pytest.mark.parametrize("command", ["evaluate", "check-gradient", "resume", "plan"])
def test_a_file_that_was_changed_is_not_executed_before_it_is_compared(made, command):
    mark = made.path.parent / "changed"
    with (made.path / "instruments.py").open("a") as file:
        file.write(f"\npathlib.Path({str(mark)!r}).touch()\n")
    found = open_run(made, command)
    assert found.exit_code == 2 and "was changed since the run was begun" in found.output
    assert not mark.exists()


@pytest.mark.thorough
@pytest.mark.parametrize("command", ["check-gradient-config", "train", "plan"])
def test_the_config_of_somebody_elses_run_is_asked_about(made, home, command):
    move_home(home)
    found = open_run(made, command)
    assert found.exit_code == 2 and "--trust" in found.output
    assert not (made.path.parent / "executed").exists()
    assert open_run(made, command, "--trust").exit_code == 0


def open_run(run: RunFolder, command: str, *options: str):
    config = str(run.config_file)
    arguments = {
        "evaluate": ["evaluate", str(run.path), "--data", str(run.path.parent / "data.nc")],
        "check-gradient": ["check-gradient", str(run.path), "--directions", "1"],
        "check-gradient-config": ["check-gradient", config, "--directions", "1"],
        "resume": ["train", config, "--out", str(run.path), "--resume"],
        "train": ["train", config, "--out", str(run.path.parent / "another")],
        "plan": ["plan", config],
    }
    return CliRunner().invoke(app, [*arguments[command], *options])
