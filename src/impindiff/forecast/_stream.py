"""Forecasts of any length, computed piece by piece and written to a store.

A piece begins with the last state of the one before, so the states are those of one long forecast.
What is written of it is complete at every moment (`impindiff.data.append_dataset`): a forecast that
was stopped is a shorter forecast, and can be continued. From the reading of its end to the last
piece no other process writes to the store: what it added would be overwritten, or of another start.
"""

import itertools
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Unpack

import jax
import numpy as np
import xarray as xr

from impindiff._dates import as_seconds
from impindiff._errors import InputError
from impindiff.data import (
    append_dataset,
    check_grid,
    check_writable,
    locked,
    open_dataset,
    save_dataset,
)
from impindiff.forecast._initial_condition import TITLE, ForecastStart, InitialCondition
from impindiff.forecast._ledger import BalanceScore, Ledger, balances_of
from impindiff.forecast._pieces import Pieces, most_times
from impindiff.forecast._predict import HALVED, STEPS, halved_attrs
from impindiff.integrate import AbstractStepper
from impindiff.rollout import HalvedStep, StepControl, describe_halvings
from impindiff.systems import System


def check_zarr(path: Path) -> None:
    """Refuse a path that is no zarr store.

    Raises: InputError.
    """
    if path.suffix.lower() != ".zarr":
        raise InputError(
            f"{path}: is no .zarr store, and only these are written in pieces and can be added to. "
            "Forecast to one; a short forecast also goes into a .nc file: "
            "save_dataset(predict(...), path)"
        )


def initial_condition_at_end(last: xr.Dataset, system: System, path: Path) -> InitialCondition:
    """The last state of a store, if it holds a forecast by this system.

    Args:
        last: the store, at its last time.
        system: goes on with it.
        path: of the store.

    Raises: InputError for a store of something else.
    """
    if last.attrs.get("title") != TITLE:
        raise InputError(
            f"{path}: is no forecast by impindiff, so nothing is added to it. Forecast from it to "
            "another file."
        )
    held = {str(name) for name, of in last.data_vars.items() if of.dims[:2] == ("sample", "time")}
    if held != {*system.fields, *system.integrals}:
        raise InputError(
            f"{path}: holds a forecast of {sorted(held)}, but the system's fields are "
            f"{sorted(system.fields)}. Forecast to another file."
        )
    for field in system.fields:
        check_grid(last, field, system.grid)
    dtype = last[system.fields[0]].dtype
    if jax.dtypes.canonicalize_dtype(dtype) != dtype:
        raise InputError(
            f"{path}: holds {dtype}, but computations are in single precision. Continue it with a "
            "run of its precision; in Python: jax.config.update('jax_enable_x64', True)"
        )
    begin = InitialCondition.of(
        system, last, float(last["time"][0]), None, dtype, is_under_way=True
    )
    tables = {name: t.values for name, t in begin.tables.items() if name in last.data_vars}
    learned = begin.latents | begin.varying_latents(np.array([begin.time])) | tables
    for name, value in learned.items():
        known = last[name].values if name in last.data_vars else np.full(value.shape, np.nan)
        if not np.allclose(known, value, rtol=0, atol=1e-4 * np.abs(value).max()):
            raise InputError(
                f"{path}: holds a forecast with another {name!r} than the system has now. Continue "
                "it with the system or run that it was made with, or forecast to another file."
            )
    return begin


# A file of a store before it is compressed: large for a disk, small beside a piece.
_FILE_BYTES = 4 * 2**20

Watcher = Callable[[float], None]


@dataclass(frozen=True)
class Stored:
    """What was written: so many samples at these times, the steps halved, and the balances."""

    num_samples: int
    times: np.ndarray
    halved: str = ""
    balances: Mapping[str, BalanceScore] | None = None


def forecast_to(
    path: str | os.PathLike[str],
    system: System,
    dataset: xr.Dataset,
    *,
    times: Sequence[float] | np.ndarray,
    dt: float | None = None,
    stepper: AbstractStepper | None = None,
    piece: int | str = "64MiB",
    watch: Watcher | None = None,
    control: StepControl | None = None,
    **given: Unpack[ForecastStart],
) -> Stored:
    """Write the forecast that `predict` makes to a zarr store, in pieces: of any length.

    The store's attribute `until` is the time it is to reach; where its last time is an earlier one,
    the forecast was stopped, and `continue_forecast` goes on with it. `halved_steps` is as that of
    `predict`.

    Args:
        path: a `.zarr` folder, to be made.
        system: see `predict`, as for all that follows.
        dataset: holds the initial fields.
        times: where to save.
        dt: longest step; where None it follows the error.
        stepper: advances one step.
        piece: bytes of saved states that are held at a time; memory is a few times as much.
        watch: called with each time that the store has reached.
        control: how exact steps without `dt` are to be; its `max_steps` are those of a piece.
        given: `start`, `samples` and `dtype` as `predict` takes them.

    Raises: InputError as `predict` does, for a path that is taken or no `.zarr`, a store that
        another process is writing, or a full disk;
        NumericsError where a step fails, what was written before it staying there.
    """
    path, pieces = Path(path), Pieces(dt, stepper, control, piece)
    check_zarr(path)
    check_writable(path)
    begin = InitialCondition.of(system, dataset, **given)
    times = np.atleast_1d(as_seconds(times))
    begin.check_times(times)
    save = partial(save_dataset, chunks=_chunks(begin, piece))
    writers = itertools.chain([save], itertools.repeat(append_dataset))
    with locked(path):
        return _write(path, writers, begin, times, pieces, watch)


