"""Configs and data files changed at random: a message before anything is computed, or a run.

Never a traceback, never a minute without an end, and no refusal once something was trained.
"""

import copy
import math
import random
import shutil
import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import jax
import numpy as np
import pytest
import tomli_w
import xarray as xr
from small_problem import make_dataset, make_tables, save
from typer.testing import CliRunner

from impindiff.cli._app import app
from impindiff.config import Config

SECONDS = 60
FEW = {
    "training.stages": [
        {"optimiser": "adam", "epochs": 2, "learning_rate": 4e-3},
        {"optimiser": "lbfgs", "epochs": 1, "memory": 5},
    ],
    "training.validate_every": 1,
    "training.checkpoint_every": 1,
}
VALUES: list[Any] = [
    *(0, -1, 1, 2, 3.7, 0.5, -0.5, 1e-30, 1e30, 1e300, math.nan, math.inf, -math.inf, 2**63),
    *(True, False, "", " ", "x", "0:2", ":", "a.b", "a:b", "ä", "x" * 300, "../x", "nan", "1"),
    *([], {}, [[]], [1, 2], ["x", "y"], [math.nan], {"a": 1}, {"kind": "mlp"}, {"kind": ""}),
]


@contextmanager
def at_most(seconds: float) -> Iterator[None]:
    """Raise where something takes longer."""

    def late(*_: object) -> None:
        raise TimeoutError(f"no end within {seconds:g} s")

    before = signal.signal(signal.SIGALRM, late)
    signal.setitimer(signal.ITIMER_REAL, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


def fault_of(folder: Path) -> str:
    """Train, and say what is wrong with how that ended, if anything is."""
    out = folder / "run"
    shutil.rmtree(out, ignore_errors=True)
    given = ["train", "problem.toml", "--data", "data.nc", "--out", "run"]
    try:
        with at_most(SECONDS):
            result = CliRunner().invoke(app, given)
    except TimeoutError as late:
        return f"{late}"
    said, log = result.stderr, out / "metrics.jsonl"
    faults = {
        f"exit status {result.exit_code}": result.exit_code not in (0, 1, 2),
        "a traceback": "Traceback" in said or not isinstance(result.exception, SystemExit | None),
        "refused after training": result.exit_code == 2 and log.exists() and log.stat().st_size > 0,
        "not one message": said.count("impindiff: error: ") != (result.exit_code != 0),
    }
    found = [fault for fault, is_so in faults.items() if is_so]
    return f"{', '.join(found)}: {result.exception!r} {said[-1500:]}" if found else ""


def places(tables: Any, parents: tuple = ()) -> Iterator[tuple]:
    """Paths of all tables, lists and values."""
    inner = tables.items() if isinstance(tables, dict) else enumerate(tables)
    for key, value in inner:
        yield (*parents, key)
        if isinstance(value, dict | list):
            yield from places(value, (*parents, key))


def mutated_tables(rng: random.Random, whole: dict[str, Any]) -> tuple[dict[str, Any], str]:
    """A config with one change, or two, of a kind that TOML can hold; and what was changed."""
    tables, told = copy.deepcopy(whole), []
    for _ in range(rng.choice((1, 1, 2))):
        *parents, last = rng.choice(list(places(tables)))
        table: Any = tables
        for parent in parents:
            table = table[parent]
        kind = rng.choice(("value", "value", "value", "remove", "rename", "twice", "swap"))
        if kind == "value":
            value = rng.choice(VALUES)
            table[last] = copy.deepcopy(value)
            told.append(f"{parents} {last} = {value!r}")
            continue
        told.append(f"{kind} {parents} {last}")
        if isinstance(table, list):
            table.append(copy.deepcopy(table[last])) if kind == "twice" else table.pop(last)
        elif kind == "remove":
            del table[last]
        elif kind == "twice":
            table[f"{last}_"] = copy.deepcopy(table[last])
        else:
            other = rng.choice([*table, str(last).upper(), f"{last}s"])
            table[last], table[other] = table.get(other, 0), table[last]
    return tables, "; ".join(told)


@pytest.mark.slow
@pytest.mark.filterwarnings("default::RuntimeWarning")
@pytest.mark.parametrize("seed", range(10))
def test_mutated_configs(tmp_path: Path, monkeypatch, seed: int):
    monkeypatch.chdir(tmp_path)
    save(make_dataset(), tmp_path / "data.nc")
    plain = make_tables(FEW)
    # Half of them with every default written out, so that all keys are reached.
    whole = Config.model_validate(plain).model_dump(exclude_none=True)
    faults: list[str] = []
    for index in range(50):
        rng = random.Random(f"config {seed} {index}")
        tables, told = mutated_tables(rng, rng.choice((plain, whole)))
        (tmp_path / "problem.toml").write_text(tomli_w.dumps(tables), encoding="utf-8")
        if fault := fault_of(tmp_path):
            faults.append(f"{seed} {index} ({told}): {fault}")
    jax.clear_caches()
    assert not faults, "\n\n".join(faults)


Mutation = Callable[[xr.Dataset, random.Random], xr.Dataset]


def some_variable(data: xr.Dataset, rng: random.Random) -> str:
    return str(rng.choice(list(data.variables)))


def some_value(data: xr.Dataset, rng: random.Random) -> xr.Dataset:
    name = some_variable(data, rng)
    values = np.array(data[name].values, dtype=np.float64)
    bad = (math.nan, math.inf, 1e300, 9.969209968386869e36, -1e30, 0.0, -1.0)
    values[tuple(rng.randrange(size) for size in values.shape)] = rng.choice(bad)
    return data.assign({name: (data[name].dims, values, data[name].attrs)})


def another_type(data: xr.Dataset, rng: random.Random) -> xr.Dataset:
    name = some_variable(data, rng)
    kind = rng.choice(("int8", "int32", "uint64", "bool", "float16", "float64", "str", "M8[ns]"))
    with np.errstate(all="ignore"):
        values = data[name].values.astype(kind)
    return data.assign({name: (data[name].dims, values, data[name].attrs)})


def without(data: xr.Dataset, rng: random.Random) -> xr.Dataset:
    return data.drop_vars(some_variable(data, rng))


def part_of_a_dimension(data: xr.Dataset, rng: random.Random) -> xr.Dataset:
    name = rng.choice(list(data.sizes))
    size = data.sizes[name]
    some = rng.choice(
        ([], [0], [0, 0], [*range(size)][::-1], rng.sample(range(size), size), [0, size - 1])
    )
    return data.isel({name: some})


def other_dimensions(data: xr.Dataset, rng: random.Random) -> xr.Dataset:
    names = list(data.sizes)
    if rng.random() < 0.5:
        return data.rename({rng.choice(names): rng.choice(("lon", "T", "sample_", "z"))})
    return data.transpose(*rng.sample(names, len(names)))


def other_coordinates(data: xr.Dataset, rng: random.Random) -> xr.Dataset:
    name = rng.choice(list(data.coords))
    values = np.array(data[name].values, dtype=np.float64)
    change = rng.choice((lambda v: v**2, lambda v: 0 * v, lambda v: v * 1e30, lambda v: -v))
    return data.assign_coords({name: (data[name].dims, change(values), data[name].attrs)})


def other_attributes(data: xr.Dataset, rng: random.Random) -> xr.Dataset:
    data = data.copy()
    attrs = rng.choice((data.attrs, data[some_variable(data, rng)].attrs))
    keys = [*attrs, "units", "scale_factor", "missing_value", "_FillValue", "periodic", "bounds"]
    key = rng.choice(keys)
    attrs.pop(key, None)
    if rng.random() < 0.7:
        attrs[key] = rng.choice(
            ("", "x", "days since 1900-01-01", "m s-1", 0, -1.5, [1, 2], "1e-3")
        )
    return data


def one_more(data: xr.Dataset, rng: random.Random) -> xr.Dataset:
    name = rng.choice(("time2", "porosity", "x", "concentration_truth", "mask", "sample"))
    return data.assign({name: rng.choice((0.5, "text", ("q", [1.0, 2.0]), ("x", np.ones(12))))})


MUTATIONS: tuple[Mutation, ...] = (
    *(some_value, another_type, without, part_of_a_dimension, other_dimensions),
    *(other_coordinates, other_attributes, one_more),
)


def write_mutated(rng: random.Random, file: Path) -> str:
    """A data file with one change or two, or with bytes changed; says what was done to it."""
    data, told = make_dataset(), []
    for _ in range(rng.choice((1, 1, 2))):
        mutation = rng.choice(MUTATIONS)
        told.append(mutation.__name__)
        try:
            data = mutation(data, rng)
        except (ValueError, TypeError, KeyError, IndexError) as error:
            told.append(f"(no such file can be made: {error})")
    file.unlink(missing_ok=True)
    try:
        data.to_netcdf(file, engine="h5netcdf")
    except Exception as error:
        # What the format cannot hold, nobody brings.
        told.append(f"(not written: {error})")
        file.unlink(missing_ok=True)
        save(make_dataset(), file)
    if rng.random() < 0.2:
        told.append("bytes")
        content = bytearray(file.read_bytes())
        if rng.random() < 0.5:
            content = content[: rng.randrange(len(content))]
        for _ in range(rng.randrange(1, 20)):
            if content:
                content[rng.randrange(len(content))] = rng.randrange(256)
        file.write_bytes(content)
    return ", ".join(told)


@pytest.mark.slow
@pytest.mark.filterwarnings("default::RuntimeWarning")
@pytest.mark.filterwarnings("ignore:.*float16:FutureWarning")
@pytest.mark.parametrize("seed", range(6))
def test_mutated_data_files(tmp_path: Path, monkeypatch, seed: int):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "problem.toml").write_text(tomli_w.dumps(make_tables(FEW)), encoding="utf-8")
    faults: list[str] = []
    for index in range(50):
        rng = random.Random(f"data {seed} {index}")
        told = write_mutated(rng, tmp_path / "data.nc")
        if fault := fault_of(tmp_path):
            faults.append(f"{seed} {index} ({told}): {fault}")
    jax.clear_caches()
    assert not faults, "\n\n".join(faults)
