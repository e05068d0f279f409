r"""A given series as a coefficient of time: forcing that was measured, between its samples.

$$
f(t) = h_{00}(s)\,f_i + h_{10}(s)\,w\,m_i + h_{01}(s)\,f_{i+1} + h_{11}(s)\,w\,m_{i+1},
\qquad s = (t - t_i) / w,\quad w = t_{i+1} - t_i,
$$

with slopes $m$ of Fritsch and Carlson, which are zero at every local extremum: between two samples
the curve never leaves their range. Or straight between them.
"""

from collections.abc import Sequence
from typing import Any, Literal, final, get_args

import equinox as eqx
import jax.numpy as jnp
import numpy as np
from jax.core import Tracer
from jaxtyping import Array, ArrayLike, Float

from impindiff._dates import as_seconds
from impindiff._errors import InputError
from impindiff._types import Scalar
from impindiff.coefficients._coefficient import AbstractClosure, Values, slack_of
from impindiff.coefficients._instant import Instant
from impindiff.grid import Grid

Method = Literal["linear", "pchip"]

_MOST_NAMED = 5


@final
class Series(AbstractClosure):
    r"""A given time series, such as the weather, wherever a coefficient of time may stand.

    `Source(Series(hours, rain))`, `Dirichlet(Series(dates, temperature, "pchip"))`,
    `System(..., coefficients={"inflow": Series(days, inflow)})`.

    Args:
        times: of the samples, increasing: numbers as the system counts its times, or dates
            (`datetime64`), which are seconds since 1970.
        values: one for each time, or rows of them, see `row`. Differentiable.
        method: "linear", or "pchip" for a smooth curve without overshoots.
        row: name of a sample parameter of the system that says which row of `values` is that of
            a sample: 0, 1, 2 ... Without it all samples have the same series.

    Accuracy: second order in the distance of the samples; "pchip" third, second at extrema.
    Raises: InputError for times that do not increase, gaps (NaN) among the values, another number
        of values, another method, and, before a rollout, for one that goes beyond the series.
    Reference: F. N. Fritsch, R. E. Carlson, SIAM J. Numer. Anal. 17 (1980) 238; the slopes are
        those of F. N. Fritsch, J. Butland, SIAM J. Sci. Stat. Comput. 5 (1984) 300.
    """

    values: Float[Array, "*rows times"]
    slopes: Float[Array, "*rows times"] | None
    # Bytes, whose hash is known once and for all.
    moments: bytes = eqx.field(static=True)
    method: Method = eqx.field(static=True)
    row: str | None = eqx.field(static=True)
    arguments: tuple[str, ...] = eqx.field(static=True)

    def __init__(
        self,
        times: Sequence[Any] | np.ndarray,
        values: ArrayLike | Sequence[Any],
        method: Method = "linear",
        *,
        row: str | None = None,
    ) -> None:
        known = np.atleast_1d(as_seconds(times))
        check_times(known, "Series")
        if method not in get_args(Method):
            raise InputError(f"Series(method={method!r}): give 'linear' or 'pchip'.")
        try:
            self.values = jnp.asarray(values, float)
        except (TypeError, ValueError) as error:
            raise InputError(f"the values of Series are no numbers ({error}).") from error
        _check_values(self.values, known, row)
        self.slopes, self.moments, self.method, self.row = None, known.tobytes(), method, row
        self.arguments = ("t",) if row is None else ("t", row)

    @property
    def times(self) -> np.ndarray:
        """Of the samples, float64."""
        return np.frombuffer(self.moments)

    @property
    def label(self) -> str:
        """See `AbstractClosure.label`."""
        return f"Series({', '.join(self.arguments)})"

    @property
    def time_span(self) -> tuple[float, float]:
        """See `AbstractCoefficient.time_span`."""
        return float(self.times[0]), float(self.times[-1])

    def outside_span(self, first: float, last: float, what: str) -> str:
        """See `AbstractCoefficient.outside_span`."""
        begin, end = self.time_span
        return (
            f"a Series of {len(self.times)} values goes from t = {begin:.10g} to {end:.10g}, but "
            f"{what} goes from t = {first:.10g} to {last:.10g}: give values for all of that time, "
            "or end the run with the series."
        )

    def prepared(self, grid: Grid | None) -> "Series":
        """The same with its slopes computed, once for a rollout."""
        if self.method == "linear" or self.slopes is not None:
            return self
        slopes = monotone_slopes(np.diff(self.times), self.values)
        return eqx.tree_at(lambda s: s.slopes, self, slopes, is_leaf=lambda node: node is None)

    def extrema_within(self, time: Instant, dt: Scalar, values: Values) -> list[Scalar]:
        """See `AbstractCoefficient.extrema_within`."""
        samples = self.values
        if self.row is not None:
            place = jnp.clip(jnp.round(jnp.asarray(values[self.row])), 0, len(samples) - 1)
            samples = samples[place.astype(int)]
        return extreme_knots(time.since(self.times), samples, dt)

    def evaluate(
        self, grid: Grid | None, time: Scalar | None = None, values: Values | None = None
    ) -> Float[Array, ""]:
        """See `AbstractClosure.evaluate`; NaN beyond the series."""
        known: Values = {} if values is None else values
        whole = self.prepared(grid)
        samples, slopes = whole.values, whole.slopes
        if self.row is not None:
            number = jnp.asarray(known[self.row])
            place = jnp.clip(jnp.round(number), 0, len(samples) - 1).astype(int)
            is_there = place == number
            samples = jnp.where(is_there, samples[place], jnp.nan)
            slopes = None if slopes is None else slopes[place]
        # Differences from each moment: exact where the time itself is not.
        after = jnp.asarray(known["t"] - self.times)
        slack = slack_of(*self.time_span)
        is_inside = (after[0] >= -slack) & (after[-1] <= slack)
        found = between_samples(after, self.times, samples, slopes)
        return jnp.where(is_inside, found, jnp.nan)


