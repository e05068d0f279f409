r"""Keeping a number inside an interval: learned is $s$, used is a function of it.

| interval | value |
|---|---|
| $(a, b)$ | $a + (b - a)\,\mathrm{sigmoid}(s)$ |
| $(a, \infty)$ | $a + e^s$: equal steps of $s$ are equal ratios |
| $(-\infty, \infty)$ | $s$ |
"""

from typing import final

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from impindiff._errors import InputError

# Distances from a bound at which a number counts as being there. What is bounded below alone may
# be smaller than its start by any factor that a wrong unit makes.
_BESIDE_WIDTH = 1e-5
_BESIDE_START = 1e-12


@final
class Interval(eqx.Module):
    """An open interval, bounded on both sides, below, or not at all.

    Args:
        lower: $a$, finite where `upper` is.
        upper: $b$.
        whose: what the interval is for, for messages.

    Raises: InputError for another kind of interval, or an empty one.
    """

    lower: float = eqx.field(static=True)
    upper: float = eqx.field(static=True)

    def __init__(self, bounds: tuple[float, float], whose: str) -> None:
        try:
            lower, upper = (float(bound) for bound in bounds)
        except (TypeError, ValueError):
            raise InputError(
                f"{whose} has the bounds {bounds!r}: they must be two numbers, (a, b)."
            ) from None
        known = np.isfinite(lower) or (lower == -np.inf and upper == np.inf)
        if not known or np.isnan(upper):
            raise InputError(
                f"{whose} has the bounds ({lower}, {upper}): they must be two finite numbers, "
                "(a, inf) with a finite a, or (-inf, inf)."
            )
        if not lower < upper:
            raise InputError(f"{whose} has the bounds ({lower}, {upper}), with nothing inside.")
        self.lower, self.upper = lower, upper

    def inside(self, raw: Float[Array, "..."]) -> Float[Array, "..."]:
        """The values of learned numbers."""
        if np.isinf(self.lower):
            return raw
        if np.isinf(self.upper):
            return self.lower + jnp.exp(raw)
        value = self.lower + (self.upper - self.lower) * jax.nn.sigmoid(raw)
        # Of a sigmoid near 1 round-off may lead beyond the bound by its last digit.
        return jnp.clip(value, self.lower, self.upper)

    def raw(self, values: np.ndarray | float, whose: str) -> np.ndarray:
        """The numbers that have these values.

        Raises: InputError for values that are not strictly inside.
        """
        try:
            values = np.asarray(values, np.float64)
        except (TypeError, ValueError):
            raise InputError(f"{whose} starts at {values!r:.60}: give numbers.") from None
        strange = values[~((values > self.lower) & (values < self.upper))]
        if strange.size:
            raise InputError(
                f"{whose} starts at {strange.flat[0]}, which is not inside its bounds "
                f"({self.lower:g}, {self.upper:g})."
            )
        if np.isinf(self.upper):
            return values if np.isinf(self.lower) else np.asarray(np.log(values - self.lower))
        return np.asarray(np.log((values - self.lower) / (self.upper - values)))

    def reached(self, raw: np.ndarray, start: np.ndarray) -> list[float]:
        """The bounds at which some of the learned numbers stand.

        A distance from a bound is small beside the width of the interval; where that is infinite,
        beside the distance that a number started with.

        Args:
            raw: the learned numbers, on the host.
            start: where they started.
        """
        if self.is_unbounded:
            return []
        raw, start = (np.asarray(each, np.float64) for each in (raw, start))
        if np.isinf(self.upper):
            return [self.lower] if np.any(raw - start < np.log(_BESIDE_START)) else []
        edge = np.log(_BESIDE_WIDTH)  # of a sigmoid, near enough
        pairs = (self.lower, raw, start), (self.upper, -raw, -start)
        return [bound for bound, now, then in pairs if np.any((now < edge) & (now < then))]

    @property
    def is_unbounded(self) -> bool:
        """Whether any number is inside."""
        return bool(np.isinf(self.lower))

    @property
    def middle(self) -> float:
        """A value to start from where none is given: that of $s = 0$."""
        if np.isinf(self.upper):
            return 0.0 if np.isinf(self.lower) else self.lower + 1.0
        return (self.lower + self.upper) / 2
