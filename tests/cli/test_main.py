"""The end of a command's process."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import typer

import impindiff
from impindiff._errors import FolderLostError, numerics_errors
from impindiff.cli import _errors
from impindiff.cli._errors import reported

WITHOUT_JAX = """
import sys
sys.modules["jax"] = None
sys.argv = ["impindiff", "--version"]
from impindiff.cli import main
main()
"""


def test_the_version_is_printed_without_jax():
    ended = subprocess.run(
        [sys.executable, "-c", WITHOUT_JAX], capture_output=True, text=True, timeout=60
    )
    assert (ended.returncode, ended.stderr) == (0, "")
    assert ended.stdout == f"impindiff {impindiff.__version__}\n"


@pytest.mark.parametrize("name", ["typer.py", "pydantic.py"])
def test_what_lies_in_the_current_folder_is_not_imported(tmp_path: Path, name: str):
    """It may be a stranger's run; Python puts that folder first for `python -m`."""
    (tmp_path / name).write_text("print('executed')")
    environment = {**os.environ, "PYTHONPATH": str(Path(impindiff.__file__).parents[1])}
    ended = subprocess.run(
        [sys.executable, "-m", "impindiff", "--version"],
        capture_output=True,
        text=True,
        timeout=60,
        cwd=tmp_path,
        env=environment,
    )
    assert ended.stdout == f"impindiff {impindiff.__version__}\n", ended.stderr


WAITED_FOR = """
import os, signal, sys, threading, time
from impindiff.cli import main

def compile():
    threading.main_thread().join()
    for _ in range(100):
        time.sleep(0.1)
        os.kill(os.getpid(), signal.SIGINT)
    print("waited to the end")

threading.Thread(target=compile).start()
sys.argv = ["impindiff", "cases"]
main()
"""


@pytest.mark.thorough
def test_interrupted_while_a_thread_is_waited_for_it_ends_at_once():
    ended = subprocess.run(
        [sys.executable, "-c", WAITED_FOR], capture_output=True, text=True, timeout=60
    )
    assert ended.returncode == 130
    assert "burgers-steady" in ended.stdout and "to the end" not in ended.stdout
    assert not ended.stderr


REQUESTED = """
import os, signal, sys, time, typer
from impindiff.cli._console import answer
from impindiff.cli._errors import reported

number = getattr(signal, sys.argv[1])
# Whatever this process was started with.
to_ignore = sys.argv[2] == "ignored"
signal.signal(number, signal.SIG_IGN if to_ignore else signal.SIG_DFL)

@reported
def work():
    try:
        for _ in range(int(sys.argv[3])):
            os.kill(os.getpid(), number)
            time.sleep(0.01)
    finally:
        answer("saved")

try:
    work()
except typer.Exit as end:
    sys.exit(end.exit_code)
"""


@pytest.mark.many
@pytest.mark.parametrize("name", ["SIGINT", "SIGTERM", "SIGHUP", "SIGXCPU", "SIGUSR1"])
@pytest.mark.parametrize("is_ignored", [False, True])
def test_every_request_to_end_is_an_interrupt_unless_it_is_to_be_ignored(
    name: str, is_ignored: bool
):
    given = [name, "ignored" if is_ignored else "handled", "3"]
    ended = subprocess.run(
        [sys.executable, "-c", REQUESTED, *given], capture_output=True, text=True, timeout=60
    )
    assert ended.stdout == "saved\n"
    if is_ignored:
        assert (ended.returncode, ended.stderr) == (0, "")
    else:
        assert ended.returncode == 130
        assert ended.stderr == "impindiff: interrupted: nothing more was done.\n"


WITHIN = """
import signal
from impindiff.cli._errors import _interrupt
from impindiff.cli._main import handle_requests

handle_requests(_interrupt)
try:
    exec("signal.raise_signal(signal.SIGTERM)")
except KeyboardInterrupt:
    print("handled")
"""


def test_a_request_within_code_of_its_own_kills_nothing():
    """Python makes dataclasses by `exec`, and remembers a KeyboardInterrupt that left one."""
    ended = subprocess.run(
        [sys.executable, "-c", WITHIN], capture_output=True, text=True, timeout=60
    )
    assert (ended.returncode, ended.stdout) == (0, "handled\n")


IMPORTING = """
import sys
from impindiff.cli._errors import reported

@reported
def work():
    import slow
    import time
    time.sleep(10)

sys.path.insert(0, sys.argv[1])
try:
    work()
finally:
    print("whole" if hasattr(sys.modules.get("slow"), "end") else "cut off")
"""


def test_an_import_is_not_cut_off(tmp_path: Path):
    """Native code that is interrupted while it starts crashes: one report in a dozen did."""
    (tmp_path / "slow.py").write_text(
        "import signal, time\nsignal.raise_signal(signal.SIGTERM)\ntime.sleep(0.1)\nend = 1\n"
    )
    ended = subprocess.run(
        [sys.executable, "-c", IMPORTING, tmp_path], capture_output=True, text=True, timeout=60
    )
    assert ended.stdout == "whole\n"
    assert "impindiff: interrupted: nothing more was done.\n" in ended.stderr


