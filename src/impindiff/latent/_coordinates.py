"""How neural fields see where and when: numbers between -1 and 1."""

from collections.abc import Sequence
from typing import final

import equinox as eqx
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from impindiff._dates import as_seconds
from impindiff._errors import InputError
from impindiff._types import Scalar
from impindiff.coefficients import Instant
from impindiff.grid import Grid

Times = Sequence[float | np.datetime64]
"""Times, or dates: these are seconds since 1970."""


def turns(grid: Grid) -> np.ndarray:
    """Sine and cosine of the turn along each axis, shape `(num_cells, 2 * num_axes)`.

    One turn along a periodic axis, so that the field and all its derivatives match across the
    boundary whatever the weights: what is known of the domain is not left to be learned. Along an
    axis that has ends half a turn, from a quarter before to a quarter after the middle: a scaled
    position on which the two ends are as far apart as can be, in as many numbers, so that one
    network serves either kind of axis.
    """
    waves = []
    for axis, centres in zip(grid.axes, grid.centres(), strict=True):
        along = (centres.ravel() - axis.lower) / axis.length
        angle = 2 * np.pi * along if axis.periodic else np.pi * (along - 0.5)
        waves += [np.sin(angle), np.cos(angle)]
    return np.stack(waves, axis=-1)


@final
class Span(eqx.Module):
    """The times that a field is wanted for, as numbers from -1 to 1.

    Args:
        times: the first and the last.
        names: of the field, for messages.

    Raises: InputError for anything but two finite increasing numbers.
    """

    first: float = eqx.field(static=True)
    last: float = eqx.field(static=True)

    def __init__(self, times: Times, names: Sequence[str]) -> None:
        try:
            self.first, self.last = (float(as_seconds(time)) for time in times)
        except (InputError, TypeError, ValueError):
            self.first = self.last = np.nan
        if not 0 < self.last - self.first < np.inf:
            raise InputError(
                f"the neural field {', '.join(names)} has the time span {times!r}: give the first "
                "and the last time that it is wanted for, (first, last)."
            )

    @property
    def ends(self) -> tuple[float, float]:
        """The first and the last."""
        return self.first, self.last

    def scaled(self, time: Scalar | Instant) -> Float[Array, ""]:
        """-1 at the first time, 1 at the last, beyond these before and after."""
        instant = time if isinstance(time, Instant) else Instant(time)
        # Half a span is a difference of doubles, and so is what has passed since its middle.
        half = (self.last - self.first) / 2
        return instant.since(self.first + half) / half


def given_time(time: Scalar | Instant | None, names: Sequence[str]) -> Scalar | Instant:
    """The time at which a field that varies in it is wanted.

    Raises: InputError where there is none.
    """
    if time is None:
        raise InputError(
            f"the field {', '.join(names)} varies in time: say when, evaluate(grid, time)."
        )
    return time if isinstance(time, Instant) else jnp.asarray(time)


def on_grid(grid: Grid | None, num_axes: int, names: Sequence[str]) -> Grid:
    """The grid.

    Raises: InputError where there is none, or one of other dimensions.
    """
    whose = f"the neural field {', '.join(names)}"
    if grid is None:
        raise InputError(
            f"{whose} is a field on a grid, and the system has none: use a Parameter, or a "
            "NeuralClosure of the state."
        )
    if num_axes != grid.num_axes:
        raise InputError(
            f"{whose} has num_axes={num_axes}, but the grid has {grid.num_axes}: give "
            f"num_axes={grid.num_axes}."
        )
    return grid
