"""The paper's experiments, beside the baselines that they are compared with.

Each row is a fresh process of the command line that trains a built-in case by one method, forecasts
the samples that were not trained on, beyond the training times, and is scored. All methods of a
case have the same data and the same snapshots:

- `impindiff`: the case as it is;
- the same with other fields for the unknown;
- the same with other ways to take steps and to differentiate them: explicit ones, in as many parts
  as are stable, and reverse mode through all fixed-point iterations ("unrolled");
- a recurrent network that knows no equation ("network").

Finished runs are kept in `--out` and taken from there the next time; one that was interrupted goes
on. `--case NAME` selects; `--quick` trains next to nothing, to see whether all works. A method that
fails has a row, too, which says how. Errors are relative L1 errors in percent, means over samples;
seconds an epoch leave out the first, which compiles.
"""

import json
import statistics
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import matplotlib.pyplot as plt

from impindiff import CASES, InputError
from impindiff.benchmark import announce

ADAM_THEN_LBFGS = (
    'training.stages=[{optimiser="adam",epochs=150,learning_rate=4e-3},'
    '{optimiser="lbfgs",epochs=150}]'
)
NETWORK = [
    "time.scheme=forward-euler",
    "time.dt=0.05",
    'training.stages=[{optimiser="adam",epochs=300,learning_rate=2e-3}]',
]
RUNGE_KUTTA = ["time.scheme=runge-kutta-4"]
UNROLLED = ["solver.nonlinear=anderson", "solver.adjoint=unrolled", "solver.max_steps=20"]


def fields(option: str, *names: str) -> dict[str, list[str]]:
    """The same case with other fields for the unknown."""
    return {
        f"field: {name}": [f"system.options.{option}={name}", ADAM_THEN_LBFGS] for name in names
    }


def methods(euler_parts: int) -> dict[str, list[str]]:
    """Other steps and gradients, and the network."""
    euler = ["time.scheme=forward-euler", f"time.substeps={euler_parts}"]
    return {
        f"forward Euler, {euler_parts} substeps": euler,
        "Runge-Kutta 4": RUNGE_KUTTA,
        "Crank-Nicolson, unrolled": UNROLLED,
    }


KNOWS_NOTHING = {"network": ["system.options.model=network", *NETWORK]}
METHODS: dict[str, dict[str, list[str]]] = {
    "advection-diffusion-steady": {
        "impindiff": [],
        **methods(4),
        "network": ['system={build="system:build_network"}', *NETWORK],
    },
    "advection-diffusion-dynamic": {
        "impindiff": [],
        **fields("conditioning", "separable", "film", "hypernetwork"),
        **methods(4),
        **KNOWS_NOTHING,
    },
    "burgers-steady": {
        "impindiff": [],
        **fields("field", "network"),
        **methods(4),
        **KNOWS_NOTHING,
    },
    "burgers-dynamic": {
        "impindiff": [],
        **fields("conditioning", "separable", "film", "hypernetwork"),
        **methods(4),
        **KNOWS_NOTHING,
    },
}
# What the paper reports or its code prints, of its own data: relative L1 errors in percent.
PAPER = {
    "advection-diffusion-steady": "0.168 to 0.176 at t = 0.2",
    "advection-diffusion-dynamic": "mostly under 2 to t = 0.4",
}
QUICK = ['training.stages=[{optimiser="adam",epochs=3,learning_rate=1e-3}]']


def impindiff(*arguments: str | Path) -> str:
    """Run a command; what it complained of, empty where all went well."""
    command = [sys.executable, "-m", "impindiff", *map(str, arguments)]
    done = subprocess.run(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
    if done.returncode == 130:
        raise KeyboardInterrupt
    if done.returncode == 0:
        return ""
    lines = done.stderr.replace("│", " ").strip().splitlines()
    return " ".join(" ".join(lines).split())[-300:] or f"exit status {done.returncode}"


def trained(case: str, method: str, changes: list[str], out: Path) -> dict[str, Any]:
    """The row of a method: from its folder, once it has finished there."""
    files, data = out / case / "case", out / case / "data.nc"
    if not files.exists():
        impindiff("cases", case, "--out", files)
    if not data.exists():
        announce(f"{case}: its data")
        if failure := impindiff("generate", case, "--out", data):
            raise InputError(failure)
    folder = out / case / "".join(c if c.isalnum() else "-" for c in method)
    if not (folder / "summary.json").exists():
        announce(f"{case}: {method}")
        arguments = [part for change in changes for part in ("--set", change)]
        train = ["train", files / "config.toml", "--data", data, "--out", folder, *arguments]
        failure = impindiff(*train, *(["--resume"] if folder.exists() else []))
        if failure:
            return {"case": case, "method": method, "failed": failure}
    return {"case": case, "method": method, **figures(folder), "paper": PAPER.get(case)}


def figures(folder: Path) -> dict[str, Any]:
    """What a finished run says of itself."""
    summary = json.loads((folder / "summary.json").read_text())
    epochs = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    (field,) = summary["fields"].values()
    times, errors = field["time"], field["relative_l1_percent"]
    last = max(summary["training_times"])
    at_last = min(range(len(times)), key=lambda k: abs(times[k] - last))
    spent = [b["seconds"] - a["seconds"] for a, b in zip(epochs, epochs[1:], strict=False)]
    found = [e["seconds"] for e in epochs if e.get("validation") and e["validation"] < 1.0]
    latent = [error["relative_l2_percent"] for error in summary["latent"].values()]
    return {
        "error_at_last_training_time_percent": errors[at_last],
        "error_at_end_percent": errors[-1],
        "end": times[-1],
        "latent_error_percent": max(latent) if latent else None,
        "epochs": summary["epochs"],
        "seconds": summary["training_seconds"],
        "seconds_an_epoch": statistics.median(spent) if spent else None,
        "seconds_to_1_percent": found[0] if found else None,
        "peak_memory_mib": summary["peak_memory_bytes"] / 2**20,
        "parameters": summary["trainable_parameters"],
        "times": times,
        "errors_percent": errors,
    }


def rows(
    case: str | None = None, out: Path | None = None, quick: bool = False
) -> Iterator[dict[str, Any]]:
    """A row for each case and method, see above."""
    if case is not None and case not in METHODS:
        raise InputError(f"there is no case {case!r} here; allowed: {', '.join(METHODS)}.")
    folder = out or Path("benchmark-paper-quick" if quick else "benchmark-paper")
    for name in [case] if case else [name for name in CASES if name in METHODS]:
        for method, changes in METHODS[name].items():
            yield trained(name, method, changes + (QUICK if quick else []), folder)


def draw(rows: list[dict[str, Any]], file: Path) -> None:
    """Errors against time, a panel for each case."""
    cases = list(dict.fromkeys(row["case"] for row in rows))
    figure, panels = plt.subplots(1, len(cases), figsize=(4.2 * len(cases), 3.4), squeeze=False)
    for panel, case in zip(panels[0], cases, strict=True):
        for row in rows:
            if row["case"] == case and "failed" not in row:
                panel.semilogy(row["times"][1:], row["errors_percent"][1:], label=row["method"])
        panel.set(title=case, xlabel="time", ylabel="relative L1 error [%]")
        panel.legend(fontsize=6)
    figure.tight_layout()
    figure.savefig(file, dpi=150)
    plt.close(figure)
