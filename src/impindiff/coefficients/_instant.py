r"""Times that single precision is too coarse for: as two numbers, and as functions get them.

Seconds since 1970 are 1.7e9, and single precision knows such a number to 128 of them. So an instant
is kept as when a rollout started and how long ago that was. The origin is three numbers of single
precision that add up to the double exactly, and what passes since it begins at zero. Differences
from it lose no digit, whatever the time is counted from.

A function that subtracts a moment from such a time, `t - 46000`, gets the difference as exact as if
times were counted from that moment. Every other use has no exact meaning, and raises an error.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, NoReturn, final

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jax.core import Tracer
from jaxtyping import Array, Float

from impindiff._dates import as_seconds
from impindiff._errors import InputError
from impindiff._types import Scalar

# Of a step: no function is to see a time that is rounded to more.
_RESOLVED = 1e-3
# Of its neighbours: steps as short as this only bridge times that are nearly the same.
_SLIVER = 1e-2


@final
@dataclass(frozen=True)
class Coarse:
    """That single precision does not tell the times of steps apart well enough.

    All of them are equal: a program is the same whatever the numbers in a message.

    Attributes:
        time: at the end of the step where it is worst.
        step: its length.
        spacing: between numbers of single precision there.
        start: of the first step.
    """

    time: float = field(compare=False)
    step: float = field(compare=False)
    spacing: float = field(compare=False)
    start: float = field(compare=False)

    @classmethod
    def among(cls, starts: np.ndarray, lengths: np.ndarray) -> "Coarse | None":
        """The worst of some steps, where it is bad; none where all are well resolved.

        Raises: InputError for times that double precision does not tell apart well enough.
        """
        if not len(lengths):
            return None
        around = np.pad(lengths, 1)
        steps = np.where(lengths < _SLIVER * np.maximum(around[:-2], around[2:]), np.inf, lengths)
        ends = starts + lengths
        latest = np.maximum(np.abs(starts), np.abs(ends))
        with np.errstate(over="ignore"):
            single = np.spacing(latest.astype(np.float32)).astype(float)
        finest = np.spacing(latest)
        if np.any(finest > _RESOLVED * steps):
            at = int(np.argmax(finest / steps))
            raise InputError(
                f"at t = {ends[at]:.17g} numbers of double precision are {finest[at]:.2g} apart, "
                f"more than a thousandth of the step, {steps[at]:.6g}: count times from a moment "
                "nearby, or take longer steps. Where steps follow their error, a kink or a jump "
                "makes them so short: name its time in StepControl(breakpoints=[...])."
            )
        at = int(np.argmax(single / steps))
        if single[at] <= _RESOLVED * steps[at]:
            return None
        return cls(*map(float, (ends[at], steps[at], single[at], starts[0])))

    @property
    def message(self) -> str:
        """What is wrong, and the way out."""
        return (
            "would see the time in single precision, whose numbers are "
            f"{self.spacing:.2g} apart at t = {self.time:.12g}: more than a thousandth of the "
            f"step, {self.step:.6g}. Let it take a moment from t before anything else, "
            f"t - {self.start:.12g}, which is exact; or count all times from the start; or compute "
            "in double precision, jax.config.update('jax_enable_x64', True) and dtype=np.float64; "
            "or take longer steps."
        )


@final
class TimeNotResolved(InputError):
    """A function wants a time as one number that its precision is too coarse for."""


@final
class ExactTime:
    """`t`, of which differences from a moment are known, and comparisons with one.

    Args:
        instant: the time.
        coarse: what is wrong with it as one number.
    """

    shape: tuple[int, ...] = ()
    ndim: int = 0
    # NumPy is to leave `np.float64(46000) - t` to this class.
    __array_ufunc__ = None
    __hash__ = None  # type: ignore[assignment]

    def __init__(self, instant: Any, coarse: Coarse) -> None:
        self._instant, self._coarse = instant, coarse

    def __sub__(self, moment: Any) -> jax.Array:
        if isinstance(moment, np.ndarray) and moment.ndim == 1:
            return self._instant.since(moment)
        known = isinstance(moment, int | float | np.number | np.ndarray | jax.Array)
        if not known or isinstance(moment, Tracer) or np.ndim(moment):
            self.refuse()
        return self._instant.since(float(moment))

    def __rsub__(self, moment: Any) -> jax.Array:
        return -(self - moment)

    def __lt__(self, moment: Any) -> jax.Array:
        return self - moment < 0

    def __le__(self, moment: Any) -> jax.Array:
        return self - moment <= 0

    def __gt__(self, moment: Any) -> jax.Array:
        return self - moment > 0

    def __ge__(self, moment: Any) -> jax.Array:
        return self - moment >= 0

    def __eq__(self, moment: Any) -> Any:
        return self - moment == 0

    def __ne__(self, moment: Any) -> Any:
        return self - moment != 0

    @property
    def message(self) -> str:
        """Why it is no number."""
        return self._coarse.message

    def refuse(self, *_: Any, **__: Any) -> NoReturn:
        """Whatever else is done with it.

        Raises: TimeNotResolved.
        """
        raise TimeNotResolved(self._coarse.message)

    __array__ = __float__ = __int__ = __index__ = __bool__ = refuse
    __add__ = __radd__ = __mul__ = __rmul__ = __truediv__ = __rtruediv__ = refuse
    __floordiv__ = __rfloordiv__ = __mod__ = __rmod__ = __pow__ = __rpow__ = refuse
    __neg__ = __pos__ = __abs__ = __round__ = __getitem__ = __iter__ = __len__ = refuse


@contextmanager
def refusals_name(label: str, time: Any) -> Iterator[None]:
    """Name the function that such a time is refused to.

    JAX and Python raise errors of their own where they meet what is no array.

    Raises: InputError.
    """
    try:
        yield
    except TimeNotResolved as error:
        raise InputError(f"the function {label} {error}") from None
    except (TypeError, AttributeError) as error:
        if isinstance(time, ExactTime):
            met = str(error).partition("\n")[0]
            raise InputError(
                f"the function {label} {time.message} (Where it ended: {met})"
            ) from error
        raise


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

    def since(self, moment: float | np.ndarray) -> Float[Array, "..."]:
        """How long after a moment it is, or after each of several.

        Rounded as that difference wants, and not as the time.
        """
        parts = time_parts(moment)
        if parts.ndim > 1:
            first, second, third = jnp.asarray(parts, self.elapsed.dtype)
        else:
            first, second, third = map(float, parts)
        if self.origin is None:
            return ((self.elapsed - first) - second) - third
        one, two, three = self.origin.astype(self.elapsed.dtype)
        # Where the large parts cancel, they do so exactly, and what the difference of the next ones
        # is rounded by may be all that remains.
        large, (small, rounded) = one - first, _difference(two, second)
        return (large + small) + (rounded + ((three - third) + self.elapsed))


def _difference(
    a: Scalar, b: float | Float[Array, " moments"]
) -> tuple[Float[Array, "..."], Float[Array, "..."]]:
    """A difference, and what it is rounded by (Knuth)."""
    found = a - b
    taken = a - found
    return found, (a - (found + taken)) - (b - taken)


def time_parts(time: float | np.ndarray) -> np.ndarray:
    """Three numbers, each of single precision, that add up to a double exactly; of each of many."""
    parts = []
    for _ in range(_PARTS):
        parts.append(np.asarray(time, np.float32).astype(np.float64))
        time = time - parts[-1]
    return np.array(parts)


def as_number(time: Scalar | Instant | None) -> Scalar | None:
    """A time as one number."""
    return time.number if isinstance(time, Instant) else time
