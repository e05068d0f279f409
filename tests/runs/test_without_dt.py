"""Runs whose config names no time step: training and forecasts follow the error of their steps."""

import json
from pathlib import Path

import numpy as np
import pytest
from small_problem import losses, make_tables, write_problem

from impindiff import InputError
from impindiff.config import Config, load_config
from impindiff.data import open_dataset
from impindiff.runs import (
    RunFolder,
    certify,
    evaluate_run,
    forecast_run,
    forecast_run_to,
    plan_run,
    train_run,
)

LOOSE = {"time.dt": None, "time.rtol": 1e-3}


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished run without a time step."""
    folder = tmp_path_factory.mktemp("followed")
    config, data = write_problem(folder, LOOSE)
    train_run(load_config(config), data, RunFolder(folder / "run"))
    return folder


@pytest.mark.thorough
def test_a_run_says_which_steps_it_took(trained: Path):
    summary = json.loads((trained / "run" / "summary.json").read_text())
    assert summary["dt"] is None and summary["time_scheme"] == "esdirk-4"
    assert "the error of each estimated to be below 0.001" in summary["steps"]
    assert 0 < summary["time_error"] < 1e-2
    assert f"all together come to {summary['time_error']:.1g}" in summary["steps"]
    errors = summary["fields"]["concentration"]["relative_l1_percent"]
    assert len(errors) == 5 and np.isfinite(errors).all()
    assert summary["steps"] in (trained / "run" / "report.html").read_text()


@pytest.mark.thorough
def test_a_stopped_run_goes_on_as_if_it_had_not(trained: Path, tmp_path: Path):
    config, data, out = trained / "problem.toml", trained / "data.nc", RunFolder(tmp_path / "run")

    def stop(record) -> None:
        if record.epoch == 6:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        train_run(load_config(config), data, out, watch=stop)
    train_run(load_config(config), data, out, resume=True)
    assert losses(out.path) == losses(trained / "run")


@pytest.mark.thorough
def test_a_run_is_forecast_from(trained: Path, tmp_path: Path):
    run, data = RunFolder(trained / "run"), trained / "data.nc"
    forecast = forecast_run(run, data, until=0.4)
    assert forecast.sizes["time"] == 101 and "steps" in forecast.attrs
    forecast_run_to(run, data, tmp_path / "out.nc", until=0.4, every=0.1)
    written = open_dataset(tmp_path / "out.nc")
    assert written["time"].values == pytest.approx([0, 0.1, 0.2, 0.3, 0.4])
    np.testing.assert_allclose(
        written["concentration"], forecast["concentration"].isel(time=slice(None, None, 25)), 1e-2
    )
    store = tmp_path / "out.zarr"
    forecast_run_to(run, data, store, until=0.2, every=0.1)
    forecast_run_to(run, store, store, until=0.4, every=0.1, start="last")
    np.testing.assert_allclose(
        open_dataset(store)["concentration"], written["concentration"], 1e-2, 1e-3
    )
    scores = evaluate_run(run, data, "2:4")
    found = scores.fields["concentration"].relative_l1_percent
    summary = json.loads((trained / "run" / "summary.json").read_text())
    assert found == pytest.approx(summary["fields"]["concentration"]["relative_l1_percent"])


@pytest.mark.thorough
def test_its_gradients_are_certified_and_its_memory_planned(trained: Path):
    config, data = load_config(trained / "problem.toml"), trained / "data.nc"
    assert certify(config, data, num_directions=1).passed
    found = plan_run(config, data, "1GiB")
    assert 1 < found.num_steps < 50


@pytest.mark.parametrize(
    "changes, said",
    [
        ({"time.dt": None, "time.scheme": "crank-nicolson"}, "time.dt is missing, .*'esdirk-4'"),
        ({"time.dt": None, "time.scheme": "runge-kutta-4"}, "time.dt is missing"),
        ({"time.rtol": 1e-3}, "time.rtol is 0.001, but steps are given by time.dt"),
        ({"time.max_dt": 0.1}, "time.max_dt is 0.1, but steps are given"),
        ({"time.breakpoints": [0.1]}, r"time.breakpoints is \[0.1\], but steps are given"),
        ({"time.dt": None, "time.rtol": 2.0}, "time.rtol"),
        ({"time.dt": None, "time.atol": {"concentration": -1.0}}, "time.atol"),
    ],
)
def test_what_does_not_go_together_is_refused(tmp_path: Path, changes: dict, said: str):
    with pytest.raises(InputError, match=said):
        load_config(write_problem(tmp_path, changes)[0])


@pytest.mark.thorough
def test_a_tolerance_of_what_is_no_field_is_refused(tmp_path: Path):
    changes = {"time.dt": None, "time.atol": {"heat": 1e-3}}
    config, data = write_problem(tmp_path, changes)
    with pytest.raises(InputError, match="'heat': an error is estimated in the fields"):
        train_run(load_config(config), data, RunFolder(tmp_path / "run"))
    assert not (tmp_path / "run").exists()


def test_a_scheme_that_can_is_taken():
    without, given = (make_tables(changes) for changes in ({"time.dt": None}, {}))
    assert Config(**without).time.scheme == "esdirk-4"
    assert Config(**given).time.scheme == "crank-nicolson"
    assert Config(**without).time.control is None
