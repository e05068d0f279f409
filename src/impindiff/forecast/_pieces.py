"""A long forecast cut into pieces of one size, so that one compiled program serves them all.

Arrays of time are arguments of the program and only their shapes are compiled in. So a piece is so
many steps, wherever they end: it may save as many states as memory allows or fewer, and it ends
between two saved times where these are far apart. Steps are those of the undivided forecast.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from impindiff.rollout import TimeGrid, step_counts


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