HALF_MADE = """
import signal
from impindiff.cli._errors import reported

class File:
    def __init__(self):
        signal.raise_signal(signal.SIGTERM)
        self.handle = None

    def __del__(self):
        self.handle.close()

@reported
def work():
    file = File()

work()
"""


def test_what_an_interrupt_leaves_half_made_is_no_traceback():
    ended = subprocess.run(
        [sys.executable, "-c", HALF_MADE], capture_output=True, text=True, timeout=60
    )
    assert "impindiff: interrupted: nothing more was done." in ended.stderr
    assert "Exception ignored" not in ended.stderr


AT_THE_END = """
import os, signal, sys
from impindiff.cli import main

class Last:
    def __del__(self, kill=os.kill, own=os.getpid(), number=signal.SIGTERM, write=os.write):
        write(1, b"the end")
        kill(own, number)

sys.last = Last()
sys.argv = ["impindiff", "cases"]
main()
"""


@pytest.mark.thorough
def test_a_request_while_python_takes_itself_down_changes_no_status():
    ended = subprocess.run(
        [sys.executable, "-c", AT_THE_END], capture_output=True, text=True, timeout=60
    )
    assert (ended.returncode, ended.stderr) == (0, "the end")


def test_a_request_before_the_command_begins_leaves_no_traceback():
    code = (
        "import signal, impindiff.cli._main as m\n"
        "m.keep_programs = lambda: signal.raise_signal(signal.SIGTERM)\n"
        "m.main()"
    )
    ended = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    assert ended.returncode == 130
    assert ended.stderr == "impindiff: interrupted: nothing was done.\n"


def test_a_folder_that_is_lost_has_a_status_and_one_message(capsys: pytest.CaptureFixture):
    @reported
    def work() -> None:
        raise FolderLostError("RUN was moved to OTHER.")

    with pytest.raises(typer.Exit) as ended:
        work()
    assert ended.value.exit_code == 3
    assert capsys.readouterr().err == "impindiff: stopped: RUN was moved to OTHER.\n"


def test_a_current_folder_that_was_deleted_is_named(tmp_path, monkeypatch, capsys):
    (tmp_path / "gone").mkdir()
    monkeypatch.chdir(tmp_path / "gone")
    (tmp_path / "gone").rmdir()

    @reported
    def work() -> None:
        os.getcwd()

    with pytest.raises(typer.Exit) as ended:
        work()
    assert ended.value.exit_code == 2
    assert "the folder that this command was started in is gone" in capsys.readouterr().err


def test_an_interrupt_in_the_middle_of_an_import_of_jax_stays_one(monkeypatch: pytest.MonkeyPatch):
    """Importing it again would fail, and its traceback take the place of the interrupt."""
    for name in [name for name in sys.modules if name.partition(".")[0] == "jax"]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "jax", None)
    with pytest.raises(KeyboardInterrupt), numerics_errors():
        raise KeyboardInterrupt


@pytest.mark.parametrize(
    "said, message",
    [
        (
            "Unable to initialize backend 'cuda': no device. (set JAX_PLATFORMS='' to choose)",
            "JAX_PLATFORMS=cuda: Unable to initialize backend 'cuda': no device. Set JAX_",
        ),
        ("RESOURCE_EXHAUSTED: Out of memory allocating 8 bytes.", "error: not enough memory: RES"),
    ],
)
def test_a_machine_without_what_is_asked_for_is_a_message(monkeypatch, capsys, said, message):
    @reported
    def work() -> None:
        raise RuntimeError(said)

    monkeypatch.setenv("JAX_PLATFORMS", "cuda")
    with pytest.raises(typer.Exit) as ended:
        work()
    found = capsys.readouterr().err
    assert ended.value.exit_code == 2 and message in found and found.count("\n") == 1


def test_a_request_while_one_is_being_told_is_told(monkeypatch, capsys):
    """Several signals within a millisecond: the command line would end without a word."""
    calls: list[object] = []

    def requests(handler):
        calls.append(handler)
        if len(calls) == 2:
            raise _errors.Interrupted
        return {}

    @reported
    def work() -> None:
        raise _errors.Interrupted

    monkeypatch.setattr(_errors, "handle_requests", requests)
    with pytest.raises(typer.Exit) as ended:
        work()
    assert ended.value.exit_code == 130 and calls[1:] == [signal.SIG_IGN] * 2
    assert capsys.readouterr().err == "impindiff: interrupted: nothing more was done.\n"


def test_a_request_in_the_hook_of_what_was_swallowed_comes_again(monkeypatch):
    class Swallowed:
        @property
        def exc_value(self):
            raise _errors.Interrupted

    sent: list[int] = []
    monkeypatch.setattr(_errors, "_send_again", sent.append)
    _errors._insist(Swallowed())
    assert sent == [signal.SIGINT]


@pytest.mark.thorough
def test_a_platform_that_is_not_there_is_a_message():
    environment = {**os.environ, "JAX_PLATFORMS": "nonsense"}
    code = "from impindiff.cli._errors import reported\n@reported\ndef work():\n"
    code += "    import jax\n    jax.numpy.zeros(3)\nwork()"
    ended = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=60, env=environment
    )
    assert "impindiff: error: JAX_PLATFORMS=nonsense: Unable to initialize" in ended.stderr
