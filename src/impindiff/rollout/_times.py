"""Cutting a span of time into steps that end exactly where a state is wanted.

Steps begin so and so long after the first of them, and that is the time that a system gets: a
difference of doubles, as good as if times had been counted from zero. A function that wants the
time itself gets it as one number, unless that is too coarse: see `impindiff.coefficients.Coarse`.
"""

from collections.abc import Sequence
from typing import Any, final

import equinox as eqx
import jax.numpy as jnp
import numpy as np
from jax.core import Tracer
from jaxtyping import Array, Float

from impindiff._dates import as_seconds
from impindiff._errors import InputError
from impindiff._types import Scalar
from impindiff.coefficients import Coarse, Instant, time_parts
from impindiff.integrate import AbstractDynamics

# The arrays of a time grid are built in full: beyond this it is the step that is mistaken.
_MOST_STEPS = 10_000_000
# Nothing is cut closer together than so many margins of a sliver.
_MARGINS = 1000


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
        origin: what `elapsed` and `elapsed_saved` are counted from, see `time_parts`. As arguments
            of a compiled function arrays may become single precision: these then are still exact,
            where `starts` and `saved` are not.
        elapsed: where each step begins, from the origin.
        elapsed_saved: the times saved, from the origin.
        coarse: where functions of the time would see too little of it, see `Coarse`.
    """

    starts: np.ndarray
    lengths: np.ndarray
    saved: np.ndarray
    slots: np.ndarray
    saves_start: bool = eqx.field(static=True)
    origin: np.ndarray
    elapsed: np.ndarray
    elapsed_saved: np.ndarray
    coarse: Coarse | None = eqx.field(static=True)

    def __init__(
        self,
        starts: np.ndarray,
        lengths: np.ndarray,
        saved: np.ndarray,
        slots: np.ndarray,
        saves_start: bool,
        *,
        elapsed: np.ndarray | None = None,
        like: "TimeGrid | None" = None,
    ) -> None:
        """See the class.

        Args:
            starts: see the class, as for all that follow.
            lengths: of the steps.
            saved: times.
            slots: of the steps.
            saves_start: whether the start is among the saved.
            elapsed: from the origin; the difference of the two where it is not given.
            like: steps of which these are some, or parts: times are counted from the same origin,
                and as well resolved. By default they are counted from the first start.
        """
        self.starts, self.lengths, self.saved = starts, lengths, saved
        self.slots, self.saves_start = slots, saves_start
        first = starts[0] if len(starts) else saved[0]
        origin = float(first if like is None else like.origin.sum())
        self.origin = time_parts(origin)
        self.elapsed = starts - origin if elapsed is None else elapsed
        self.elapsed_saved = saved - origin
        self.coarse = like.coarse if like else Coarse.among(starts, lengths)

    @classmethod
    def build(
        cls, start: float, times: float | Sequence[float] | np.ndarray, dt: float
    ) -> "TimeGrid":
        """Cut the span from `start` to the last of `times` into steps of at most `dt`.

        Times are numbers, or dates, `datetime64`: these are seconds since 1970, and `dt` seconds.

        Raises: InputError for a step that is not positive, times that do not increase, or times
            before the start.
        """
        start, times = float(as_seconds(start)), np.atleast_1d(as_seconds(times))
        counts = step_counts(start, times, dt)
        if counts.sum() > _MOST_STEPS:
            raise _too_many(start, times[-1], dt)
        return cls._cut(start, times, counts)

    @classmethod
    def even(
        cls,
        start: float,
        times: np.ndarray,
        count: int,
        like: "TimeGrid | None" = None,
    ) -> "TimeGrid":
        """Cut each span from `start`, or one of `times`, to the next into so many equal steps.

        Some of the steps of another time grid, where `like` is given: counted as these are.
        """
        return cls._cut(start, times, np.full(times.size, count), like)

    @classmethod
    def from_lengths(
        cls,
        start: float,
        times: np.ndarray,
        lengths: Sequence[Sequence[float] | np.ndarray],
        like: "TimeGrid | None" = None,
    ) -> "TimeGrid":
        """Cut the span to each of `times` into steps of given lengths.

        The last step to a time ends there, to the last digit: its own length is what is left.

        Args:
            start: where the first step begins.
            times: where to save, increasing; a first time that is the start takes no step.
            lengths: of the steps to each time, none to the first where that is the start.
            like: see the class.
        """
        parts = [np.asarray(each, np.float64) for each in lengths]
        cuts, counts = np.concatenate(parts), np.array([len(part) for part in parts])
        # Added up for each time anew: a short span may follow a long one.
        before = np.concatenate([np.append(0.0, part.cumsum())[:-1] for part in parts])
        is_last = np.isin(np.arange(len(cuts)), counts.cumsum()[counts > 0] - 1)
        heres = np.append(start, times[:-1])
        spans = np.repeat(times - heres, counts)
        cuts[is_last] = (spans - before)[is_last]
        slots = np.where(is_last, np.repeat(np.arange(times.size), counts), times.size)
        origin = float(start if like is None else like.origin.sum())
        elapsed = np.repeat(heres - origin, counts) + before
        starts = np.repeat(heres, counts) + before
        saves_start = bool(times[0] == start)
        return cls(starts, cuts, times, slots, saves_start, elapsed=elapsed, like=like)

    @property
    def lengths_by_time(self) -> list[np.ndarray]:
        """The lengths of the steps to each saved time, see `from_lengths`."""
        ends = np.flatnonzero(self.slots < len(self.saved)) + 1
        parts = np.split(self.lengths, ends)[: len(ends)]
        return [np.empty(0)] * self.saves_start + parts

    @classmethod
    def _cut(
        cls,
        start: float,
        times: np.ndarray,
        counts: np.ndarray,
        like: "TimeGrid | None" = None,
    ) -> "TimeGrid":
        """Cut the span before each time into so many equal steps."""
        origin = float(start if like is None else like.origin.sum())
        heres = np.concatenate([[start], times[:-1]])
        within = np.arange(counts.sum()) - np.repeat(counts.cumsum() - counts, counts)
        lengths = np.repeat((times - heres) / np.maximum(counts, 1), counts)
        starts = np.repeat(heres, counts) + lengths * within
        is_last = within == np.repeat(counts, counts) - 1
        slots = np.where(is_last, np.repeat(np.arange(times.size), counts), times.size)
        # Not from the starts, which are rounded as their distance from zero wants.
        elapsed = np.repeat(heres - origin, counts) + lengths * within
        saves_start = bool(times[0] == start)
        return cls(starts, lengths, times, slots, saves_start, elapsed=elapsed, like=like)

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
        elapsed = np.repeat(self.elapsed, parts) + within * lengths
        given = starts, lengths, self.saved, slots, self.saves_start
        return TimeGrid(*given, elapsed=elapsed, like=self)

    def cut_at(self, times: np.ndarray, margin: float) -> "TimeGrid":
        """The same span with a sliver of a step across each of some times.

        So no other step has such a time at one of its ends, where a function that jumps there would
        be evaluated on the wrong side.

        Args:
            times: those before and after the whole span do not matter.
            margin: how far the sliver goes, before and after. What is closer together than a
                thousand margins is not told apart: the clock would not resolve a step between.
        """
        ends = self.starts + self.lengths
        counts, starts, elapsed = [], [], []
        for first, last, since in zip(self.starts, ends, self.elapsed, strict=True):
            inside = _cuts_across(times, first, last, margin)
            begins = np.concatenate([[first], inside])
            counts.append(len(begins))
            starts.append(begins)
            elapsed.append(since + (begins - first))
        if sum(counts) == self.num_steps:
            return self
        starts, elapsed = np.concatenate(starts), np.concatenate(elapsed)
        is_last = np.isin(np.arange(len(starts)), np.cumsum(counts) - 1)
        lengths = np.append(starts[1:], 0.0) - starts
        lengths[is_last] = ends - starts[is_last]
        slots = np.where(is_last, np.repeat(self.slots, counts), len(self.saved))
        given = starts, lengths, self.saved, slots, self.saves_start
        return TimeGrid(*given, elapsed=elapsed, like=self)

    def start(self, dtype: Any) -> Instant:
        """When the first step begins, or would begin."""
        elapsed = self.elapsed if len(self.elapsed) else self.elapsed_saved
        clock = jnp.asarray(elapsed[0], dtype), jnp.asarray(self.origin, dtype)
        return Instant(*clock, self.coarse)

    @property
    def num_steps(self) -> int:
        """How many steps there are."""
        return len(self.lengths)


def check_time_step(dt: float) -> None:
    """Refuse a longest step that is none.

    Raises: InputError.
    """
    if isinstance(dt, Tracer):
        raise InputError(
            "the time step is traced by jit, vmap or grad, and the number of steps follows from "
            "it: build the time grid outside of these."
        )
    if np.ndim(dt) or np.asarray(dt).dtype.kind not in "iuf" or not 0 < dt < np.inf:
        raise InputError(
            f"the time step is {dt!r}: it must be a number, positive and finite; where times are "
            "dates, in seconds."
        )


def step_counts(start: float, times: np.ndarray, dt: float) -> np.ndarray:
    """How many steps of at most `dt` lead to each of `times` from the one before.

    None lead to a first time that is the start.

    Raises: InputError as for `TimeGrid.build`, for the steps between two times.
    """
    check_time_step(dt)
    if times.ndim != 1:
        raise InputError(f"the times to reach have the shape {times.shape}: give them in a row.")
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
            f"the first time to reach, {times[0]:.10g}, lies before the initial time {start:.10g}."
        )
    spans = np.diff(times, prepend=start)
    if spans.max() > _MOST_STEPS * dt:
        raise _too_many(start, times[-1], dt)
    # A span that is a whole number of steps but for round-off gets that number: that of a time
    # which is counted from long ago is not small beside a short span.
    round_off = 1e-6 * spans + 2 * np.spacing(np.maximum(np.abs(times), abs(start)))
    counts = np.ceil((spans - round_off) / dt).astype(int)
    return np.where(spans > 0, np.maximum(counts, 1), 0)


def _too_many(start: float, end: float, dt: float) -> InputError:
    return InputError(
        f"from {start:g} to {end:g} by steps of {dt:g} are more than {_MOST_STEPS:,} steps: raise "
        "the time step, or check its unit."
    )


def _cuts_across(times: np.ndarray, first: float, last: float, margin: float) -> np.ndarray:
    """Where to cut a step for slivers across some times, see `TimeGrid.cut_at`."""
    near = np.unique(times[(times >= first - margin) & (times <= last + margin)])
    if not near.size:
        return near
    is_apart = np.diff(near) > _MARGINS * margin
    lows = near[np.append(True, is_apart)] - margin
    highs = near[np.append(is_apart, True)] + margin
    # What lies beyond an end of the step by more than round-off is no matter of this step.
    lows = lows[(lows - first > _MARGINS * margin) & (last - lows > margin / 2)]
    highs = highs[(last - highs > _MARGINS * margin) & (highs - first > margin / 2)]
    return np.sort(np.concatenate([lows, highs]))


def tidy_time(time: float) -> float:
    """A time as it was written before it went through float32 (0.05, not 0.0500000007)."""
    return float(f"{time:.7g}")


def start_clock(
    dynamics: AbstractDynamics, time_grid: TimeGrid, dtype: Any
) -> tuple[AbstractDynamics, Float[Array, " steps"]]:
    """A system whose times are counted as those of the steps, and when each of these begins.

    One that knows no origin gets the times themselves.

    Raises: InputError for what is no function and would see times too coarsely.
    """
    coarse = time_grid.coarse if jnp.dtype(dtype).itemsize <= 4 else None
    origin, elapsed = (jnp.asarray(u, dtype) for u in (time_grid.origin, time_grid.elapsed))
    rounding = dynamics.rounding_times
    if dynamics.has_clock:
        dynamics = dynamics.counted_from(origin, coarse)
    else:
        elapsed = elapsed + origin[2] + origin[1] + origin[0]
    if coarse and rounding:
        raise InputError(f"{rounding[0]} {coarse.message}")
    return dynamics, elapsed


def start_clock_at(dynamics: AbstractDynamics, instant: Instant) -> tuple[AbstractDynamics, Scalar]:
    """The same for one instant."""
    if instant.origin is not None and dynamics.has_clock:
        return dynamics.counted_from(instant.origin), instant.elapsed
    return dynamics, instant.number
