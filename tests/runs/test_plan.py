"""What does not fit is refused before anything is computed or written, naming file and key."""

from collections.abc import Callable
from pathlib import Path

import equinox as eqx
import numpy as np
import pytest
import xarray as xr
from small_problem import make_dataset, make_tables, write_problem

from impindiff import InputError, TimeGrid
from impindiff.config import load_config, parse_config
from impindiff.runs import RunFolder, RunPlan, train_run

AXIS = {"name": "x", "lower": -1.0, "upper": 1.0, "cells": 12}
AXES = [AXIS, {"name": "y", "lower": 0.0, "upper": 1.0, "cells": 6}]


def with_nan(sample: int, time: int) -> Callable[[xr.Dataset], xr.Dataset]:
    def change(data: xr.Dataset) -> xr.Dataset:
        data["concentration"].values[sample, time, 3, 2] = np.nan
        return data

    return change


def moved(name: str, at: int, by: float) -> Callable[[xr.Dataset], xr.Dataset]:
    def change(data: xr.Dataset) -> xr.Dataset:
        values = data[name].values.copy()
        values[at] += by
        return data.assign_coords({name: values})

    return change


CONFIGS = [
    ({"data.field": "conc"}, ["data.nc: there is no variable 'conc'", "'concentration'"]),
    ({"data.train_samples": "0:9"}, ["data.train_samples: ", "0:9 lies outside", "4 samples"]),
    ({"data.train_samples": ""}, ["data.train_samples: ", "select nothing"]),
    ({"data.train_samples": "2:2"}, ["data.train_samples: ", "select nothing"]),
    ({"data.train_samples": "first"}, ["data.train_samples: ", "cannot read 'first'"]),
    ({"data.test_samples": "4"}, ["data.test_samples: ", "lies outside"]),
    ({"data.test_samples": ""}, ["data.test_samples: ", "select nothing"]),
    (
        {"training.early_stopping": {"samples": "1", "patience": 3}},
        ["training.early_stopping.samples: ", "sample 1 is also trained on"],
    ),
    (
        {"training.early_stopping": {"samples": "3", "patience": 3}},
        ["training.early_stopping.samples: ", "sample 3 is also tested on"],
    ),
    ({"data.train_times": [0.3]}, ["data.train_times: ", "0.3 lies outside the data", "0 to 0.2"]),
    ({"data.train_times": [0.07]}, ["data.train_times: ", "0.07 is not in the data"]),
    ({"data.train_times": [0.1, 0.05]}, ["data.train_times: ", "times must increase"]),
    ({"data.train_times": [0.0]}, ["training time 0 is the initial time"]),
    ({"time.until": 0.0}, ["time.until is 0, but the data starts at 0"]),
    ({"time.until": -1.0}, ["time.until is -1, but the data starts at 0"]),
    ({"time.until": 1e9}, ["from 0 to 1e+09 by steps of 0.05 are more than"]),
    ({"training.stages.0.dt": 1e-12}, ["by steps of 1e-12 are more than"]),
    (
        {"grid": [AXIS]},
        ["grid: ", "data.nc", "y: in the data 6 cells on [0, 1], asked for no such"],
    ),
    ({"grid": [AXIS | {"cells": 13}, AXES[1]]}, ["in the data 12 cells", "asked for 13 cells"]),
    ({"grid": [AXIS | {"upper": 2.0}, AXES[1]]}, ["on [-1, 1], asked for 12 cells on [-1, 2]"]),
    ({"grid": AXES[::-1]}, ["in the data 'x', 'y', asked for 'y', 'x'"]),
    ({"system.options.velocity.names": ["v"]}, ["velocity has 1 component(s)", "2 axes (x, y)"]),
]

DATA = [
    (lambda data: data.drop_vars("concentration"), ["no variable 'concentration'; it holds"]),
    (moved("x", 3, 0.01), ["data.nc: coordinate 'x' must be uniform"]),
    (moved("y", 0, 10.0), ["coordinate 'y' must increase"]),
    (moved("time", 2, 1.0), ["coordinate 'time' must increase"]),
    (moved("time", 2, np.nan), ["coordinate 'time' must be finite"]),
    (with_nan(1, 0), ["must be known in every cell", "in sample 1 (1 cells)"]),
    (with_nan(3, 0), ["data.test_samples: ", "in sample 3 (1 cells)"]),
    (lambda data: data.transpose(..., "y", "x"), ["dimensions", "Reorder them"]),
    (lambda data: data.isel(sample=0), ["dimensions", "'sample', 'time'"]),
    (lambda data: data.assign_attrs(boundary="wall"), ["boundary is 'wall'; it must be"]),
    (lambda data: data * np.inf, ["infinite"]),
    (
        lambda data: data.assign_coords(x=data["x"] * 1e300),
        ["data.nc: coordinate 'x' reaches to 1e+300", "float32 holds magnitudes"],
    ),
    (
        lambda data: data.assign(advection_x=data["advection_x"].transpose()),
        ["latent 'advection_x' has the dimensions ('y', 'x')"],
    ),
    (
        lambda data: data.assign(advection_y=data["advection_y"] * np.nan),
        ["'advection_y' has 72 value(s)", "not finite"],
    ),
]


