"""Every file of a run damaged, one at a time: a message or a whole answer, never a traceback."""

import os
import random
import shutil
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import pytest
from typer.testing import CliRunner

from impindiff.cli._app import app

Damage = Callable[[Path], None]


def files_of(path: Path) -> list[Path]:
    """A file, or the files in a folder."""
    return [path] if path.is_file() else sorted(p for p in path.rglob("*") if p.is_file())


def remove(path: Path) -> None:
    shutil.rmtree(path) if path.is_dir() else path.unlink()


def empty(path: Path) -> None:
    for file in files_of(path):
        file.write_bytes(b"")


def halve(path: Path) -> None:
    for file in files_of(path):
        content = file.read_bytes()
        file.write_bytes(content[: len(content) // 2])


def change_a_byte(path: Path) -> None:
    random.seed(0)
    for file in files_of(path):
        content = bytearray(file.read_bytes())
        if content:
            content[random.randrange(len(content))] ^= 0x55
            file.write_bytes(content)


def mistake(path: Path) -> None:
    """JSON that is valid, and says what it should not."""
    for file in files_of(path):
        file.write_text('{"data": 3, "code": [1], "fields": [], "epoch": "x", "samples": null}\n')


def swap(path: Path) -> None:
    """A folder in the place of a file, or a file in the place of a folder."""
    is_folder = path.is_dir()
    remove(path)
    path.write_text("x") if is_folder else path.mkdir()


def pipe(path: Path) -> None:
    """What waits for a writer when it is opened."""
    remove(path)
    os.mkfifo(path)


def loop(path: Path) -> None:
    """A link to itself."""
    remove(path)
    path.symlink_to(path.name)


def stretch(path: Path) -> None:
    """A gigabyte of nothing, which takes no place on the disk."""
    remove(path)
    with path.open("wb") as file:
        file.truncate(10**9)


DAMAGES = (remove, empty, halve, change_a_byte, mistake, swap, pipe, loop)
NAMES = (
    *("config.toml", "provenance.json", "metrics.jsonl", "summary.json", "forecast.nc"),
    *("report.html", "checkpoints", "OLDER", "NEWEST", "NEWEST/learned", "NEWEST/progress"),
    *("NEWEST/optimiser", "NEWEST/sha256.json", "NEWEST/run.json"),
)
COMMANDS = {
    "evaluate": ["evaluate", "run", "--data", "data.nc", "--json"],
    "report": ["report", "run"],
    "resume": ["train", "run/config.toml", "--data", "data.nc", "--out", "run", "--resume"],
}


def outcome(finished: Path, name: str, damage: Damage, command: list[str]) -> tuple[int, str]:
    """Exit status and standard error of a command on a copy of a run with one file damaged."""
    run = finished / "run"
    shutil.copytree(run, finished / "whole", dirs_exist_ok=True)
    try:
        steps = sorted((run / "checkpoints").iterdir(), key=lambda path: int(path.name))
        older, newest = (f"checkpoints/{step.name}" for step in steps[-2:])
        damage(run / name.replace("OLDER", older).replace("NEWEST", newest))
        result = CliRunner().invoke(app, command)
    finally:
        shutil.rmtree(run)
        (finished / "whole").rename(run)
    said = result.stderr
    assert result.exit_code in (0, 2), (name, damage, command, said, result.exception)
    assert "Traceback" not in said
    assert said.count("impindiff: error: ") == (result.exit_code == 2), said
    assert not (command[-1] == "--json" and result.exit_code == 2 and result.stdout)
    return result.exit_code, said


@pytest.mark.slow
@pytest.mark.filterwarnings("default::RuntimeWarning")
@pytest.mark.parametrize("name", NAMES)
def test_a_damaged_file_is_a_message_or_done_without(finished: Path, monkeypatch, name: str):
    monkeypatch.chdir(finished)
    found = Counter(
        (which, outcome(finished, name, damage, command)[0])
        for damage in DAMAGES
        for which, command in COMMANDS.items()
    )
    assert found.total() == len(DAMAGES) * len(COMMANDS)


@pytest.mark.thorough
@pytest.mark.many
@pytest.mark.filterwarnings("default::RuntimeWarning")
@pytest.mark.parametrize(
    "name, damage, which, status, message",
    [
        ("provenance.json", remove, "resume", 2, "provenance.json cannot be read (No such file"),
        ("provenance.json", halve, "resume", 2, "provenance.json is damaged or cut short"),
        ("provenance.json", mistake, "resume", 2, "provenance.json: 'data': Input should be"),
        ("metrics.jsonl", remove, "resume", 0, "says nothing of epochs 1 to 9, which were trained"),
        ("metrics.jsonl", swap, "resume", 2, "metrics.jsonl cannot be read (is no file)"),
        ("metrics.jsonl", halve, "report", 0, "9, which were trained: the report leaves a gap"),
        ("summary.json", empty, "report", 2, "summary.json cannot be read: it is empty"),
        ("config.toml", empty, "evaluate", 2, "config.toml: key 'data' is missing"),
        ("NEWEST/learned", empty, "evaluate", 0, "The checkpoint before it is taken"),
        ("NEWEST", swap, "resume", 0, "cannot be read: Not a directory"),
        ("NEWEST", remove, "evaluate", 0, "and 9 epochs were trained"),
        ("summary.json", pipe, "report", 2, "summary.json is no file, but a folder, a pipe"),
        ("config.toml", pipe, "report", 0, "config.toml cannot be read (is a pipe"),
        ("config.toml", stretch, "report", 0, "config.toml cannot be read (is 954 MiB long"),
        ("config.toml", stretch, "resume", 2, "config cannot be read (is 954 MiB long"),
        ("provenance.json", stretch, "resume", 2, "is 954 MiB long, and at most 64 MiB are read"),
        ("summary.json", stretch, "report", 2, "summary.json cannot be read: it is 954 MiB long"),
        ("forecast.nc", loop, "report", 2, "forecast.nc is no file, but a folder, a pipe"),
        ("NEWEST/run.json", pipe, "evaluate", 0, "run.json was changed or cut short"),
        ("summary.json", mistake, "report", 2, "it has no object 'fields'"),
        ("summary.json", swap, "resume", 2, "summary.json cannot be written (Is a directory)"),
        ("checkpoints", halve, "evaluate", 2, "No whole checkpoint is left"),
        ("checkpoints", swap, "resume", 2, "takes the place of the checkpoints: move it away"),
        ("checkpoints", remove, "resume", 0, "holds no checkpoint: the training starts again"),
    ],
)
def test_what_is_missing_is_said(
    finished: Path, monkeypatch, name: str, damage: Damage, which: str, status: int, message: str
):
    monkeypatch.chdir(finished)
    found, said = outcome(finished, name, damage, COMMANDS[which])
    assert (found, message in said) == (status, True), said
