"""What all parts share: a small problem that is trained in seconds, and commands on it."""

import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import Executor
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

from small_problem import write_problem

# The user's own files, of which a run keeps copies.
_PHYSICS = """
import impindiff as ipd
from law import DIFFUSIVITY

def make_system(grid, key):
    names = ("advection_x", "advection_y")
    return ipd.advection_diffusion(
        grid, ipd.SineField(2, names, width=8, depth=1, key=key), DIFFUSIVITY
    )
"""
_CHANGES = {
    "system": {"build": "physics:make_system"},
    "training.stages": [
        {"optimiser": "adam", "epochs": 120, "learning_rate": 4e-3},
        {"optimiser": "lbfgs", "epochs": 30, "memory": 5},
    ],
    "training.checkpoint_every": 10,
    "training.validate_every": 7,
}
# The command line, but with forecasts in pieces of a few states: they are written often.
_IN_PIECES = """
import sys
from impindiff.forecast import continue_forecast, forecast_to
for function in (forecast_to, continue_forecast):
    function.__kwdefaults__["piece"] = 10 * 4 * 12 * 6 * 4
from impindiff.cli import main
main()
"""
OTHER_SIGNALS = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGUSR1, signal.SIGXCPU)


@dataclass
class Row:
    """One kind of fault: how often it was tried, what was lost, and what else was found."""

    fault: str
    tried: int
    losses: list[str] = field(default_factory=list)
    found: str = ""


class Workshop:
    """A folder with the problem, and the processes that work on it.

    Args:
        folder: where everything lies.
        pool: runs what may be done at the same time.
        seed: of all random moments.
    """

    def __init__(self, folder: Path, pool: Executor, seed: int) -> None:
        self.folder, self._pool, self._seed = folder, pool, seed
        self.config, self.data = write_problem(folder, _CHANGES)
        (folder / "physics.py").write_text(_PHYSICS)
        (folder / "law.py").write_text("DIFFUSIVITY = 0.02\n")
        self.environment = {
            **os.environ,
            "JAX_PLATFORMS": "cpu",
            "JAX_COMPILATION_CACHE_DIR": str(folder / "compiled"),
            "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0",
            "JAX_PERSISTENT_CACHE_MIN_ENTRY_SIZE_BYTES": "-1",
        }

    def map(self, function: Callable, items: Iterable) -> list:
        """Call a function for each item, as many at a time as there are workers."""
        return list(self._pool.map(function, items))

    def random(self, *key: object) -> random.Random:
        """Random numbers that are the same whatever else is done."""
        return random.Random(f"{self._seed} {key}")

    def start(self, *arguments: object, **options) -> subprocess.Popen:
        """Begin a command."""
        given = [sys.executable, "-m", "impindiff", *map(str, arguments)]
        return self.popen(given, **options)

    def start_in_pieces(self, *arguments: object, **options) -> subprocess.Popen:
        """Begin a command whose forecasts are written in many pieces."""
        return self.popen([sys.executable, "-c", _IN_PIECES, *map(str, arguments)], **options)

    def popen(self, given: Sequence[str], shell: str = "", **options) -> subprocess.Popen:
        """Begin a process; in a shell where words of it go around what is begun, as `"$@"`."""
        given = ["sh", "-c", shell, "sh", *given] if shell else given
        pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
        return subprocess.Popen(given, **{"env": self.environment, **pipes, **options})

    def train(self, out: Path, *more: object, **options) -> subprocess.Popen:
        """Begin a training, or go on with one."""
        return self.start(
            "train", self.config, "--data", self.data, "--out", out, "--resume", *more, **options
        )

    @cached_property
    def whole(self) -> tuple[Path, float]:
        """A run that nothing disturbed, and how long it took from start to end."""
        end(self.train(self.folder / "first"))  # which compiles
        began = time.monotonic()
        status, message = end(self.train(self.folder / "whole"))
        if status:
            raise RuntimeError(f"the undisturbed run failed: {message}")
        return self.folder / "whole", time.monotonic() - began


def end(process: subprocess.Popen, seconds: float = 300) -> tuple[int, str]:
    """Exit status and standard error of a process; one that does not end is killed."""
    try:
        _, err = process.communicate(timeout=seconds)
    except subprocess.TimeoutExpired:
        process.kill()
        process.communicate()
        return -1, f"did not end within {seconds:g} s"
    return process.returncode, err or ""


def leftovers(folder: Path) -> list[str]:
    """Files that a killed writer left, and nobody removed."""
    names = [path.name for path in (*folder.iterdir(), *folder.glob("checkpoints/*"))]
    return [n for n in names if n.startswith(".") or "orbax-checkpoint-tmp" in n]


def kill(
    process: subprocess.Popen,
    number: signal.Signals,
    moment: Callable[[], bool],
    seconds: float,
) -> bool:
    """Send a signal as soon as the moment has come; False where the process ended before."""
    deadline = time.monotonic() + seconds
    while not moment():
        if process.poll() is not None or time.monotonic() > deadline:
            return False
        time.sleep(0.001)
    if process.poll() is not None:
        return False
    process.send_signal(number)
    return True
