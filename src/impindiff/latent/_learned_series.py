"""An unknown number that varies in time, by its values at some times."""

from collections.abc import Sequence
from typing import Any, ClassVar, final, get_args

import equinox as eqx
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, ArrayLike, DTypeLike, Float

from impindiff._dates import as_seconds
from impindiff._errors import InputError, as_text
from impindiff._types import Scalar
from impindiff.coefficients import (
    Instant,
    Method,
    Values,
    between_samples,
    check_times,
    extreme_knots,
    monotone_slopes,
    real_precision,
)
from impindiff.grid import Grid
from impindiff.latent._coordinates import given_time
from impindiff.latent._field import AbstractLatent, Proportional
from impindiff.latent._interval import Interval

_ANY = (-float("inf"), float("inf"))
# Of the whole series: times that went through single precision may be a little off its ends.
_ROUND_OFF = 1e-5


@final
class LearnedSeries(AbstractLatent):
    r"""A number that varies in time, learned at knots $t_i$ and interpolated between them.

    What a `Series` is of values that were measured: the inflow of a basin, the load of a machine,
    the temperature of a wall, where only their effects were. One value for all cells, on a grid or
    without one.

    Args:
        name: as in data files.
        times: the knots, increasing: numbers as the system counts its times, or dates. The first
            and the last are the span it is wanted for, forecasts included.
        initial: where to start, strictly inside the bounds: one number, or one for each knot.
        bounds: as those of `Parameter`; the curve between two knots never leaves them, either.
        method: "linear", or "pchip" for a smooth curve without overshoots.
        dtype: as that of `Parameter`.

    Accuracy: as that of `Series` in the distance of the knots.
    Raises: InputError for times that do not increase, another number of initial values, or values
        that are not inside the bounds.
    """

    raw: Float[Array, " knots"]
    names: tuple[str, ...] = eqx.field(static=True)
    interval: Interval = eqx.field(static=True)
    # Bytes, whose hash is known once and for all.
    moments: bytes = eqx.field(static=True)
    method: Method = eqx.field(static=True)

    is_number: ClassVar[bool] = True

    def __init__(
        self,
        name: str,
        times: Sequence[Any] | np.ndarray,
        initial: ArrayLike | Sequence[float],
        bounds: tuple[float, float] = _ANY,
        method: Method = "linear",
        *,
        dtype: DTypeLike | None = None,
    ) -> None:
        whose = f"learned series {as_text(name, 'the name of a learned series')!r}"
        known = np.atleast_1d(as_seconds(times))
        check_times(known, whose)
        if method not in get_args(Method):
            raise InputError(f"{whose} has method={method!r}: give 'linear' or 'pchip'.")
        values = np.asarray(initial)
        if values.shape not in ((), known.shape):
            raise InputError(
                f"{whose} starts at values of the shape {values.shape}: give one number, or one "
                f"for each of its {known.size} times."
            )
        self.interval = Interval(bounds, whose)
        raw = self.interval.raw(np.broadcast_to(values, known.shape), whose)
        self.raw = jnp.asarray(raw, real_precision(dtype))
        self.names, self.moments, self.method = (name,), known.tobytes(), method

    @property
    def times(self) -> np.ndarray:
        """The knots, float64."""
        return np.frombuffer(self.moments)

    @property
    def values(self) -> Float[Array, " knots"]:
        """What it is at the knots."""
        return self.interval.inside(self.raw)

    @property
    def in_unit_of_values(self) -> tuple[Proportional, ...]:
        """See `AbstractLatent.in_unit_of_values`."""
        return (Proportional(self.raw),) if self.interval.is_unbounded else ()

    @property
    def lower_bound(self) -> float:
        """See `AbstractLatent.lower_bound`."""
        return self.interval.lower

    @property
    def kept_inside(self) -> tuple[Interval, Array | np.ndarray | None]:
        """See `AbstractLatent.kept_inside`."""
        return self.interval, self.raw

    @property
    def is_steady(self) -> bool:
        """See `AbstractCoefficient.is_steady`."""
        return False

    @property
    def takes_instants(self) -> bool:
        """See `AbstractCoefficient.takes_instants`: it counts from its knots."""
        return True

    @property
    def time_span(self) -> tuple[float, float]:
        """See `AbstractLatent.time_span`."""
        return float(self.times[0]), float(self.times[-1])

    def to_cover(self, first: float, last: float) -> str:
        """See `AbstractLatent.to_cover`."""
        return f"Give it times from {first:.10g} to {last:.10g}"

    def extrema_within(self, time: Instant, dt: Scalar, values: Values) -> list[Scalar]:
        """See `AbstractCoefficient.extrema_within`."""
        return extreme_knots(time.since(self.times), self.values, dt)

    def evaluate(self, grid: Grid | None, time: Scalar | Instant | None = None) -> Float[Array, ""]:
        """See `AbstractCoefficient.evaluate`; NaN beyond the knots."""
        given = given_time(time, self.names)
        instant = given if isinstance(given, Instant) else Instant(given)
        after = instant.since(self.times).astype(self.raw.dtype)
        slack = _ROUND_OFF * (self.times[-1] - self.times[0])
        is_inside = (after[0] >= -slack) & (after[-1] <= slack)
        values = self.values
        widths = np.diff(self.times)
        slopes = None if self.method == "linear" else monotone_slopes(widths, values)
        found = between_samples(after, self.times, values, slopes)
        return jnp.where(is_inside, found, jnp.nan)
