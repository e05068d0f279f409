"""The time as functions get it where one number of their precision is too coarse for it.

In single precision numbers are .0039 apart at 46,000 (days since 1900) and 128 at 1.8e9 (seconds
since 1970). A function that takes a moment from such a time, `t - 46000`, gets the difference as
exact as if times were counted from that moment. What has no exact meaning is refused.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, NoReturn, final

import jax
import numpy as np
from jax.core import Tracer

from impindiff._errors import InputError

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
                "nearby, or take longer steps."
            )
        at = int(np.argmax(single / steps))
        if single[at] <= _RESOLVED * steps[at]:
            return None
        return cls(*map(float, (ends[at], steps[at], single[at], starts[0])))

    @property
    def told(self) -> str:
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
    def told(self) -> str:
        """Why it is no number."""
        return self._coarse.told

    def refuse(self, *_: Any, **__: Any) -> NoReturn:
        """Whatever else is done with it.

        Raises: TimeNotResolved.
        """
        raise TimeNotResolved(self._coarse.told)

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
            raise InputError(f"the function {label} {time.told} (Where it ended: {met})") from error
        raise
