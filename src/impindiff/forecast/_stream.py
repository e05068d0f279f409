"""Forecasts of any length in constant memory: computed and written piece by piece.

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

import jax.numpy as jnp
import numpy as np
import xarray as xr
from jaxtyping import DTypeLike

from impindiff._dates import as_seconds
from impindiff._errors import InputError
from impindiff.data import (
    Start,
    append_dataset,
    check_writable,
    locked,
    open_dataset,
    save_dataset,
)
from impindiff.forecast._balances import BalanceScore, Ledger, balances_of
from impindiff.forecast._initial_condition import InitialCondition
from impindiff.forecast._pieces import cut
from impindiff.forecast._predict import HALVED, advise, carry, halved_attrs, solver_attrs
from impindiff.forecast._stored import beginning_at_end, check_zarr
from impindiff.integrate import AbstractStepper, CrankNicolson
from impindiff.rollout import Choice, HalvedStep, halved_note, parse_bytes
from impindiff.systems import System

# A file of a store before it is compressed: large for a disk, small beside a piece.
_FILE_BYTES = 4 * 2**20
# The record of one step for one sample, generously.
_STEP_BYTES = 64

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
    dt: float,
    start: Start | None = None,
    stepper: AbstractStepper | None = None,
    samples: str | Sequence[int] | None = None,
    dtype: DTypeLike | None = None,
    piece: int | str = "64MiB",
    watch: Watcher | None = None,
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
        dt: longest step.
        start: the initial time.
        stepper: advances one step.
        samples: which samples.
        dtype: precision.
        piece: bytes of saved states that are held at a time; memory is a few times as much.
        watch: called with each time that the store has reached.

    Raises: InputError as `predict` does, for a path that is taken or no `.zarr`, a store that
        another process is writing, or a full disk;
        NumericsError where a step fails, what was written before it staying there.
    """
    path = Path(path)
    check_zarr(path)
    check_writable(path)
    begin = InitialCondition.of(system, dataset, start, samples, dtype)
    times = np.atleast_1d(as_seconds(times))
    begin.check_times(times)
    save = partial(save_dataset, chunks=_chunks(begin, piece))
    writers = itertools.chain([save], itertools.repeat(append_dataset))
    with locked(path):
        return _write(path, writers, begin, times, dt, stepper, piece, watch)


def continue_forecast(
    path: str | os.PathLike[str],
    system: System,
    *,
    times: Sequence[float] | np.ndarray,
    dt: float,
    stepper: AbstractStepper | None = None,
    piece: int | str = "64MiB",
    watch: Watcher | None = None,
) -> Stored:
    """Go on with a forecast in a zarr store from its last time, adding to the store.

    To the same states as one forecast would have: to round-off, where steps and saved times are the
    same.

    Args:
        path: the store.
        system: the one that the forecast was made with.
        times: where to save; those that the store has reached are left out.
        dt: see `forecast_to`, as for all that follows.
        stepper: advances one step.
        piece: bytes of saved states that are held at a time.
        watch: called with each time that the store has reached.

    Returns: the times that were added.
    Raises: InputError for a store that holds no forecast, or that of another system or grid, or no
        time after its last; further as `forecast_to`.
    """
    path = Path(path)
    check_zarr(path)
    if not path.exists():
        open_dataset(path)  # which says what there is
    with locked(path):
        return _continue(path, system, times, dt, stepper, piece, watch)


def _continue(
    path: Path,
    system: System,
    times: Sequence[float] | np.ndarray,
    dt: float,
    stepper: AbstractStepper | None,
    piece: int | str,
    watch: Watcher | None,
) -> Stored:
    last = open_dataset(path, time="last")
    begin = beginning_at_end(last, system, path)
    times = np.atleast_1d(as_seconds(times))
    # What is less than this after the last time is that time, but for round-off.
    ahead = times[~(times <= begin.time + 1e-6 * dt)]
    if times.size and not ahead.size:
        raise InputError(
            f"{path}: the forecast already reaches t = {begin.time:.10g}, and the last time asked "
            f"for is {times[-1]:.10g}. Ask for a later one."
        )
    writers = itertools.repeat(append_dataset)
    begin.check_times(ahead)
    before = str(last.attrs.get(HALVED, ""))
    ledger = begin.ledger(balances_of(last))
    return _write(path, writers, begin, ahead, dt, stepper, piece, watch, before, ledger)


