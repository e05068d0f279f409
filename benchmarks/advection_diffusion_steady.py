"""The main job from command to report: how long it takes and how good it is.

Each row is a fresh process of the command line, compilation included. Errors are relative L1
errors in percent at t = 0.2, mean over the five samples that were not trained on. Rows:

- both presets;
- the paper preset with 1e-2 as the longest step in every stage, not only in forecasts;
- the paper preset with solves that are loose at first, see `ProgressiveTolerance`;
- with `--reference FILE`, the paper preset on data made by the paper's own code;
- one gradient of 20 Crank-Nicolson steps of 1e-2 for 10 samples, the network included;
- the data of the case against the same data made with a quarter of the time step.
"""

import json
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import equinox as eqx
import jax
import numpy as np
import tomli_w

import impindiff as ipd
from impindiff.benchmark import announce, median_seconds
from impindiff.cases import CASES
from impindiff.latent import learned
from impindiff.train import Observations, make_objective, whole

CASE = "advection-diffusion-steady"


def train_row(name: str, command: list[str], out: Path) -> dict[str, Any]:
    """Run a command that ends in a run folder, and read the folder."""
    announce(name)
    began = time.perf_counter()
    arguments = [sys.executable, "-m", "impindiff", *command, "--out", str(out)]
    subprocess.run(arguments, check=True, stdout=subprocess.DEVNULL)
    seconds = time.perf_counter() - began
    summary = json.loads((out / "summary.json").read_text())
    return {
        "what": name,
        "seconds": seconds,
        "training_seconds": summary["training_seconds"],
        "epochs": summary["epochs"],
        **iterations(out / "metrics.jsonl"),
        "error_percent": summary["fields"]["concentration"]["relative_l1_percent"][-1],
        "latent_error_percent": max(
            error["relative_l2_percent"] for error in summary["latent"].values()
        ),
        "peak_memory_mib": summary["peak_memory_bytes"] / 2**20,
    }


def iterations(metrics: Path) -> dict[str, float]:
    """Iterations of a solve, forward and adjoint, mean over the training."""
    epochs = [json.loads(line) for line in metrics.read_text().splitlines()]
    names = ("solver_iterations", "adjoint_iterations")
    return {name: statistics.mean(epoch.get(name) or 0 for epoch in epochs) for name in names}


def variant(path: Path, change: Callable[[dict[str, Any]], Any]) -> Path:
    """The config of the paper preset, changed."""
    config = CASES[CASE].recipe("paper")
    change(config["training"])
    path.write_text(tomli_w.dumps(config))
    return path


def unchanged(training: dict[str, Any]) -> None:
    """The preset as it is."""


def one_dt(training: dict[str, Any]) -> None:
    """No time step of the stages' own."""
    for stage in training["stages"]:
        stage.pop("dt", None)


def progressive(training: dict[str, Any]) -> None:
    """Loose solves at first."""
    training["progressive_tolerance"] = {}


VARIANTS = {
    "preset paper, dt 1e-2 in every stage": one_dt,
    "preset paper, progressive tolerance": progressive,
}


def gradient_row(data) -> dict[str, Any]:
    """One gradient of the like-for-like work, in float32."""
    announce("one gradient")
    grid = ipd.grid_of(data, "concentration")
    names = ("advection_x", "advection_y")
    velocity = ipd.SineField(2, names, key=jax.random.key(0))
    system = ipd.advection_diffusion(grid, velocity, 1e-3)
    observed = Observations.of(system, data, ":", [0.2])

    arrays, frozen = eqx.partition(system, learned(system))

    @eqx.filter_jit
    def step(arrays, frozen, observed):
        return make_objective(frozen, whole(observed, 1e-2), ipd.CrankNicolson())(arrays)

    seconds = median_seconds(lambda: step(arrays, frozen, observed))
    return {"what": "gradient, 20 steps, 10 samples, with network", "seconds": seconds}


def data_row() -> dict[str, Any]:
    """The largest relative L1 error of the case's data against a quarter of the step."""
    coarse, fine = (
        CASES[CASE].generate(10, 0, dt=dt)["concentration"].values for dt in (1e-3, 2.5e-4)
    )
    difference = np.abs(coarse.astype(np.float64) - fine).sum((2, 3)) / np.abs(fine).sum((2, 3))
    return {"what": "data against dt/4", "error_percent": float(100 * difference.max())}


def rows(reference: Path | None = None) -> Iterator[dict[str, Any]]:
    """The rows named above, in that order."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        for preset in ("quick", "paper"):
            command = ["run", CASE, "--preset", preset]
            yield train_row(f"preset {preset}", command, folder / preset)
        data = str(folder / "paper" / "data.nc")
        for title, change in VARIANTS.items():
            config = variant(folder / "config.toml", change)
            command = ["train", str(config), "--data", data]
            yield train_row(title, command, folder / change.__name__)
        if reference:
            config = variant(folder / "config.toml", unchanged)
            command = ["train", str(config), "--data", str(reference)]
            yield train_row("preset paper on reference data", command, folder / "reference")
        yield gradient_row(ipd.open_dataset(data))
    yield data_row()
