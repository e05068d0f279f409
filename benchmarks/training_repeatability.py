"""Whether a training ends at the same place: other round-off, other first weights.

The work: `examples/gray_scott.py`, a rate of two fields learned by a network from six snapshots.
Each row is one training, from first weights of its `seed`, on data multiplied by 1 + 1e-7 times
normal numbers, which is round-off; `perturbation` 0 leaves them as they are. `loss` is the one that
it ends with, `error` that of the learned rate at the concentrations that occurred.

The last row is of all: the share of trainings whose loss, and whose error, are within 1.3 times the
best. Training is wanted to bring 95 % of losses there. Errors scatter more: the noise leaves a
network free to differ between the concentrations that occurred.

Every one of 20 perturbations is trained from every one of 10 seeds. `--quick` takes two of each;
`rows(perturbations, seeds)` as many as you say.
"""

import importlib
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from impindiff.benchmark import announce

SIZE = 1e-7
WITHIN = 1.3


def rows(perturbations: int = 20, seeds: int = 10, quick: bool = False) -> Iterator[dict[str, Any]]:
    """A row for each training, then one of all."""
    example = _example()
    data = example.make_data()
    seen = {name: data[name].values for name in "uv"}
    truth = example.truth(**seen)
    perturbations, seeds = (2, 2) if quick else (perturbations, seeds)
    found = []
    for seed in range(seeds):
        for perturbation in range(perturbations):
            announce(f"seed {seed}, perturbation {perturbation}")
            losses: list[float] = []
            began = time.perf_counter()
            trained = example.learn(
                perturbed(data, perturbation),
                seed,
                watch=lambda record, losses=losses: losses.append(record.loss),
            )
            rate = trained.coefficients["eaten"].evaluate(None, None, seen)
            row = {
                "seed": seed,
                "perturbation": perturbation,
                "loss": losses[-1],
                "error_percent": 100 * example.relative_error(rate, truth),
                "epochs": len(losses),
                "seconds": time.perf_counter() - began,
            }
            found.append(row)
            yield row
    yield (
        {"trainings": len(found)}
        | {
            f"{name}_within_{WITHIN}_percent": 100 * share(np.array([row[name] for row in found]))
            for name in ("loss", "error_percent")
        }
        | {
            f"{which}_{name}": float(pick([row[name] for row in found]))
            for name in ("loss", "error_percent")
            for which, pick in (("best", min), ("worst", max))
        }
    )


def share(values: np.ndarray) -> float:
    """Of values that are within so much of the smallest."""
    return float(np.mean(values <= WITHIN * values.min()))


def perturbed(data, number: int):
    """The data with round-off of their own; those of number 0 as they are."""
    random = np.random.default_rng(number)
    factor = SIZE if number else 0.0
    changed = {
        name: data[name].copy(
            data=data[name].values * (1 + factor * random.standard_normal(data[name].shape))
        )
        for name in "uv"
    }
    return data.assign(changed)


def _example() -> Any:
    """The example, a script beside this folder."""
    folder = str(Path(__file__).parents[1] / "examples")
    sys.path.insert(0, folder)
    try:
        return importlib.import_module("gray_scott")
    finally:
        sys.path.remove(folder)
