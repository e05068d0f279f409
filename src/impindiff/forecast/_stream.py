"""Forecasts of any length, computed piece by piece and written to a store.

Arrays of time are arguments of the program and only their shapes are compiled in. So a piece is so
many steps, wherever they end: it may save as many states as memory allows or fewer, and it ends
between two saved times where these are far apart. Steps are those of the undivided forecast.

A piece begins with the last state of the one before, so the states are those of one long forecast.
What is written of it is complete at every moment (`impindiff.data.append_dataset`): a forecast that
was stopped is a shorter forecast, and can be continued. From the reading of its end to the last
piece no other process writes to the store: what it added would be overwritten, or of another start.
"""

import itertools
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache, partial
from pathlib import Path
from typing import Unpack

import jax
import jax.numpy as jnp
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
from impindiff.forecast._predict import (
    HALVED,
    STEPS,
    advise,
    carry,
    halved_attrs,
    prepare_first,
    solver_attrs,
)
from impindiff.grid import Grid, in_free_cells
from impindiff.integrate import AbstractStepper, CrankNicolson
from impindiff.rollout import (
    Choice,
    HalvedStep,
    TimeGrid,
    check_time_step,
    describe_halvings,
    parse_bytes,
    step_counts,
)
from impindiff.systems import System


@dataclass(frozen=True)
class Piece:
    """Some steps of a forecast.

    Attributes:
        time_grid: the steps; of the saved times, those after `times` are no times of the forecast.
        times: where the forecast saves.
        last: position, among the saved times, of the one where the piece ends.
    """

    time_grid: TimeGrid
    times: np.ndarray
    last: int

    def filled(self, states: Mapping[str, np.ndarray]) -> tuple[TimeGrid, dict[str, np.ndarray]]:
        """The steps and the states that they save: no step fills the other places.

        Args:
            states: `(sample, place, *grid)`.
        """
        steps = self.time_grid
        some = np.unique(steps.slots[steps.slots < len(steps.saved)])
        slots = np.searchsorted(some, steps.slots)
        given = steps.starts, steps.lengths, steps.saved[some], slots, False
        found = TimeGrid(*given, elapsed=steps.elapsed, like=steps)
        return found, {field: values[:, some] for field, values in states.items()}