def continue_forecast(
    path: str | os.PathLike[str],
    system: System,
    *,
    times: Sequence[float] | np.ndarray,
    dt: float | None = None,
    stepper: AbstractStepper | None = None,
    piece: int | str = "64MiB",
    watch: Watcher | None = None,
    control: StepControl | None = None,
) -> Stored:
    """Go on with a forecast in a zarr store from its last time, adding to the store.

    To the same states as one forecast would have: to round-off, where steps and saved times are the
    same, and to their error, where steps follow that: the first of them is looked for anew.

    Args:
        path: the store.
        system: the one that the forecast was made with. Its fields, learned coefficients, grid and
            precision are compared with the store; what is known, such as a given diffusivity, is
            not in it.
        times: where to save; those that the store has reached are left out.
        dt: see `forecast_to`, as for all that follows.
        stepper: advances one step.
        piece: bytes of saved states that are held at a time.
        watch: called with each time that the store has reached.
        control: how exact steps without `dt` are to be.

    Returns: the times that were added.
    Raises: InputError for a store that holds no forecast, or that of another system or grid, or no
        time after its last; further as `forecast_to`.
    """
    path, pieces = Path(path), Pieces(dt, stepper, control, piece)
    check_zarr(path)
    if not path.exists():
        open_dataset(path)  # which says what there is
    with locked(path):
        return _continue(path, system, times, pieces, watch)


def _continue(
    path: Path,
    system: System,
    times: Sequence[float] | np.ndarray,
    pieces: Pieces,
    watch: Watcher | None,
) -> Stored:
    last = open_dataset(path, time="last")
    begin = initial_condition_at_end(last, system, path)
    times = np.atleast_1d(as_seconds(times))
    # What is less than this after the last time is that time, but for round-off. A step may be
    # longer than any interval.
    slack = min(1e-6 * (pieces.dt or np.inf), 1e-9 * np.abs(times).max(initial=0.0))
    ahead = times[~(times <= begin.time + slack)]
    if times.size and not ahead.size:
        raise InputError(
            f"{path}: the forecast already reaches t = {begin.time:.10g}, and the last time asked "
            f"for is {times[-1]:.10g}. Ask for a later one."
        )
    writers = itertools.repeat(append_dataset)
    begin.check_times(ahead)
    unsaid = "of a given length" if pieces.dt is None else ""
    noted = {
        name: str(last.attrs.get(name, said)) for name, said in ((HALVED, ""), (STEPS, unsaid))
    }
    ledger = begin.ledger(balances_of(last))
    return _write(path, writers, begin, ahead, pieces, watch, noted, ledger)


def _write(
    path: Path,
    writers: Iterator[Callable[[xr.Dataset, Path], None]],
    begin: InitialCondition,
    times: np.ndarray,
    pieces: Pieces,
    watch: Watcher | None,
    noted: Mapping[str, str] | None = None,
    ledger: Ledger | None = None,
) -> Stored:
    """Compute a forecast piece by piece, and have each written by the next of the writers.

    `noted` is what is said of the steps up to the beginning, and the ledger has its balances.
    """
    noted = {HALVED: "", STEPS: ""} | dict(noted or {})
    halved: tuple[HalvedStep, ...] = ()
    ledger = ledger or begin.ledger()
    for moments, states, more, how in pieces.of(begin, times):
        halved += more
        ledger.add(moments, states)
        attrs: dict[str, Any] = {"until": float(times[-1]), **halved_attrs(halved, noted[HALVED])}
        steps = _steps_after(noted[STEPS], how.get(STEPS, ""), pieces, begin.time)
        attrs |= dict(how) | ({STEPS: steps} if steps else {}) | ledger.attributes
        next(writers)(begin.dataset(moments, states, attrs), path)
        del states  # not to be held while the next are computed
        if watch:
            watch(float(moments[-1]))
    return Stored(len(begin.samples), times, describe_halvings(halved), ledger.scores)


def _steps_after(before: str, now: str, pieces: Pieces, time: float) -> str:
    """What is said of all steps, where others were taken before a time."""
    if not before:
        return now
    now = now or f"of at most {pieces.dt:g}"
    return before if before.endswith(now) else f"{before}; from {time:g} on {now}"


def _chunks(begin: InitialCondition, piece: int | str) -> dict[str, int]:
    """Times and samples of which a file holds the states, so that reading a few is cheap.

    No more times than a piece has: a file that is not full is read again when more are added.
    """
    bytes_each = max(u.nbytes for u in begin.state.values()) // len(begin.samples)
    times = min(max(1, _FILE_BYTES // bytes_each), most_times(begin, piece))
    samples = max(1, _FILE_BYTES // (times * bytes_each))
    return {"time": times, "sample": min(samples, len(begin.samples))}
