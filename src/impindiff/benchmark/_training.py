"""Training runs as fresh processes of the command line, kept in folders, and what they found."""

import json
import os
import statistics
import subprocess
import sys
import tomllib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from impindiff._errors import InputError
from impindiff.benchmark._measure import announce


def command(*arguments: str | Path) -> str:
    """Run a command of `impindiff`; what it complained of, empty where all went well.

    Raises: KeyboardInterrupt if it was interrupted.
    """
    line = [sys.executable, "-m", "impindiff", *map(str, arguments)]
    # Wide: in a message cut into short lines a path or number may be cut, too.
    done = subprocess.run(
        line,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "COLUMNS": "1000"},
    )
    if done.returncode == 130:
        raise KeyboardInterrupt
    if done.returncode == 0:
        return ""
    words = done.stderr.replace("│", " ").split()
    return " ".join(words)[-400:] or f"exit status {done.returncode}"


def case_files(case: str, folder: Path) -> Path:
    """The config of a built-in case, written with its code into a folder unless it is there."""
    if not folder.exists() and (failure := command("cases", case, "--out", folder)):
        raise InputError(failure)
    return folder / "config.toml"


def case_data(case: str, file: Path, *arguments: str) -> Path:
    """The data of a built-in case, made unless they are there."""
    if not file.exists():
        announce(f"{case}: its data")
        if failure := command("generate", case, "--out", file, *arguments):
            raise InputError(failure)
    return file


def train_once(config: Path, data: Path, folder: Path, changes: Sequence[str]) -> str:
    """Train, unless it is done already; go on where it was interrupted.

    Args:
        config: of the run.
        data: for it.
        folder: of the run.
        changes: `KEY=VALUE`, see `impindiff train --set`.

    Returns: what went wrong, empty where all went well.
    """
    if (folder / "summary.json").exists():
        return ""
    announce(str(folder))
    sets = [part for change in changes for part in ("--set", change)]
    resume = ["--resume"] if folder.exists() else []
    return command("train", config, "--data", data, "--out", folder, *sets, *resume)


def errors_of(folder: Path) -> dict[str, Any]:
    """How well a finished run forecasts what it was not trained on, and knows what was unknown.

    Relative L1 errors of the first field that it was trained on, means over samples; relative L2
    errors of latents, the largest.
    """
    summary = json.loads((folder / "summary.json").read_text())
    data = tomllib.loads((folder / "config.toml").read_text())["data"]
    field = summary["fields"][data.get("field") or data["fields"][0]]
    times, errors = field["time"], field["relative_l1_percent"]
    last = max(summary["training_times"])
    at_last = min(range(len(times)), key=lambda k: abs(times[k] - last))
    latent = [error["relative_l2_percent"] for error in summary["latent"].values()]
    return {
        "error_at_last_training_time_percent": errors[at_last],
        "error_at_end_percent": errors[-1],
        "end": times[-1],
        "latent_error_percent": max(latent) if latent else None,
        "epochs": summary["epochs"],
        "parameters": summary["trainable_parameters"],
        "times": times,
        "errors_percent": errors,
    }


def epochs_of(folder: Path) -> list[dict[str, Any]]:
    """The epochs of a run, one object each."""
    return [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]


def cost_of(folder: Path) -> dict[str, float]:
    """What a finished run of a few epochs took.

    The first epoch compiles. Of the others, in which a forecast may be made now and then, the
    median.
    """
    summary, ends = json.loads((folder / "summary.json").read_text()), epochs_of(folder)
    seconds = [end["seconds"] for end in ends]
    later = [b - a for a, b in zip(seconds, seconds[1:], strict=False)]
    return {
        "seconds_of_first_epoch": seconds[0],
        "seconds_an_epoch": statistics.median(later),
        "peak_memory_mib": summary["peak_memory_bytes"] / 2**20,
    }
