"""The command in a process of its own: its streams, its exit status, and its end by force."""

import json
import os
import pty
import resource
import signal
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path

import pytest
from small_problem import command, losses, write_problem

ADAM = {"optimiser": "adam", "epochs": 400, "learning_rate": 4e-3}
LONG = {
    "training.stages": [ADAM, {"optimiser": "lbfgs", "epochs": 60, "memory": 5}],
    "training.checkpoint_every": 20,
    "training.validate_every": 7,
}


def finish(process: subprocess.Popen, status: int = 0) -> tuple[str, str]:
    out, err = process.communicate(timeout=300)
    assert process.returncode == status, (process.returncode, out, err)
    assert "Traceback" not in err
    return out, err


def wait_for_epochs(process: subprocess.Popen, run: Path, number: int) -> None:
    metrics = run / "metrics.jsonl"
    while not metrics.exists() or metrics.read_bytes().count(b"\n") < number:
        assert process.poll() is None, process.communicate()
        time.sleep(0.02)


@pytest.mark.thorough
def test_results_go_to_standard_output_and_nothing_to_standard_error(finished: Path):
    given = ["evaluate", finished / "run", "--data", finished / "data.nc", "--json"]
    out, err = finish(command(*given))
    assert err == ""
    assert out.count("\n") == 1 and json.loads(out)["samples"] == [0, 1, 2, 3]


@pytest.mark.thorough
def test_a_reader_that_leaves_is_no_error():
    process = command("cases")
    assert process.stdout is not None
    process.stdout.close()
    process.stdout = None
    _, err = process.communicate(timeout=60)
    assert (process.returncode, err) == (0, "")


@pytest.mark.thorough
def test_a_message_goes_to_standard_error_alone(tmp_path: Path):
    out, err = finish(command("report", tmp_path), status=2)
    assert out == ""
    assert err.startswith("impindiff: error: ") and str(tmp_path) in err
    assert err.count("\n") == 1, "a message is not wrapped where there is no terminal"


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a problem, and in `whole` its run that nothing disturbed."""
    folder = tmp_path_factory.mktemp("whole")
    config, data = write_problem(folder, LONG)
    out, err = finish(command("train", config, "--data", data, "--out", folder / "whole"))
    assert out.startswith("Learned") and err == ""
    return folder


@pytest.mark.slow
@pytest.mark.parametrize("name", ["SIGINT", "SIGTERM", "SIGHUP", "SIGUSR1", "SIGKILL"])
def test_a_training_ended_by_force_goes_on_to_the_same_history(whole: Path, name: str):
    out = whole / f"ended by {name}"
    given = ["train", whole / "problem.toml", "--data", whole / "data.nc", "--out", out]
    for epochs in (3, 130, 403):
        process = command(*given, *(["--resume"] if out.exists() else []))
        wait_for_epochs(process, out, epochs)
        process.send_signal(getattr(signal, name))
        if name == "SIGKILL":
            finish(process, status=-9)
            continue
        _, err = finish(process, status=130)
        assert f"{out}/checkpoints/" in err and "holds what was trained to epoch" in err
        assert f"To go on: impindiff train '{out}/config.toml' --out '{out}' --resume" in err
        assert not (out / "summary.json").exists()
    finish(command("train", out / "config.toml", "--out", out, "--resume"))
    assert losses(out) == losses(whole / "whole")


@pytest.mark.slow
def test_of_two_runs_into_one_folder_one_is_refused(whole: Path):
    out = whole / "contested"
    given = ["train", whole / "problem.toml", "--data", whole / "data.nc", "--out", out]
    first = command(*given)
    wait_for_epochs(first, out, 1)
    _, err = finish(command(*given, "--resume"), status=2)
    assert f"process {first.pid} on " in err and "is writing this run" in err
    _, err = finish(command(*given), status=2)
    assert "already holds a run" in err
    finish(first)
    assert losses(out) == losses(whole / "whole")


@pytest.mark.slow
def test_two_runs_begun_at_once_do_not_mix(whole: Path):
    out = whole / "at once"
    given = ["train", whole / "problem.toml", "--data", whole / "data.nc", "--out", out]
    both = [command(*given) for _ in range(2)]
    for process in both:
        process.wait(timeout=300)
    assert sorted(process.returncode for process in both) == [0, 2]
    errors = [process.communicate()[1] for process in both]
    assert sorted(map(bool, errors)) == [False, True]
    assert losses(out) == losses(whole / "whole")


@pytest.mark.slow
def test_a_disk_that_fills_up_stops_a_training_that_can_go_on(whole: Path):
    """A limit on the size of a file stands in for the disk's."""
    out = whole / "full"
    given = ["train", whole / "problem.toml", "--data", whole / "data.nc", "--out", out]
    limit = 40_000  # bytes: reached by the metrics after some two hundred epochs
    process = command(*given, env={"JAX_COMPILATION_CACHE_DIR": ""})
    resource.prlimit(process.pid, resource.RLIMIT_FSIZE, (limit, limit))
    _, err = finish(process, status=2)
    assert "cannot be written (File too large)" in err
    assert 100 < (out / "metrics.jsonl").read_text().count("\n") < 400
    finish(command(*given, "--resume"))
    assert losses(out) == losses(whole / "whole")


@pytest.mark.slow
def test_an_interrupt_that_a_callback_swallows_comes_again(tmp_path: Path):
    """JAX runs Python in the garbage collector; what is raised there is only printed."""
    script = (
        "import gc, signal, sys, time, typer\n"
        "from impindiff.cli._errors import reported\n"
        "def swallow(*_):\n"
        "    gc.callbacks.clear(); signal.raise_signal(signal.SIGINT); time.sleep(0)\n"
        "@reported\n"
        "def work():\n"
        "    gc.callbacks.append(swallow); gc.collect(); time.sleep(30)\n"
        "try: work()\n"
        "except typer.Exit as end: sys.exit(end.exit_code)\n"
    )
    began = time.monotonic()
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
    assert done.returncode == 130, done.stderr
    assert "interrupted" in done.stderr
    assert time.monotonic() - began < 20


_ASK = """
import fcntl, sys, termios, typer
fcntl.ioctl(0, termios.TIOCSCTTY, 0)
from impindiff.cli._console import ask
from impindiff.cli._errors import reported
@reported
def work():
    raise typer.Exit(0 if ask("Well [really]?") else 2)
try: work()
except typer.Exit as end: sys.exit(end.exit_code)
"""


@pytest.mark.thorough
@pytest.mark.parametrize(
    "answer, status", [(b"y\n", 0), (b"\n", 2), (b"\xff\n", 2), (b"\x04", 2), (b"\x03", 130)]
)
def test_a_question_at_a_terminal_is_answered_refused_or_interrupted(answer: bytes, status: int):
    """By yes, by anything else and the end of the input, and by Ctrl-C."""
    terminal, inner = pty.openpty()
    process = subprocess.Popen(
        [sys.executable, "-c", _ASK],
        stdin=inner,
        stdout=inner,
        stderr=inner,
        start_new_session=True,
    )
    os.close(inner)
    said = b""
    with suppress(OSError):  # Linux reports the end of a terminal as an error
        while more := os.read(terminal, 1024):
            said += more
            if said.endswith(b"Well [really]? [y/N]: "):
                os.write(terminal, answer)
    os.close(terminal)
    assert process.wait(timeout=60) == status, said
