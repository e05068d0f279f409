"""Unknown numbers, one or one for each cell, kept inside their bounds by a transform."""

from typing import ClassVar, final

import equinox as eqx
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, ArrayLike, DTypeLike, Float

from impindiff._errors import InputError, as_text
from impindiff._types import Scalar
from impindiff.coefficients import real_precision
from impindiff.grid import Grid
from impindiff.latent._field import AbstractLatent, Proportional
from impindiff.latent._interval import Interval

_ANY = (-float("inf"), float("inf"))


@final
class Parameter(AbstractLatent):
    r"""An unknown number $a < p < b$, learned as $p = a + (b - a)\,\mathrm{sigmoid}(s)$.

    Args:
        name: as in data files.
        initial: where to start, strictly inside the bounds.
        bounds: $(a, b)$. With $b = \infty$ it is learned as $p = a + e^s$, so that $(0, \infty)$
            suits a positive number of unknown magnitude; $(-\infty, \infty)$ leaves it free.
        dtype: precision of what is learned; JAX's default where None.

    Raises: InputError for other bounds, or an initial value that is not inside them.
    """

    raw: Float[Array, ""]
    names: tuple[str, ...] = eqx.field(static=True)
    is_number: ClassVar[bool] = True
    interval: Interval = eqx.field(static=True)

    def __init__(
        self,
        name: str,
        initial: float,
        bounds: tuple[float, float],
        *,
        dtype: DTypeLike | None = None,
    ) -> None:
        whose = f"parameter {as_text(name, 'the name of a parameter')!r}"
        self.interval = Interval(bounds, whose)
        if np.ndim(initial):
            raise InputError(
                f"{whose} starts at an array of shape {np.shape(initial)}: it is one number. For "
                "one in each cell use CellField."
            )
        self.raw = jnp.asarray(self.interval.raw(initial, whose), real_precision(dtype))
        self.names = (name,)

    @property
    def bounds(self) -> tuple[float, float]:
        """The bounds."""
        return self.interval.lower, self.interval.upper

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
        return True

    def evaluate(self, grid: Grid | None, time: Scalar | None = None) -> Float[Array, ""]:
        """The number itself, for every cell alike."""
        return self.interval.inside(self.raw)


@final
class CellField(AbstractLatent):
    """An unknown field as one number for each cell, learned as it stands.

    For fields without structure that a network could know of, where there are measurements or a
    regulariser enough to determine every cell.

    Args:
        name: as in data files.
        initial: where to start: an array of the grid's shape, every value inside the bounds.
        bounds: as those of `Parameter`, the same for all cells.
        dtype: as that of `Parameter`.

    Raises: InputError for initial values that are not inside the bounds, and, when evaluated, a
        grid of another shape.
    """

    raw: Float[Array, "..."]
    names: tuple[str, ...] = eqx.field(static=True)
    interval: Interval = eqx.field(static=True)

    def __init__(
        self,
        name: str,
        initial: ArrayLike,
        bounds: tuple[float, float] = _ANY,
        *,
        dtype: DTypeLike | None = None,
    ) -> None:
        whose = f"cell field {as_text(name, 'the name of a cell field')!r}"
        self.interval = Interval(bounds, whose)
        raw = self.interval.raw(np.asarray(initial), whose)
        self.raw = jnp.asarray(raw, real_precision(dtype))
        self.names = (name,)

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
        return True

    def evaluate(self, grid: Grid | None, time: Scalar | None = None) -> Float[Array, "..."]:
        """The values at the cells."""
        if grid is None or self.raw.shape != grid.shape:
            shape = None if grid is None else grid.shape
            raise InputError(
                f"cell field {self.names[0]!r} has the shape {self.raw.shape}, the grid {shape}: "
                "give an initial value for each cell, jnp.full(grid.shape, value)."
            )
        return self.interval.inside(self.raw)