def _write(
    path: Path,
    writers: Iterator[Callable[[xr.Dataset, Path], None]],
    begin: InitialCondition,
    times: np.ndarray,
    dt: float,
    stepper: AbstractStepper | None,
    piece: int | str,
    watch: Watcher | None,
    before: str = "",
    ledger: Ledger | None = None,
) -> Stored:
    """Compute a forecast piece by piece, and have each written by the next of the writers.

    `before` is what is said of steps halved up to the beginning, and the ledger has its balances.
    """
    halved: tuple[HalvedStep, ...] = ()
    ledger = ledger or begin.ledger()
    for moments, states, more, choice in _pieces(begin, times, dt, stepper, piece):
        halved += more
        ledger.add(moments, states)
        attrs = {"until": float(times[-1])} | halved_attrs(halved, before)
        attrs |= solver_attrs(choice) | ledger.attributes
        next(writers)(begin.dataset(moments, states, attrs), path)
        del states  # not to be held while the next are computed
        if watch:
            watch(float(moments[-1]))
    return Stored(len(begin.samples), times, halved_note(halved), ledger.scores)


def _pieces(
    begin: InitialCondition,
    times: np.ndarray,
    dt: float,
    stepper: AbstractStepper | None,
    piece: int | str,
) -> Iterator[tuple[np.ndarray, dict[str, np.ndarray], tuple[HalvedStep, ...], Choice]]:
    """Times and states `(sample, time, *grid)`, steps that were halved, and how all were solved."""
    state = begin.state
    most_steps = max(1, parse_bytes(piece) // (_STEP_BYTES * len(begin.samples)))
    pieces = cut(begin.time, times, dt, _most_times(begin, piece), most_steps)
    # After the first piece, so that what is wrong with the steps is known before anything is kept.
    initial = times[:1], {f: np.asarray(u)[:, None] for f, u in state.items()}
    is_waiting = bool(times[0] == begin.time)
    halved: tuple[HalvedStep, ...] = ()
    advised = False
    taking = stepper or CrankNicolson()
    for part in pieces:
        carried = carry(begin.system, state, taking, part.time_grid, begin.settings)
        halved, choice = halved + carried.halved, carried.choice
        found = {field: np.asarray(values) for field, values in carried.states.items()}
        given = begin.system, state, found, part.time_grid, begin.settings, taking
        advised = advised or advise(*given)
        del carried
        # A copy: a view would keep the piece in memory.
        state = {field: jnp.array(values[:, part.last]) for field, values in found.items()}
        if is_waiting:
            yield *initial, (), choice
            is_waiting = False
        if part.times.size:
            found = {f: values[:, : part.times.size] for f, values in found.items()}
            yield part.times, found, halved, choice
            halved = ()
        del found
    if is_waiting:
        yield *initial, (), Choice("given", "", stepper or CrankNicolson(), {})


def _most_times(begin: InitialCondition, piece: int | str) -> int:
    """States that a piece may save."""
    return max(1, parse_bytes(piece) // sum(u.nbytes for u in begin.state.values()))


def _chunks(begin: InitialCondition, piece: int | str) -> dict[str, int]:
    """Times and samples of which a file holds the states, so that reading a few is cheap.

    No more times than a piece has: a file that is not full is read again when more are added.
    """
    bytes_each = max(u.nbytes for u in begin.state.values()) // len(begin.samples)
    times = min(max(1, _FILE_BYTES // bytes_each), _most_times(begin, piece))
    samples = max(1, _FILE_BYTES // (times * bytes_each))
    return {"time": times, "sample": min(samples, len(begin.samples))}