def cut(
    start: float, times: np.ndarray, dt: float, most_times: int, most_steps: int
) -> Iterator[Piece]:
    """Cut a forecast into pieces of equal numbers of steps; only the last has fewer.

    Args:
        start: where the first step begins.
        times: where to save, increasing; a first time that is the start takes no step.
        dt: longest step.
        most_times: states that a piece may save.
        most_steps: steps that it may take: of each there is a record of how it was solved.

    Raises: InputError as `step_counts` does.
    """
    counts = step_counts(start, times, dt)
    ends = counts.cumsum()
    reached = ends[counts > 0]  # steps until each time that takes any
    if not reached.size:
        return iter(())
    # Where the saved times are even, a piece saves as many as it may; elsewhere they are fewer.
    size = min(int(np.median(counts[counts > 0])) * most_times, most_steps, int(reached[-1]))
    while (num_slots := int(np.bincount((reached - 1) // size).max())) > most_times:
        size = max(size // 2, most_times)
    total = int(reached[-1])
    spans = ((first, min(first + size, total)) for first in range(0, total, size))
    whole = _last_steps(start, times, counts)
    return (_piece(start, times, dt, ends, span, num_slots, whole) for span in spans)


def _last_steps(start: float, times: np.ndarray, counts: np.ndarray) -> TimeGrid:
    """The last step to each time: they begin and are resolved as the whole forecast is."""
    some = counts > 0
    lengths = (np.diff(times, prepend=start) / np.maximum(counts, 1))[some]
    saved = times[some]
    starts = saved - lengths
    starts[0] = start
    return TimeGrid(starts, lengths, saved, np.arange(saved.size), False)


def _piece(
    start: float,
    times: np.ndarray,
    dt: float,
    ends: np.ndarray,
    span: tuple[int, int],
    num_slots: int,
    of: TimeGrid,
) -> Piece:
    first, stop = span
    # The saved times in the span are times[begin:end]; one more interval may be begun.
    begin, end = (int(at) for at in np.searchsorted(ends, span, side="right"))
    here = float(times[begin - 1]) if begin else start
    whole = TimeGrid.build(here, times[begin : end + 1], dt)
    offset = first - (int(ends[begin - 1]) if begin else 0)
    taken = slice(offset, offset + stop - first)
    starts, lengths, slots = whole.starts[taken], whole.lengths[taken], whole.slots[taken]
    # One slot more than there are saved times, for the state where the piece ends.
    slots = np.where(slots < end - begin, slots, num_slots + 1)
    slots[-1] = last = min(int(slots[-1]), num_slots)
    saved = np.full(num_slots + 1, starts[-1] + lengths[-1])
    saved[: end - begin] = times[begin:end]
    elapsed = whole.elapsed[taken] + (here - start)
    given = starts, lengths, saved, slots, False
    return Piece(TimeGrid(*given, elapsed=elapsed, like=of), times[begin:end], last)


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
    stepper: AbstractStepper | None = None,
    piece: int | str = "64MiB",
    watch: Watcher | None = None,
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
        dt: longest step.
        stepper: advances one step.
        piece: bytes of saved states that are held at a time; memory is a few times as much.
        watch: called with each time that the store has reached.
        given: `start`, `samples` and `dtype` as `predict` takes them.

    Raises: InputError as `predict` does, for a path that is taken or no `.zarr`, a store that
        another process is writing, or a full disk;
        NumericsError where a step fails, what was written before it staying there.
    """
    path = Path(path)
    check_zarr(path)
    check_writable(path)
    begin = InitialCondition.of(system, dataset, **given)
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
    begin = initial_condition_at_end(last, system, path)
    times = np.atleast_1d(as_seconds(times))
    check_time_step(dt)
    # What is less than this after the last time is that time, but for round-off. A step may be
    # longer than any interval.
    slack = min(1e-6 * dt, 1e-9 * np.abs(times).max(initial=0.0))
    ahead = times[~(times <= begin.time + slack)]
    if times.size and not ahead.size:
        raise InputError(
            f"{path}: the forecast already reaches t = {begin.time:.10g}, and the last time asked "
            f"for is {times[-1]:.10g}. Ask for a later one."
        )
    writers = itertools.repeat(append_dataset)
    begin.check_times(ahead)
    noted = {HALVED: str(last.attrs.get(HALVED, ""))}
    if STEPS in last.attrs:  # which followed their error up to here
        until_here = str(last.attrs[STEPS])
        longest = f"of at most {dt:g}"
        is_said = until_here.endswith(longest)
        noted[STEPS] = until_here if is_said else f"{until_here}; from {begin.time:g} on {longest}"
    ledger = begin.ledger(balances_of(last))
    return _write(path, writers, begin, ahead, dt, stepper, piece, watch, noted, ledger)


def _write(
    path: Path,
    writers: Iterator[Callable[[xr.Dataset, Path], None]],
    begin: InitialCondition,
    times: np.ndarray,
    dt: float,
    stepper: AbstractStepper | None,
    piece: int | str,
    watch: Watcher | None,
    noted: Mapping[str, str] | None = None,
    ledger: Ledger | None = None,
) -> Stored:
    """Compute a forecast piece by piece, and have each written by the next of the writers.

    `noted` is what is said of the steps up to the beginning, and the ledger has its balances.
    """
    noted = noted or {}
    halved: tuple[HalvedStep, ...] = ()
    ledger = ledger or begin.ledger()
    for moments, states, more, choice in _pieces(begin, times, dt, stepper, piece):
        halved += more
        ledger.add(moments, states)
        attrs = {"until": float(times[-1])} | {k: v for k, v in noted.items() if v}
        attrs |= halved_attrs(halved, noted.get(HALVED, ""))
        attrs |= solver_attrs(choice) | ledger.attributes
        next(writers)(begin.dataset(moments, states, attrs), path)
        del states  # not to be held while the next are computed
        if watch:
            watch(float(moments[-1]))
    return Stored(len(begin.samples), times, describe_halvings(halved), ledger.scores)


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
    advised, grid = False, begin.system.grid
    before = {field: _extremes(grid, np.asarray(u)) for field, u in state.items()}
    taking = stepper or CrankNicolson()
    # Once for all pieces. What a state has lost goes along, too: pieces may be of a single step.
    prepared, lost = prepare_first(begin.system, state, begin.sample_parameters), None
    dtype = jnp.result_type(*state.values())
    shared = cache(lambda: begin.system.prepare_shared(dtype))
    for part in pieces:
        of_piece = state, taking, part.time_grid, begin.sample_parameters
        carried = carry(begin.system, *of_piece, lost=lost, prepared=prepared)
        halved, choice, lost = halved + carried.halved, carried.choice, carried.lost
        found = {field: np.asarray(values) for field, values in carried.states.items()}
        if not advised:
            steps, saved = part.filled(found)
            given = begin.system, state, saved, steps, begin.sample_parameters, taking
            advised = advise(*given, before, shared)
            before = {f: _extremes(grid, values, before[f]) for f, values in saved.items()}
            del saved
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


def _extremes(grid: Grid | None, values: np.ndarray, *others: np.ndarray) -> np.ndarray:
    """The least and the largest value of each sample, `(sample, 2)`."""
    rows = [in_free_cells(grid, values).reshape(len(values), -1), *others]
    every = np.hstack([np.stack([u.min(axis=1), u.max(axis=1)], axis=1) for u in rows])
    return np.stack([every.min(axis=1), every.max(axis=1)], axis=1)


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
