"""A forecast piece by piece: each goes on from the last state of the one before.

Arrays of time are arguments of the program and only their shapes are compiled in. So a piece of
steps of a given length is so many of them, wherever they end: it may save as many states as memory
allows or fewer, and it ends between two saved times where these are far apart. A piece of steps
that follow their error ends at a saved time. Steps are those of the undivided forecast.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from typing import Any, NamedTuple, final

import jax.numpy as jnp
import numpy as np

from impindiff.forecast._initial_condition import InitialCondition
from impindiff.forecast._predict import (
    STEPS,
    advise,
    carry,
    prepare_first,
    solver_attrs,
)
from impindiff.grid import in_free_cells
from impindiff.integrate import AbstractStepper
from impindiff.rollout import (
    Begun,
    Choice,
    HalvedStep,
    StepControl,
    TimeGrid,
    control_samples,
    describe_steps,
    parse_bytes,
    spans_of,
    step_counts,
    stepper_for,
)

# The record of one step for one sample, generously.
_STEP_BYTES = 64


class Part(NamedTuple):
    """What a piece has come to.

    Attributes:
        times: where it saves.
        states: `(sample, time, *grid)` of each field.
        halved: the steps in it that had to be halved.
        attributes: what a dataset says of how all so far was solved.
    """

    times: np.ndarray
    states: dict[str, np.ndarray]
    halved: tuple[HalvedStep, ...]
    attributes: Mapping[str, str]


@dataclass(frozen=True)
class Lengths:
    """The steps of the pieces so far."""

    count: int = 0
    shortest: float = np.inf
    longest: float = 0.0

    def and_these(self, lengths: np.ndarray) -> "Lengths":
        """With those of one more piece."""
        ends = min(self.shortest, lengths.min()), max(self.longest, lengths.max())
        return Lengths(self.count + len(lengths), *map(float, ends))

    def message(self, control: StepControl, dtype: jnp.dtype) -> str:
        """See `describe_steps`."""
        return describe_steps(self.count, self.shortest, self.longest, control, dtype)


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


@final
@dataclass(frozen=True)
class Pieces:
    """How a forecast is cut, and what its steps are.

    Args:
        dt: the longest step; steps follow their error where None.
        stepper: advances one; by default Crank-Nicolson, and ESDIRK4 without `dt`.
        control: how exact steps without `dt` are to be; its `max_steps` are those of a piece.
        piece: bytes of saved states that are held at a time.

    Raises: InputError for `control` beside `dt`.
    """

    dt: float | None
    stepper: AbstractStepper | None
    control: StepControl | None
    piece: int | str

    def __post_init__(self) -> None:
        """Refuse what cannot be, before anything is computed."""
        stepper_for(self.dt, self.stepper, self.control)

    def of(self, begin: InitialCondition, times: np.ndarray) -> Iterator[Part]:
        """The pieces of a forecast.

        Args:
            begin: where it begins.
            times: where it saves.

        Raises: as `predict`.
        """
        stepper = stepper_for(self.dt, self.stepper, self.control)
        if self.dt is None:
            yield from _by_error(begin, times, self.control or StepControl(), stepper, self.piece)
        else:
            yield from _by_steps(begin, times, self.dt, stepper, self.piece)


def _by_steps(
    begin: InitialCondition,
    times: np.ndarray,
    dt: float,
    stepper: AbstractStepper,
    piece: int | str,
) -> Iterator[Part]:
    """The pieces of a forecast by steps of at most a length."""
    state = begin.state
    most_steps = max(1, parse_bytes(piece) // (_STEP_BYTES * len(begin.samples)))
    pieces = cut(begin.time, times, dt, most_times(begin, piece), most_steps)
    # After the first piece, so that what is wrong with the steps is known before anything is kept.
    initial = times[:1], _with_time(state)
    is_waiting = bool(times[0] == begin.time)
    halved: tuple[HalvedStep, ...] = ()
    advised, before = False, _extremes_of(begin, _with_time(state))
    # Once for all pieces. What a state has lost goes along, too: pieces may be of a single step.
    prepared, lost = prepare_first(begin.system, state, begin.sample_parameters), None
    dtype = jnp.result_type(*state.values())
    shared = cache(lambda: begin.system.prepare_shared(dtype))
    for part in pieces:
        of_piece = state, stepper, part.time_grid, begin.sample_parameters
        carried = carry(begin.system, *of_piece, lost=lost, prepared=prepared)
        halved, choice, lost = halved + carried.halved, carried.choice, carried.lost
        found = {field: np.asarray(values) for field, values in carried.states.items()}
        if not advised:
            steps, saved = part.filled(found)
            given = begin.system, state, saved, steps, begin.sample_parameters, stepper
            advised = advise(*given, before, shared)
            before = _extremes_of(begin, saved, before)
            del saved
        del carried
        # A copy: a view would keep the piece in memory.
        state = {field: jnp.array(values[:, part.last]) for field, values in found.items()}
        if is_waiting:
            yield Part(*initial, (), solver_attrs(choice))
            is_waiting = False
        if part.times.size:
            found = {f: values[:, : part.times.size] for f, values in found.items()}
            yield Part(part.times, found, halved, solver_attrs(choice))
            halved = ()
        del found
    if is_waiting:
        chosen = Choice("given", "", stepper, {})
        yield Part(*initial, (), solver_attrs(chosen))


def _by_error(
    begin: InitialCondition,
    times: np.ndarray,
    control: StepControl,
    stepper: AbstractStepper,
    piece: int | str,
) -> Iterator[Part]:
    """The same by steps that follow their error."""
    state, given = begin.state, begin.sample_parameters
    dtype = jnp.result_type(*state.values())
    spans = spans_of(begin.time, times)
    whole = jnp.asarray(spans.lengths.sum(), dtype)
    # After the first piece, so that what is wrong with the steps is known before anything is kept.
    initial = Part(times[:1], _with_time(state), (), {STEPS: "none"})
    most, lengths, begun = most_times(begin, piece), Lengths(), Begun.nothing(state, whole)
    advised, before = False, _extremes_of(begin, _with_time(state))
    shared = cache(lambda: begin.system.prepare_shared(dtype))
    ends = spans.saved[spans.saves_start :]
    for first in range(0, spans.num_steps, most):
        some = slice(first, first + most)
        saved = ends[some]
        given_steps = spans.starts[some], spans.lengths[some], saved, np.arange(len(saved)), False
        of_piece = TimeGrid(*given_steps, elapsed=spans.elapsed[some], like=spans)
        found = control_samples(begin.system, state, of_piece, stepper, control, given, begun=begun)
        states = {field: np.asarray(u) for field, u in found.states.items()}
        if not advised:
            seen = begin.system, state, states, found.time_grid, given, stepper
            advised = advise(*seen, before, shared)
            before = _extremes_of(begin, states, before)
        lengths, begun = lengths.and_these(found.time_grid.lengths), found.begun
        del found
        # A copy: a view would keep the piece in memory.
        state = {field: jnp.array(u[:, -1]) for field, u in states.items()}
        if spans.saves_start and not first:
            yield initial
        yield Part(saved, states, (), {STEPS: lengths.message(control, dtype)})
        del states
    if not spans.num_steps:
        yield initial


def _with_time(state: Mapping[str, Any]) -> dict[str, np.ndarray]:
    """One state, of one time."""
    return {field: np.asarray(u)[:, None] for field, u in state.items()}


def _extremes_of(
    begin: InitialCondition,
    states: Mapping[str, np.ndarray],
    before: Mapping[str, np.ndarray] | None = None,
) -> dict[str, np.ndarray]:
    """The least and the largest value of each sample, `(sample, 2)`, with those from before."""
    found = {}
    for field, values in states.items():
        free = in_free_cells(begin.system.grid, values).reshape(len(values), -1)
        every = np.hstack([free, before[field]]) if before else free
        found[field] = np.stack([every.min(axis=1), every.max(axis=1)], axis=1)
    return found


def most_times(begin: InitialCondition, piece: int | str) -> int:
    """States that a piece may save."""
    return max(1, parse_bytes(piece) // sum(u.nbytes for u in begin.state.values()))