def extreme_knots(
    after: Float[Array, " times"], samples: Float[Array, " times"], dt: Scalar
) -> list[Scalar]:
    """How far ahead, within a step, a series has its greatest sample and its least.

    Between two samples it is monotone, so its extrema in the step are there or at the ends.
    Infinite where no sample is in the step.

    Args:
        after: how long after each of its times the step begins.
        samples: the values there.
        dt: length of the step.
    """
    ahead = -after
    is_inside = (ahead > 0) & (ahead < dt)

    def greatest(of: Array) -> Scalar:
        at = jnp.argmax(jnp.where(is_inside, of, -jnp.inf))
        return jnp.where(is_inside[at], ahead[at], jnp.inf)

    return [greatest(samples), greatest(-samples)]


def between_samples(
    after: Float[Array, " times"],
    times: np.ndarray,
    samples: Float[Array, " times"],
    slopes: Float[Array, " times"] | None,
) -> Float[Array, ""]:
    """The value of a series between two of its samples.

    Args:
        after: how long after each of its times.
        times: of the samples.
        samples: the values there.
        slopes: see `monotone_slopes`; None for straight lines.
    """
    at = jnp.clip(jnp.sum(after >= 0) - 1, 0, len(after) - 2)
    width = jnp.asarray(np.diff(times), after.dtype)[at]
    s, one, other = after[at] / width, samples[at], samples[at + 1]
    if slopes is None:
        return one + s * (other - one)
    rise, bend = s**2 * (3 - 2 * s), s * (1 - s)
    ends = (1 - s) * slopes[at] - s * slopes[at + 1]
    return one + rise * (other - one) + bend * width * ends


def check_times(times: np.ndarray, whose: str) -> None:
    """Refuse times that are no samples of a series.

    Raises: InputError.
    """
    if times.ndim != 1 or times.size < 2 or not np.isfinite(times).all():
        raise InputError(
            f"the times of {whose} have the shape {times.shape}: give at least two in a row, all "
            "finite."
        )
    if np.any(np.diff(times) <= 0):
        at = int(np.argmax(np.diff(times) <= 0))
        raise InputError(
            f"the times of {whose} must increase without repeating, found {times[at + 1]:.10g} "
            f"after {times[at]:.10g}, at position {at + 1}. Sort them, and average what is double."
        )


def _check_values(values: Array, times: np.ndarray, row: str | None) -> None:
    dims = 1 if row is None else 2
    if values.ndim != dims or values.shape[-1] != times.size:
        wanted = "one for each time" if row is None else "a row for each sample, (rows, times)"
        more = " For several series, row='...' names the sample parameter that chooses one."
        raise InputError(
            f"the values of Series have the shape {values.shape}, its times {times.shape}: give "
            f"{wanted}.{more if row is None and values.ndim == 2 else ''}"
        )
    if isinstance(values, Tracer):
        return
    gaps = ~np.isfinite(np.asarray(values))
    if gaps.any():
        at = np.flatnonzero(gaps.reshape(-1, times.size).any(axis=0))
        named = ", ".join(f"{time:.10g}" for time in times[at[:_MOST_NAMED]])
        more = f" and {len(at) - _MOST_NAMED} more" if len(at) > _MOST_NAMED else ""
        raise InputError(
            f"the values of Series have gaps, NaN or infinite at t = {named}{more}: leave these "
            "times out, so that it is interpolated between their neighbours, or fill them first."
        )


def monotone_slopes(
    widths: np.ndarray, values: Float[Array, "*rows times"]
) -> Float[Array, "*rows times"]:
    """The slopes of a smooth curve at the samples.

    Harmonic means of those beside, zero at extrema.
    """
    w = jnp.asarray(widths, values.dtype)
    rises = jnp.diff(values, axis=-1) / w
    if len(widths) == 1:
        return jnp.concatenate([rises, rises], axis=-1)
    before, after = rises[..., :-1], rises[..., 1:]
    one, other = 2 * w[1:] + w[:-1], w[1:] + 2 * w[:-1]
    is_monotone = before * after > 0
    # Guarded twice: the slope of a branch that is not taken must be finite, too.
    below = jnp.where(is_monotone, one * after + other * before, 1)
    inner = jnp.where(is_monotone, (one + other) * before * after / below, 0)
    first = _end_slope(w[0], w[1], rises[..., 0], rises[..., 1])
    last = _end_slope(w[-1], w[-2], rises[..., -1], rises[..., -2])
    return jnp.concatenate([first[..., None], inner, last[..., None]], axis=-1)


def _end_slope(width: Array, next_width: Array, rise: Array, next_rise: Array) -> Array:
    """That of a parabola through three samples, as far as it keeps the curve monotone."""
    slope = ((2 * width + next_width) * rise - width * next_rise) / (width + next_width)
    slope = jnp.where(slope * rise <= 0, 0, slope)
    turns = (rise * next_rise < 0) & (jnp.abs(slope) > 3 * jnp.abs(rise))
    return jnp.where(turns, 3 * rise, slope)
