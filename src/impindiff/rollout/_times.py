"""Cutting a span of time into steps that end exactly where a state is wanted."""

from collections.abc import Sequence
from typing import final

import equinox as eqx
import numpy as np

from impindiff._errors import InputError

# The arrays of a time grid are built in full: beyond this it is the step that is mistaken.
_MOST_STEPS = 10_000_000


@final
class TimeGrid(eqx.Module):
    """Steps from a start to a last time, through every time to be saved.

    Attributes:
        starts: where each step begins, shape `(num_steps,)`, float64.
        lengths: how long it is; at most the `dt` asked for, equal between two saved times.
        saved: the times saved, increasing.
        slots: for each step, the index in `saved` of the time it ends at, or `len(saved)` where
            that is none.
        saves_start: whether the first saved time is the start itself.
    """

    starts: np.ndarray
    lengths: np.ndarray
    saved: np.ndarray
    slots: np.ndarray
    saves_start: bool = eqx.field(static=True)

    @classmethod
    def build(
        cls, start: float, times: float | Sequence[float] | np.ndarray, dt: float
    ) -> "TimeGrid":
        """Cut the span from `start` to the last of `times` into steps of at most `dt`.

        Raises: InputError for a step that is not positive, times that do not increase, or times
            before the start.
        """
        times = np.atleast_1d(np.asarray(times, dtype=np.float64))
        counts = step_counts(start, times, dt)
        if counts.sum() > _MOST_STEPS:
            raise _too_many(start, times[-1], dt)
        return cls._cut(start, times, counts)

    @classmethod
    def even(cls, start: float, times: np.ndarray, count: int) -> "TimeGrid":
        """Cut each span from `start`, or one of `times`, to the next into so many equal steps."""
        return cls._cut(start, times, np.full(times.size, count))

    @classmethod
    def _cut(cls, start: float, times: np.ndarray, counts: np.ndarray) -> "TimeGrid":
        """Cut the span before each time into so many equal steps."""
        heres = np.concatenate([[start], times[:-1]])
        within = np.arange(counts.sum()) - np.repeat(counts.cumsum() - counts, counts)
        lengths = np.repeat((times - heres) / np.maximum(counts, 1), counts)
        starts = np.repeat(heres, counts) + lengths * within
        is_last = within == np.repeat(counts, counts) - 1
        slots = np.where(is_last, np.repeat(np.arange(times.size), counts), times.size)
        return cls(starts, lengths, times, slots, saves_start=bool(times[0] == start))

    def halved(self, times: Sequence[int]) -> "TimeGrid":
        """The same span with some steps cut into 2, 4, 8 ... equal ones.

        Args:
            times: how often to halve each step; none is halved where this is empty.
        """
        if not len(times):
            return self
        parts = 2 ** np.asarray(times)
        lengths = np.repeat(self.lengths / parts, parts)
        within = np.concatenate([np.arange(n) for n in parts])
        starts = np.repeat(self.starts, parts) + within * lengths
        is_last = within == np.repeat(parts, parts) - 1
        slots = np.where(is_last, np.repeat(self.slots, parts), len(self.saved))
        return TimeGrid(starts, lengths, self.saved, slots, self.saves_start)

    @property
    def num_steps(self) -> int:
        """How many steps there are."""
        return len(self.lengths)


def step_counts(start: float, times: np.ndarray, dt: float) -> np.ndarray:
    """How many steps of at most `dt` lead to each of `times` from the one before.

    None lead to a first time that is the start.

    Raises: InputError as for `TimeGrid.build`, for the steps between two times.
    """
    if isinstance(dt, str) or np.ndim(dt) or not 0 < dt < np.inf:
        raise InputError(f"the time step is {dt!r}: it must be a number, positive and finite.")
    if not np.isfinite(start):
        raise InputError(f"the initial time is {start}: it must be finite.")
    if times.size == 0 or not np.all(np.isfinite(times)):
        raise InputError("the times to reach must be finite numbers, at least one.")
    if np.any(np.diff(times) <= 0):
        at = int(np.argmax(np.diff(times) <= 0))
        raise InputError(
            f"the times to reach must increase without repeating, found {times[at + 1]:g} after "
            f"{times[at]:g}."
        )
    if times[0] < start:
        raise InputError(
            f"the first time to reach, {times[0]:g}, lies before the initial time {start:g}."
        )
    spans = np.diff(times, prepend=start)
    if spans.max() > _MOST_STEPS * dt:
        raise _too_many(start, times[-1], dt)
    # A span that is a whole number of steps but for round-off gets that number.
    counts = np.ceil(spans / dt * (1 - 1e-6)).astype(int)
    return np.where(spans > 0, np.maximum(counts, 1), 0)


def _too_many(start: float, end: float, dt: float) -> InputError:
    return InputError(
        f"from {start:g} to {end:g} by steps of {dt:g} are more than {_MOST_STEPS:,} steps: raise "
        "the time step, or check its unit."
    )


def tidy_time(time: float) -> float:
    """A time as it was written before it went through float32 (0.05, not 0.0500000007)."""
    return float(f"{time:.7g}")
