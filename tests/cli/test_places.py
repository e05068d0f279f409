"""A run folder may have any name that the file system takes; what is no place is refused."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from small_problem import command, make_dataset, save, write_problem
from typer.testing import CliRunner

from impindiff.cli._app import app

SHORT = {"training.stages": [{"optimiser": "adam", "epochs": 2}]}


def call(*arguments: object) -> tuple[int, str, str]:
    result = CliRunner().invoke(app, [str(argument) for argument in arguments])
    return result.exit_code, result.stdout, result.stderr


def finish(*arguments: object, **options) -> tuple[int, str, str]:
    process = command(*arguments, errors="surrogateescape", **options)
    out, err = process.communicate(timeout=300)
    assert "Traceback" not in err
    return process.returncode, out, err


@pytest.mark.thorough
@pytest.mark.parametrize("name", ["run[1]", "a\\b"])
def test_every_command_works_in_a_folder_of_any_name(tmp_path: Path, monkeypatch, name: str):
    monkeypatch.chdir(tmp_path)
    Path(name).mkdir()
    write_problem(Path(name), SHORT)
    config, data, run = (Path(name) / each for each in ("problem.toml", "data.nc", "r*n?"))
    on, to = ["--initial", data, "--until", 0.3], ["--out", Path(name) / "f[0].zarr"]
    for given in (
        ["train", config, "--data", data, "--out", run],
        ["train", run / "config.toml", "--out", run, "--resume"],
        ["forecast", run, *on, *to],
        ["forecast", run, "--initial", to[1], "--from", "last", "--until", 0.4, *to],
        ["report", run],
    ):
        assert call(*given)[::2] == (0, ""), given
    status, out, err = call("evaluate", run, "--data", data, "--json")
    assert (status, json.loads(out)["samples"], err) == (0, [0, 1, 2, 3], "")
    assert os.listdir() == [name], "nothing is written elsewhere"


@pytest.mark.slow
@pytest.mark.parametrize(
    "name, locale",
    [(os.fsdecode(b"\xff"), {}), ("ü-名", {"LC_ALL": "C", "PYTHONUTF8": "0"})],
)
def test_a_name_need_not_be_text(tmp_path: Path, name: str, locale: dict[str, str]):
    config, data = write_problem(tmp_path, SHORT)
    options = {"cwd": tmp_path, "env": locale}
    assert finish("train", config, "--data", data, "--out", name, **options)[::2] == (0, "")
    assert finish("evaluate", name, "--data", data, "--json", **options)[::2] == (0, "")
    assert finish("report", name, **options)[::2] == (0, "")
    assert os.path.exists(os.fsencode(tmp_path / name) + b"/report.html")
    # Data elsewhere have to be named in the run's config, which is text.
    (tmp_path / os.fsdecode(b"\xfe")).mkdir()
    moved = data.rename(tmp_path / os.fsdecode(b"\xfe") / "data.nc")
    status, _, err = finish("train", config, "--data", moved, "--out", "run", **options)
    assert status == 2 and "its name is no text in" in err
    assert not (tmp_path / "run").exists()


@pytest.mark.many
@pytest.mark.parametrize(
    "place, message",
    [
        ("loop", "is a link that leads nowhere, or to itself"),
        ("loop/run", "Too many levels of symbolic links"),
        ("pipe", "is a file, not a folder"),
        ("pipe/run", "no permission to write in"),
        ("n" * 300, "File name too long"),
    ],
)
def test_what_is_no_place_for_a_run_is_refused(tmp_path: Path, place: str, message: str):
    config, data = write_problem(tmp_path, SHORT)
    (tmp_path / "loop").symlink_to("loop")
    os.mkfifo(tmp_path / "pipe")
    for given in (["train", config, "--data", data, "--out"], ["evaluate", "--data", data]):
        status, _, err = call(*given, tmp_path / place)
        assert status == 2 and err.count("impindiff: ") == 1, err
        assert message in err or given[0] == "evaluate"


@pytest.mark.thorough
def test_a_truth_beyond_the_precision_is_refused(finished: Path):
    data = make_dataset()
    data["concentration"] = data["concentration"].astype("float64")
    data["concentration"][3, 4, 2, 1] = 1e300
    save(data, finished / "wild.nc")
    status, out, err = call("evaluate", finished / "run", "--data", finished / "wild.nc", "--json")
    assert (status, out) == (2, "") and "at sample 3, time 4, x 2, y 1" in err


@pytest.mark.parametrize("name", ["pipe.toml", "pipe.nc"])
def test_a_pipe_is_not_waited_for(tmp_path: Path, name: str):
    config, data = write_problem(tmp_path, SHORT)
    os.mkfifo(tmp_path / name)
    given = {config.suffix: config, data.suffix: data, Path(name).suffix: tmp_path / name}
    status, _, err = call("train", given[".toml"], "--data", given[".nc"], "--out", tmp_path / "r")
    assert status == 2 and f"{name}: " in err and "is a pipe" in err


def test_a_place_that_loses_what_is_written_is_refused_before_training(tmp_path: Path, monkeypatch):
    from impindiff.train import _checkpoints

    def full(*given: object) -> None:
        raise OSError(28, "No space left on device")

    config, data = write_problem(tmp_path, SHORT)
    monkeypatch.setattr(_checkpoints, "seal", full)
    status, _, err = call("train", config, "--data", data, "--out", tmp_path / "run")
    assert status == 2 and "No space left on device" in err
    assert (tmp_path / "run" / "metrics.jsonl").read_text() == "", "no epoch was trained"


@pytest.mark.thorough
@pytest.mark.parametrize("closed", [[1], [2], [0, 1, 2]])
def test_a_standard_stream_may_be_closed(tmp_path: Path, closed: list[int]):
    """Files that are opened would get its number, and what is printed would go into them."""
    config, data = write_problem(tmp_path, SHORT)
    given = ["train", config, "--data", data, "--out", tmp_path / "run"]
    shut = " ".join(f"{number}<&-" for number in closed)
    command_line = [sys.executable, "-m", "impindiff", *map(str, given)]
    shell = ["sh", "-c", f'exec "$@" {shut}', "sh", *command_line]
    done = subprocess.run(shell, capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, done.stderr
    assert ("Learned" in done.stdout) == (1 not in closed)
    assert done.stderr == ""
    json.loads((tmp_path / "run" / "summary.json").read_text())
