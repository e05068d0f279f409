r"""A time as two numbers: when a rollout started, and how long ago that was.

Seconds since 1970 are 1.7e9, and single precision knows such a number to 128 of them. So an origin
is kept as three numbers of single precision that add up to the double exactly, and what passes
since it begins at zero. Differences from it lose no digit, whatever the time is counted from.
"""

from typing import Any, final

import equinox as eqx
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from impindiff._dates import as_seconds
from impindiff._types import Scalar
from impindiff.coefficients._exact_time import Coarse, ExactTime

# Three times the 24 bits of single precision hold the 53 of double precision.
_PARTS = 3


@final
class Instant(eqx.Module):
    r"""$t = o_1 + o_2 + o_3 + e$.

    Attributes:
        elapsed: $e$, what has passed since the origin.
        origin: $o$, see `time_parts`; none where times are counted from zero.
        coarse: of the steps that it is a time of, see `Coarse`.
    """

    elapsed: Scalar
    origin: Float[Array, " 3"] | None = None
    coarse: Coarse | None = eqx.field(static=True, default=None)

    @classmethod
    def of(cls, time: Any, dtype: Any) -> "Instant":
        """An instant given as one number: of a number of Python or NumPy no digit is lost."""
        if isinstance(time, Instant):
            return time
        if isinstance(time, Array):
            return cls(time.astype(dtype))
        return cls(jnp.zeros((), dtype), jnp.asarray(time_parts(float(as_seconds(time))), dtype))

    @property
    def number(self) -> Scalar:
        """The time as one number, rounded as its precision wants."""
        if self.origin is None:
            return self.elapsed
        one, two, three = self.origin.astype(self.elapsed.dtype)
        return one + (two + (three + self.elapsed))

    @property
    def named(self) -> "Scalar | ExactTime":
        """`t` as functions are given it: the number, where that is good enough."""
        if self.coarse is None or self.elapsed.dtype.itemsize > 4:
            return self.number
        return ExactTime(self, self.coarse)

    def since(self, moment: float) -> Scalar:
        """How long after a moment it is: rounded as that difference wants, and not as the time."""
        first, second, third = (float(part) for part in time_parts(moment))
        if self.origin is None:
            return ((self.elapsed - first) - second) - third
        one, two, three = self.origin.astype(self.elapsed.dtype)
        # Where the large parts cancel, they do so exactly, and what the difference of the next ones
        # is rounded by may be all that remains.
        large, (small, rounded) = one - first, _difference(two, second)
        return (large + small) + (rounded + ((three - third) + self.elapsed))


def _difference(a: Scalar, b: float) -> tuple[Scalar, Scalar]:
    """A difference, and what it is rounded by (Knuth)."""
    found = a - b
    taken = a - found
    return found, (a - (found + taken)) - (b - taken)


def time_parts(time: float) -> np.ndarray:
    """Three numbers, each of single precision, that add up to a double exactly."""
    parts = []
    for _ in range(_PARTS):
        parts.append(float(np.float32(time)))
        time -= parts[-1]
    return np.array(parts)


def as_number(time: Scalar | Instant | None) -> Scalar | None:
    """A time as one number."""
    return time.number if isinstance(time, Instant) else time