def assert_refused(config, data: Path, parts: list[str]) -> None:
    out = data.parent / "run"
    with pytest.raises(InputError) as caught:
        train_run(load_config(config), data, RunFolder(out))
    assert all(part in str(caught.value) for part in parts), caught.value
    assert not out.exists()


@pytest.mark.many
@pytest.mark.parametrize("changes, parts", CONFIGS, ids=[str(c)[:50] for c, _ in CONFIGS])
def test_a_config_that_does_not_fit_the_data(tmp_path: Path, changes: dict, parts: list[str]):
    config, data = write_problem(tmp_path, changes)
    assert_refused(config, data, parts)


@pytest.mark.many
@pytest.mark.parametrize("change, parts", DATA, ids=[parts[0][:50] for _, parts in DATA])
def test_data_that_do_not_fit(tmp_path: Path, change: Callable, parts: list[str]):
    assert_refused(*write_problem(tmp_path, data=change(make_dataset())), parts)


def test_data_that_cannot_be_read(tmp_path: Path):
    config, data = write_problem(tmp_path)
    whole = data.read_bytes()
    for damage, part in ((whole[: len(whole) // 2], "truncated"), (b"", "is empty")):
        data.write_bytes(damage)
        assert_refused(config, data, [str(data), part])
    data.unlink()
    assert_refused(config, data, [str(data), "no such file"])


@pytest.mark.parametrize("steps", [1e-7, 1e-4])
def test_a_grid_that_agrees_but_for_rounding_is_the_datas(tmp_path: Path, steps: float):
    grid = [AXIS | {"lower": -1.0 + steps / 6 * 1e-1}, AXES[1]]
    _, data = write_problem(tmp_path)
    plan = RunPlan.make(parse_config(make_tables({"grid": grid}), "it"), data, tmp_path / "run")
    assert plan.config.grid is not None and plan.config.grid[0].lower == -1.0


def make_plan(tmp_path: Path, data: xr.Dataset, changes: dict | None = None) -> RunPlan:
    config, file = write_problem(tmp_path, changes, data)
    return RunPlan.make(load_config(config), file, tmp_path / "run")


@pytest.mark.many
@pytest.mark.parametrize(
    "until, expected",
    [
        (0.2, [0, 0.05, 0.1, 0.15, 0.2]),
        (0.2000000001, [0, 0.05, 0.1, 0.15, 0.2]),
        (0.17, [0, 0.05, 0.1, 0.15, 0.17]),
        (0.03, [0, 0.03]),
        (1.0, [0, 0.05, 0.1, 0.15, 0.2, 1.0]),
    ],
)
@pytest.mark.parametrize("offset", [0.0, -3.0])
def test_the_forecast_ends_where_asked(tmp_path: Path, until: float, expected, offset: float):
    data = make_dataset()
    data = data.assign_coords(time=data["time"].values + offset)
    changes = {"time.until": until + offset, "data.train_times": [0.1 + offset]}
    plan = make_plan(tmp_path, data, changes)
    np.testing.assert_allclose(plan.forecast_times, np.array(expected) + offset, atol=1e-9)
    assert plan.known_times == sum(t in (0, 0.05, 0.1, 0.15, 0.2) for t in expected)


def last_validated(plan) -> float:
    validator = plan.validator()
    assert validator is not None
    return float(validator.spans.saved[-1])


@pytest.mark.thorough
def test_validation_is_at_the_last_time_all_test_samples_were_observed(tmp_path: Path):
    data = make_dataset()
    assert last_validated(make_plan(tmp_path, data)) == 0.2
    data["concentration"].values[3, 4] = np.nan
    data["concentration"].values[2, 3] = np.nan
    assert last_validated(make_plan(tmp_path, data)) == 0.1
    data["concentration"].values[2, 1:] = np.nan
    assert make_plan(tmp_path, data).validator() is None
    assert make_plan(tmp_path, make_dataset(), {"time.until": 0.01}).validator() is None


def test_validation_takes_the_steps_of_the_forecast_so_that_one_program_does_both(tmp_path: Path):
    plan = make_plan(tmp_path, make_dataset())
    validator = plan.validator()
    assert validator is not None
    assert plan.config.time.dt is not None
    at_the_end = TimeGrid.build(0.0, plan.forecast_times, plan.config.time.dt)
    assert eqx.tree_equal(validator.spans, at_the_end)


def test_data_in_the_folder_are_named_relative_to_it(tmp_path: Path):
    config, data = write_problem(tmp_path)
    inside = RunPlan.make(load_config(config), data, tmp_path)
    assert inside.config.data.file == "data.nc"
    outside = RunPlan.make(load_config(config), data, tmp_path / "run")
    assert outside.config.data.file == str(data)


@pytest.mark.thorough
def test_a_link_to_data_need_not_lead_to_a_name_with_a_suffix(tmp_path: Path):
    """As large files are kept in annexes."""
    config, data = write_problem(tmp_path)
    data.rename(tmp_path / "SHA256E-s123")
    data.symlink_to(tmp_path / "SHA256E-s123")

    def stop(record) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        train_run(load_config(config), data, RunFolder(tmp_path / "run"), watch=stop)
    assert RunFolder(tmp_path / "run").config().data.file == str(data)
