"""The outer faces at one end of an axis, and values there."""

from collections.abc import Mapping
from typing import Any, NamedTuple

import equinox as eqx
import jax.numpy as jnp
from jaxtyping import Array

from impindiff._types import Scalar
from impindiff.coefficients import (
    AbstractCoefficient,
    Instant,
    coefficients_of,
    evaluate_coefficients,
)
from impindiff.grid import Grid
from impindiff.terms import cells_at


class End(NamedTuple):
    """One end of an axis; arrays of its faces have the grid's shape, with one cell along the axis.

    Attributes:
        grid: of the domain.
        axis: its number.
        side: 0 is the lower end, 1 the upper.
    """

    grid: Grid
    axis: int
    side: int

    @property
    def shape(self) -> tuple[int, ...]:
        """Of arrays of its faces."""
        return tuple(1 if k == self.axis else n for k, n in enumerate(self.grid.shape))

    def beside(self, value: Any) -> Any:
        """The values of the cells that the faces belong to; what is uniform stays as it is."""
        if not self._ends_in(value, self.grid.shape):
            return value
        return jnp.asarray(value)[(..., *cells_at(self.grid, self.axis, self.side))]

    def without_axis(self, value: Any) -> Any:
        """Values at the faces in the shape of the boundary; what is uniform stays as it is."""
        if not self._ends_in(value, self.shape):
            return value
        return jnp.squeeze(value, self.axis - self.grid.num_axes)

    def places(self, dtype: jnp.dtype) -> dict[str, Array]:
        """The coordinates of the faces' centres."""
        faces = self.grid.face_centres(self.axis)
        last = faces[0].shape[self.axis] - 1
        place = [slice(None)] * self.grid.num_axes
        place[self.axis] = slice(last, last + 1) if self.side else slice(0, 1)
        pairs = zip(self.grid.names, faces, strict=True)
        return {name: jnp.asarray(at[tuple(place)], dtype) for name, at in pairs}

    def _ends_in(self, value: Any, shape: tuple[int, ...]) -> bool:
        # The time may be more than a number.
        found = jnp.shape(value) if eqx.is_array_like(value) else ()
        return len(found) >= len(shape) and found[-len(shape) :] == shape


def evaluate_at(
    end: End,
    coefficient: AbstractCoefficient,
    time: Scalar | Instant | None,
    known: Mapping[str, Any],
) -> Any:
    """A coefficient that depends on the state at the faces of an end.

    None where it is uniform, or a function of whole fields: it has no values of the faces' own. As
    it is where something is not known that it depends on.

    Args:
        end: where.
        coefficient: all that does not depend on the state evaluated in it.
        time: when.
        known: values at the faces.
    """
    if not all(part.is_local for part in coefficients_of(coefficient)):
        return None
    value = evaluate_coefficients(coefficient, None, time, known)
    if coefficients_of(value):
        return value
    # Arrays of all cells may stand in a function. They broadcast along the axis.
    value = end.beside(value)
    count = end.grid.num_axes
    return value if jnp.shape(value)[-count:] == end.shape else None
