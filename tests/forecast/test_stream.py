"""Forecasts in pieces: the states of an undivided one, whenever and wherever they are stopped."""

import errno
import itertools
import json
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import runtime_types
import xarray as xr
from jax.core import Tracer
from small_problem import DIFFUSIVITY, DT, make_dataset

import impindiff as ipd
from impindiff import InputError, NumericsError, continue_forecast, forecast_to
from impindiff.forecast import _predict, _stream, balances_of, predict
from impindiff.rollout import simulate

NAME = "concentration"
STATE = 4 * 12 * 6 * 4  # bytes of the four samples
EVEN = 0.07 * np.arange(13)  # no multiples of the step
UNEVEN = np.array([0.01, 0.02, 0.03, 0.3, 0.31, 0.55, 1.0, 1.02])


@pytest.fixture
def dataset() -> xr.Dataset:
    return make_dataset()


@pytest.fixture
def system(dataset: xr.Dataset) -> ipd.System:
    grid = ipd.grid_of(dataset, NAME)
    unknown = ipd.Parameter("D", DIFFUSIVITY, (1e-3, 1.0))
    return ipd.advection_diffusion(grid, jnp.array([0.5, -0.3]), unknown)


@pytest.fixture
def num_compiled(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Counts how often a rollout is traced."""
    count = [0]
    original = simulate

    def counted(*args, **kwargs):
        count[0] += 1
        return original(*args, **kwargs)

    monkeypatch.setattr(_predict, "simulate", counted)
    return count


@pytest.mark.thorough
@pytest.mark.many
@pytest.mark.parametrize("times", [EVEN, EVEN[1:], UNEVEN], ids=["even", "after", "uneven"])
@pytest.mark.parametrize("num_states", [1, 3, 100])
def test_pieces_make_the_undivided_forecast(
    tmp_path: Path, dataset: xr.Dataset, system, times: np.ndarray, num_states: int
):
    whole = predict(system, dataset, times=times, dt=DT)
    path, reached = tmp_path / "f.zarr", []
    stored = forecast_to(
        path, system, dataset, times=times, dt=DT, piece=num_states * STATE, watch=reached.append
    )
    found = ipd.open_dataset(path)
    assert found.attrs.pop("until") == times[-1] == reached[-1]
    np.testing.assert_array_equal(found["time"], times)
    np.testing.assert_allclose(found[NAME], whole[NAME], rtol=1e-6)
    xr.testing.assert_identical(found.drop_vars(NAME), whole.drop_vars(NAME))
    assert stored.num_samples == 4 and stored.times.tolist() == times.tolist()


@pytest.mark.thorough
@pytest.mark.parametrize("times, number", [(EVEN, 1), (UNEVEN, 2)], ids=["even", "uneven"])
def test_all_pieces_are_one_program(tmp_path: Path, dataset, system, num_compiled, times, number):
    """And the last is another, where it has fewer steps."""
    jax.clear_caches()
    reached = []
    forecast_to(
        tmp_path / "f.zarr",
        system,
        dataset,
        times=times,
        dt=DT,
        piece=2 * STATE,
        watch=reached.append,
    )
    assert len(reached) > 4 and num_compiled == [number]


@pytest.mark.slow
def test_nothing_is_longer_than_a_piece(tmp_path: Path, dataset, system, monkeypatch):
    """Neither on the device nor in what is written at a time, nor in a file."""
    largest = []
    others = {id(array) for array in jax.live_arrays()}

    def measured(function):
        def call(found, path, **options):
            ours = (a.nbytes for a in jax.live_arrays() if id(a) not in others)
            largest.append(max(found[NAME].nbytes, *ours))
            return function(found, path, **options)

        return call

    for name in ("save_dataset", "append_dataset"):
        monkeypatch.setattr(_stream, name, measured(getattr(_stream, name)))
    path, piece = tmp_path / "f.zarr", 5
    for times in (0.05 * np.arange(12), 0.05 * np.arange(200)):
        largest.clear()
        forecast_to(path, system, dataset, times=times, dt=DT, piece=piece * STATE)
        # One state more, where the piece ends.
        assert len(largest) == -(-(len(times) - 1) // piece) + 1
        assert 2 * STATE < max(largest) <= (piece + 1) * STATE
        chunks = json.loads((path / NAME / ".zarray").read_text())["chunks"]
        assert np.prod(chunks) * 4 <= piece * STATE
        shutil.rmtree(path)


@pytest.mark.thorough
@pytest.mark.parametrize(
    "call, every", [pytest.param("replace", 1, marks=pytest.mark.slow), ("fsync", 4)]
)
def test_whenever_it_is_stopped_it_is_a_shorter_forecast(
    tmp_path: Path, dataset, system, monkeypatch, call: str, every: int
):
    """Stopped before each file is moved into place, and before some are written."""
    times = 0.05 * np.arange(7)
    whole = predict(system, dataset, times=times, dt=DT)
    given: dict[str, Any] = {"times": times, "dt": DT, "piece": 3 * STATE}
    original, lengths = getattr(os, call), []
    for number in itertools.count(step=every):
        path, calls = tmp_path / f"{number}.zarr", itertools.count()

        def interrupt(*args, calls=calls, number=number):
            if next(calls) == number:
                raise KeyboardInterrupt
            return original(*args)

        with monkeypatch.context() as patch:
            patch.setattr(os, call, interrupt)
            try:
                forecast_to(path, system, dataset, **given)
                break
            except KeyboardInterrupt:
                pass
        if not path.exists():
            lengths.append(0)
            continue
        for opened in (ipd.open_dataset(path), xr.open_zarr(path).load()):
            length = opened.sizes["time"]
            assert opened.attrs["until"] == times[-1]
            np.testing.assert_array_equal(opened["time"], times[:length])
            np.testing.assert_allclose(opened[NAME], whole[NAME][:, :length], rtol=1e-6)
        lengths.append(length)
        if length < len(times):
            continue_forecast(path, system, **given)
        np.testing.assert_allclose(ipd.open_dataset(path)[NAME], whole[NAME], rtol=1e-6)
        np.testing.assert_array_equal(ipd.open_dataset(path)["time"], times)
    assert lengths == sorted(lengths) and {0, 1, 4} <= set(lengths)


_GROW = """
import sys, jax.numpy as jnp, numpy as np, impindiff as ipd
path, data, piece = sys.argv[1], ipd.open_dataset(sys.argv[2]), int(sys.argv[3])
system = ipd.advection_diffusion(ipd.grid_of(data, "concentration"), jnp.array([0.5, -0.3]), 0.02)
given = dict(times=0.05 * np.arange(200_000), dt=0.05, piece=piece, watch=print)
if len(sys.argv) == 4:
    ipd.forecast_to(path, system, data, **given)
ipd.continue_forecast(path, system, **given)
"""


@pytest.mark.slow
def test_a_process_may_be_killed_at_any_time(tmp_path: Path, dataset: xr.Dataset, system):
    """By a signal that cannot be caught, while it writes as often as it can."""
    path, data, rng = tmp_path / "f.zarr", tmp_path / "data.nc", np.random.default_rng(0)
    ipd.save_dataset(dataset, data)
    given, length = [sys.executable, "-c", _GROW, path, data, str(4 * STATE)], 0
    for kill in range(8):
        going_on = ["continue"] if path.exists() else []
        process = subprocess.Popen([*map(str, given), *going_on], stdout=subprocess.PIPE)
        assert process.stdout is not None and process.stdout.readline()
        time.sleep(0.5 + rng.random())
        process.kill()
        process.communicate()
        found = ipd.open_dataset(path)
        assert found.sizes["time"] > length + 10, kill
        length = found.sizes["time"]
        np.testing.assert_allclose(found["time"], 0.05 * np.arange(length), rtol=1e-12)
        assert np.isfinite(found[NAME]).all()
    whole = predict(system, dataset, times=0.05 * np.arange(length), dt=DT)
    np.testing.assert_allclose(found[NAME], whole[NAME], rtol=1e-5)


@pytest.mark.thorough
def test_a_full_disk_leaves_what_was_written(tmp_path: Path, dataset, system, monkeypatch):
    path = tmp_path / "f.zarr"
    given: dict[str, Any] = {"dt": DT, "piece": 3 * STATE}
    times = 0.05 * np.arange(20)

    def fill(time: float) -> None:
        if time > 0.4:
            monkeypatch.setattr(os, "fsync", refuse)

    def refuse(descriptor: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with pytest.raises(InputError, match=r"f\.zarr: no space left .* before still stands"):
        forecast_to(path, system, dataset, times=times, watch=fill, **given)
    monkeypatch.undo()
    assert ipd.open_dataset(path)["time"][-1] == times[9]
    continue_forecast(path, system, times=times, **given)
    whole = predict(system, dataset, times=times, dt=DT)
    np.testing.assert_allclose(ipd.open_dataset(path)[NAME], whole[NAME], rtol=1e-6)


@pytest.mark.thorough
@pytest.mark.filterwarnings("ignore:.*has grown.*times the longest")
def test_steps_that_fail_leave_what_was_before(tmp_path: Path, dataset: xr.Dataset, system):
    """An unstable scheme: growing at first, then no number."""
    fast = ipd.advection_diffusion(system.grid, jnp.array([6.0, 0.0]), DIFFUSIVITY)
    given: dict[str, Any] = {
        "times": 0.05 * np.arange(2000),
        "dt": DT,
        "stepper": ipd.steppers.ForwardEuler(),
    }
    path, reached = tmp_path / "f.zarr", []
    with pytest.raises(NumericsError, match="not finite at t = "):
        forecast_to(path, fast, dataset, **given, piece=20 * STATE, watch=reached.append)
    assert len(reached) > 2
    assert np.isfinite(ipd.open_dataset(path)[NAME]).all()
    assert ipd.open_dataset(path)["time"][-1] == reached[-1]


def test_a_mistake_in_the_steps_leaves_no_store(tmp_path: Path, dataset: xr.Dataset, system):
    for change, message in (
        ({"dt": 0.0}, "time step"),
        ({"times": [0.0, 0.2, 0.1]}, "must increase"),
        ({"times": [-1.0]}, "initial fields are those at t = 0"),
        ({"times": []}, "at least one"),
        ({"samples": "9"}, "lies outside"),
        ({"start": 0.07}, "not in the data"),
        ({"piece": 0}, "no amount of memory"),
    ):
        with pytest.raises(InputError, match=message):
            given: dict[str, Any] = {"times": [0.0, 0.1], "dt": DT, **change}
            forecast_to(tmp_path / "f.zarr", system, dataset, **given)
    assert not list(tmp_path.iterdir())


@pytest.mark.thorough
@pytest.mark.parametrize("offset", [0.0, 12345.00013])
@pytest.mark.parametrize("dtype", [pytest.param(jnp.float32, marks=pytest.mark.slow), jnp.float64])
def test_continued_forecasts_are_the_undivided_one(
    tmp_path: Path, dataset: xr.Dataset, system, offset: float, dtype
):
    """Added to the store, from its last time into memory, and from a time in between."""
    dataset = dataset.assign_coords(time=offset + dataset["time"])
    path, times = tmp_path / "f.zarr", offset + EVEN
    whole = predict(system, dataset, times=times, dt=DT, dtype=dtype)[NAME]
    forecast_to(path, system, dataset, times=times[:5], dt=DT, dtype=dtype)
    beside = ipd.open_dataset(path)
    stored = continue_forecast(path, system, times=times, dt=DT, piece=3 * STATE)
    assert stored.times.tolist() == times[5:].tolist()
    found = ipd.open_dataset(path)
    assert found[NAME].dtype == dtype and found.attrs["until"] == times[-1]
    np.testing.assert_array_equal(found["time"], times)
    exact: dict[str, Any] = {"rtol": 1e-6 if dtype == jnp.float32 else 1e-13}
    np.testing.assert_allclose(found[NAME], whole, **exact)
    for start, first in (("last", 5), (times[3], 4)):
        found = predict(system, beside, start=start, times=times[first:], dt=DT, dtype=dtype)
        np.testing.assert_allclose(found[NAME], whole[:, first:], **exact)


@pytest.mark.thorough
def test_what_cannot_be_continued_is_refused(tmp_path: Path, dataset: xr.Dataset, system):
    path = tmp_path / "f.zarr"
    forecast_to(path, system, dataset, times=[0.0, 0.1], dt=DT)

    def refused(message: str, at: Path = path, by: ipd.System = system, **options) -> None:
        with pytest.raises(InputError, match=message):
            given: dict[str, Any] = {"times": [0.2], "dt": DT, **options}
            continue_forecast(at, by, **given)

    refused("already reaches t = 0.1, and the last time asked for is 0.1", times=[0.05, 0.1])
    refused("at least one", times=[])
    refused("must increase", times=[0.3, 0.2])
    refused("finite", times=[np.nan])
    with runtime_types.without():
        for wrong in ("x", [0.1], np.inf):
            refused("the time step is .*: it must be a number, positive and finite", dt=wrong)
    grid = system.grid
    unknown = ipd.Parameter("D", 2 * DIFFUSIVITY, (1e-3, 1.0))
    refused("another 'D'", by=ipd.advection_diffusion(grid, jnp.zeros(2), unknown))
    other = ipd.grid_of(make_dataset((12, 7)), NAME)
    refused("grid asked for", by=ipd.advection_diffusion(other, jnp.zeros(2), DIFFUSIVITY))
    heat = ipd.advection_diffusion(grid, jnp.zeros(2), DIFFUSIVITY, field="heat")
    refused(r"a forecast of \['concentration'\], but .* \['heat'\]", by=heat)
    ipd.save_dataset(dataset, tmp_path / "data.zarr")
    refused("is no forecast by impindiff", at=tmp_path / "data.zarr")
    refused("no such file", at=tmp_path / "g.zarr")
    refused("is no .zarr store", at=tmp_path / "f.nc")
    with pytest.raises(InputError, match="is no .zarr store"):
        forecast_to(tmp_path / "f.nc", system, dataset, times=[0.1], dt=DT)
    with pytest.raises(InputError, match="exists already"):
        forecast_to(path, system, dataset, times=[0.1], dt=DT)
    forecast_to(tmp_path / "d.zarr", system, dataset, times=[0.1], dt=DT, dtype=jnp.float64)
    with jax.enable_x64(False):
        refused("holds float64, but computations are in single", at=tmp_path / "d.zarr")
    assert ipd.open_dataset(path).sizes["time"] == 2


@pytest.mark.thorough
def test_steps_may_be_longer_than_any_interval(tmp_path: Path, dataset: xr.Dataset, system):
    path = tmp_path / "f.zarr"
    forecast_to(path, system, dataset, times=[0.05], dt=1e9)
    assert continue_forecast(path, system, times=[0.1], dt=1e9).times == [0.1]


@pytest.mark.thorough
def test_what_is_said_of_steps_is_said_of_those_that_took_them(tmp_path: Path, dataset, system):
    """A forecast whose steps follow their error, continued by steps that do not."""
    path = tmp_path / "f.zarr"
    made = predict(system, dataset, times=[0.1])
    ipd.save_dataset(made, path)
    for until in (0.2, 0.3):
        continue_forecast(path, system, times=[until], dt=DT)
        noted = ipd.open_dataset(path).attrs["steps"]
        assert noted == f"{made.attrs['steps']}; from 0.1 on of at most {DT:g}"


@pytest.mark.thorough
@pytest.mark.parametrize("times", [EVEN, EVEN[1:], UNEVEN], ids=["even", "after", "uneven"])
def test_pieces_by_steps_that_follow_their_error(tmp_path: Path, dataset, system, times):
    """What the control of steps knows goes from piece to piece."""
    control = ipd.steppers.StepControl(1e-3)
    whole = predict(system, dataset, times=times, control=control)
    path, reached = tmp_path / "f.zarr", []
    forecast_to(
        path,
        system,
        dataset,
        times=times,
        piece=3 * STATE,
        watch=reached.append,
        control=control,
    )
    found = ipd.open_dataset(path)
    assert found.attrs.pop("until") == times[-1] == reached[-1]
    np.testing.assert_allclose(found[NAME], whole[NAME], rtol=1e-5, atol=1e-6)
    xr.testing.assert_identical(found.drop_vars(NAME), whole.drop_vars(NAME))
    assert whole.attrs["steps"].startswith(tuple("123456789"))


@pytest.mark.thorough
def test_a_forecast_goes_on_by_steps_that_follow_their_error(tmp_path: Path, dataset, system):
    """After steps of a given length, and after its own: exact to the tolerance."""
    whole = predict(system, dataset, times=[0.1, 0.2, 0.35], control=ipd.steppers.StepControl(1e-4))
    path = tmp_path / "f.zarr"
    forecast_to(path, system, dataset, times=[0.1], dt=1e-3)
    for until in (0.2, 0.35):
        continue_forecast(path, system, times=[until])
    found = ipd.open_dataset(path)
    np.testing.assert_allclose(found[NAME], whole[NAME], atol=2e-3)
    assert found.attrs["steps"].startswith("of a given length; from 0.1 on ")
    assert "; from 0.2 on " in found.attrs["steps"]


@pytest.mark.thorough
def test_a_control_beside_a_step_is_refused_before_anything_is_written(tmp_path, dataset, system):
    path, control = tmp_path / "f.zarr", ipd.steppers.StepControl(1e-3)
    with pytest.raises(InputError, match="control is given, too"):
        forecast_to(path, system, dataset, times=[0.1], dt=DT, control=control)
    assert not path.exists()


@pytest.mark.thorough
@pytest.mark.parametrize("noted", ["x", "[]", '{"a": 3}', 3, ""])
def test_a_damaged_note_of_balances_is_a_message(tmp_path: Path, dataset, system, noted):
    path = tmp_path / "f.zarr"
    ipd.save_dataset(
        predict(system, dataset, times=[0.1], dt=DT).assign_attrs(balances=noted), path
    )
    with pytest.raises(InputError, match=r"f\.zarr: the attribute 'balances' was changed"):
        continue_forecast(path, system, times=[0.2], dt=DT)
    short = {"units": "1", "worst_defect": 0.0, "changes": {"c": [0.0]}}
    attrs = {"balances": json.dumps({"mass": short})}
    with pytest.raises(InputError, match="dataset: the attribute 'balances' was changed"):
        balances_of(dataset.assign_attrs(attrs))


@pytest.mark.thorough
def test_pieces_of_single_steps_lose_no_small_increments(tmp_path: Path):
    """A thousandth of a degree in a hundred steps, each of a third of the spacing at 290 K."""
    grid = ipd.Grid.uniform((4,), ((0.0, 1.0),))
    warming = ipd.System(grid, {"T": [ipd.Source(1e-3)]})
    start = ipd.to_dataset(grid, [0.0], {"T": np.full((1, 1, 4), 290.0, np.float32)})
    times = 0.01 * np.arange(1, 101)
    path = tmp_path / "f.zarr"
    forecast_to(path, warming, start, times=times, dt=0.01, piece=4 * 4)
    whole = predict(warming, start, times=times, dt=0.01)
    np.testing.assert_array_equal(ipd.open_dataset(path)["T"].values, whole["T"].values)
    assert float(whole["T"][0, -1, 0]) - 290 == pytest.approx(1e-3, abs=2e-5)


@pytest.mark.thorough
def test_the_system_is_prepared_once_for_all_pieces(tmp_path: Path, dataset, system, monkeypatch):
    """Each piece looks at coefficients at its own times, and evaluates nothing steady for that."""
    count, original = [0], ipd.System.prepare_shared

    def counted(self, dtype):
        values = jax.tree.leaves(self)
        count[0] += not any(isinstance(leaf, Tracer) for leaf in values)
        return original(self, dtype)

    monkeypatch.setattr(ipd.System, "prepare_shared", counted)
    forecast_to(tmp_path / "f.zarr", system, dataset, times=EVEN, dt=DT, piece=STATE)
    assert count[0] <= 2  # and once where the solver is chosen
