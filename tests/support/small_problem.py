"""A problem small enough to be trained in a test, as a dataset and as a config.

Advection-diffusion on a handful of cells, with a smooth known velocity; the data are made by the
scheme and the step that the config trains with, so that a perfect fit exists.
"""

import copy
import functools
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import tomli_w
import xarray as xr

from impindiff.data import save_dataset, to_dataset
from impindiff.grid import Grid
from impindiff.integrate import CrankNicolson
from impindiff.latent import SineField
from impindiff.rollout import TimeGrid, simulate
from impindiff.systems import System, advection_diffusion

DIFFUSIVITY = 0.02
DT = 0.05
TIMES = (0.0, 0.05, 0.1, 0.15, 0.2)


@functools.cache
def _make(shape: tuple[int, ...], num_samples: int, times: tuple[float, ...]) -> xr.Dataset:
    grid = Grid.uniform(shape, ((-1.0, 1.0), (0.0, 1.0), (0.0, 2.0))[: len(shape)], periodic=True)
    turns = [
        2 * np.pi * (at - axis.lower) / axis.length
        for at, axis in zip(grid.centres(), grid.axes, strict=True)
    ]
    velocity = np.stack([0.5 + 0.3 * np.sin(turn + i) for i, turn in enumerate(turns)])
    samples = np.arange(num_samples)
    initial = np.stack([1 + 0.5 * sum(np.sin(t + s) for t in turns) / len(turns) for s in samples])
    with jax.enable_x64(True):
        system = advection_diffusion(grid, jnp.asarray(velocity), DIFFUSIVITY)
        time_grid = TimeGrid.build(times[0], np.array(times), DT)

        @jax.jit
        @jax.vmap
        def run(state):
            return simulate(system, {"concentration": state}, time_grid, CrankNicolson()).states

        states = np.asarray(run(jnp.asarray(initial))["concentration"])
    latents = {f"advection_{name}": v for name, v in zip(grid.names, velocity, strict=True)}
    described = {"units": "1", "long_name": "a test's"}
    return to_dataset(
        grid,
        np.array(times),
        {"concentration": states.astype(np.float32)},
        latents,
        dict.fromkeys(("concentration", *latents), described),
    )


def make_dataset(
    shape: tuple[int, ...] = (12, 6), num_samples: int = 4, times: tuple[float, ...] = TIMES
) -> xr.Dataset:
    """Data in the documented layout; a copy, to be damaged at will."""
    return _make(shape, num_samples, times).copy(deep=True)


def make_system(grid: Grid, *, seed: int = 0) -> System:
    """The equations of the data, with a small network for the velocity."""
    names = tuple(f"advection_{axis}" for axis in grid.names)
    key = jax.random.key(seed)
    velocity = SineField(grid.num_axes, names, width=8, depth=1, key=key)
    return advection_diffusion(grid, velocity, DIFFUSIVITY)


_TABLES: dict[str, Any] = {
    "title": "A small problem",
    "question": "Does it work?",
    "data": {
        "field": "concentration",
        "train_samples": "0:2",
        "train_times": [0.1],
        "test_samples": "2:4",
    },
    "system": {
        "build": "impindiff.cases.advection_diffusion_steady.system:build",
        "options": {
            "diffusivity": DIFFUSIVITY,
            "velocity": {"names": ["advection_x", "advection_y"], "width": 8, "depth": 1},
        },
    },
    "time": {"dt": DT, "until": 0.2},
    "training": {
        "validate_every": 2,
        "checkpoint_every": 3,
        "stages": [
            {"optimiser": "adam", "epochs": 4, "learning_rate": 4e-3},
            {"optimiser": "lbfgs", "epochs": 5, "memory": 5},
        ],
    },
}


def make_tables(changes: dict[str, Any] | None = None) -> dict[str, Any]:
    """The config as nested dictionaries; changes by dotted key, `None` takes a key out."""
    tables = copy.deepcopy(_TABLES)
    for key, value in (changes or {}).items():
        *parents, last = (int(p) if p.isdigit() else p for p in key.split("."))
        table: Any = tables
        for parent in parents:
            table = table.setdefault(parent, {}) if isinstance(table, dict) else table[parent]
        if value is None:
            del table[last]
        else:
            table[last] = value
    return tables


def write_problem(
    folder: Path, changes: dict[str, Any] | None = None, data: xr.Dataset | None = None
) -> tuple[Path, Path]:
    """Write `config.toml` and `data.nc`, and return where they lie."""
    config, file = folder / "problem.toml", folder / "data.nc"
    config.write_text(tomli_w.dumps(make_tables(changes)), encoding="utf-8")
    save(make_dataset() if data is None else data, file)
    return config, file


def save(data: xr.Dataset, file: Path) -> None:
    """Write data that may have lost their attributes on the way."""
    for name, variable in data.variables.items():
        variable.attrs = {"units": "1", "long_name": str(name), **variable.attrs}
    save_dataset(data, file, overwrite=True)


def losses(run: Path) -> list[tuple]:
    """What of `metrics.jsonl` must be the same in a run that was stopped and went on."""
    lines = (run / "metrics.jsonl").read_text().splitlines()
    return [
        tuple(value for key, value in json.loads(line).items() if key != "seconds")
        for line in lines
    ]


def command(*arguments: object, **options: Any) -> subprocess.Popen:
    """The command line in a process of its own; what one of them compiles serves all."""
    environment = {
        **os.environ,
        "JAX_PLATFORMS": "cpu",
        "JAX_COMPILATION_CACHE_DIR": _cache_folder().name,
        "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0",
        "JAX_PERSISTENT_CACHE_MIN_ENTRY_SIZE_BYTES": "-1",
        **options.pop("env", {}),
    }
    return subprocess.Popen(
        [sys.executable, "-m", "impindiff", *map(str, arguments)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=environment,
        **options,
    )


@functools.cache
def _cache_folder() -> tempfile.TemporaryDirectory:
    return tempfile.TemporaryDirectory(prefix="compiled-")
