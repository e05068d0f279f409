"""Functions of the user's own that print, exit or fail: standard output and the exit status."""

import json
import subprocess
from pathlib import Path

import pytest
import tomli_w
from small_problem import command, make_tables, write_problem
from typer.testing import CliRunner

from impindiff.cli._app import app

SYSTEM = """
import os, sys
import impindiff as ipd
{top}

class Mute(Exception):
    def __str__(self):
        raise ValueError

def law(concentration):
    {law}
    return 0 * concentration

def build(grid, key):
    {build}
    velocity = ipd.SineField(2, ("advection_x", "advection_y"), width=4, depth=1, key=key)
    terms = [ipd.Reaction(law), ipd.Advection(velocity)]
    return ipd.System(grid, {{"concentration": terms}})
"""


def write_own(folder: Path, *, top: str = "", law: str = "pass", build: str = "pass") -> Path:
    write_problem(folder)
    (folder / "own.py").write_text(SYSTEM.format(top=top, law=law, build=build))
    tables = make_tables({"training.stages": [{"optimiser": "adam", "epochs": 1}]})
    tables["system"] = {"build": "own:build"}
    config = folder / "own.toml"
    config.write_text(tomli_w.dumps(tables))
    return config


@pytest.mark.thorough
@pytest.mark.many
@pytest.mark.parametrize(
    "where, code, message",
    [
        ("top", "sys.exit(0)", "own:build: {own}, line 4: SystemExit: 0"),
        ("build", "sys.exit('bye')", "own:build: {own}, line 15: SystemExit: bye"),
        ("build", "return build(grid, key)", "RecursionError"),
        ("build", "raise GeneratorExit", "GeneratorExit"),
        ("build", "raise ValueError('mine')", "line 15: ValueError: mine"),
        ("build", "raise Mute", "Mute: (its __str__ raises ValueError)"),
        ("law", "raise Mute", "fails: Mute: (its __str__ raises ValueError)"),
        ("law", "sys.exit(0)", "calls sys.exit(0)"),
        ("law", "return law(concentration)", "a function calls itself without end"),
        ("law", "raise KeyError('k')", "fails: KeyError: 'k'"),
    ],
)
def test_an_exit_or_an_error_is_a_message(tmp_path: Path, where: str, code: str, message: str):
    config = write_own(tmp_path, **{where: code})
    given = ["train", config, "--data", tmp_path / "data.nc", "--out", tmp_path / "run"]
    result = CliRunner().invoke(app, [str(each) for each in given])
    assert result.exit_code == 2, (result.stderr, result.exception)
    assert message.format(own=tmp_path / "own.py") in result.stderr
    assert result.stdout == "" and not (tmp_path / "run").exists()


@pytest.mark.slow
def test_standard_output_holds_the_answer_alone(tmp_path: Path):
    """In processes of their own: what another program prints goes past Python."""
    noise = "print('noise', flush=True); os.system('echo noise'); os.write(1, b'noise')"
    config = write_own(tmp_path, top=noise, law=noise, build=noise)
    data, run = tmp_path / "data.nc", tmp_path / "run"
    for given in (
        ["train", config, "--data", data, "--out", run],
        ["evaluate", run, "--data", data, "--json"],
        ["plan", config, "--data", data, "--json"],
        ["check-gradient", run, "--data", data, "--directions", 1, "--json"],
    ):
        process: subprocess.Popen = command(*given)
        out, err = process.communicate(timeout=300)
        assert process.returncode == 0, err
        assert "noise" not in out and "noise" in err
        assert "--json" not in given or out.count("\n") == 1 and json.loads(out)


@pytest.mark.thorough
def test_what_is_printed_after_the_answer_goes_to_standard_error(tmp_path: Path):
    """By a function that is called at exit, or a thread that outlives the command."""
    later = "import atexit, threading, time; atexit.register(print, 'at exit'); "
    later += "threading.Thread(target=lambda: (time.sleep(5), os.write(1, b'late'))).start()"
    config = write_own(tmp_path, build=later)
    process = command("plan", config, "--data", tmp_path / "data.nc", "--json")
    out, err = process.communicate(timeout=300)
    assert process.returncode == 0 and json.loads(out)["policies"]
    assert "at exit" in err and "late" in err
