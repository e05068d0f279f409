r"""Operators that couple a cell of a structured grid with its face neighbours.

One coefficient for a cell and each of its neighbours,
$(S u)_i = c_i u_i + \sum_a (l^a_i\, u_{i-1_a} + r^a_i\, u_{i+1_a})$. Indices wrap around: where a
grid has a boundary, the coefficients that would reach across it are zero. A product reads each
array once, which no chain of face interpolations and divergences does.
"""

from typing import Self, final

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

Coefficient = Float[Array, "..."]


def neighbour(field: Float[Array, "*grid"], axis: int, offset: int) -> Float[Array, "*grid"]:
    """The value `offset` cells further along a periodic axis, at every cell."""
    axis, count = axis % field.ndim, field.shape[axis]
    first = offset % count if count else 0
    if first == 0:
        return field

    nothing = jnp.zeros_like(field, shape=())

    def placed(part: Float[Array, "..."], before: int, after: int) -> Float[Array, "..."]:
        widths = [(before, after, 0) if k == axis else (0, 0, 0) for k in range(field.ndim)]
        return jax.lax.pad(part, nothing, widths)

    # Each part among zeros, and their sum. Compilers make one loop of it and what it is used in,
    # where they would write the array that `roll` joins to memory first: less than half the time.
    ahead = jax.lax.slice_in_dim(field, first, count, axis=axis)
    behind = jax.lax.slice_in_dim(field, 0, first, axis=axis)
    return placed(ahead, 0, first) + placed(behind, count - first, 0)


@final
class Stencil(eqx.Module):
    """A linear map between fields of one grid that couples face neighbours.

    Attributes:
        centre: the cell's own coefficient.
        sides: for each axis, the coefficients of the lower and the upper neighbour.

    Coefficients have the grid's shape, or none where they are the same in every cell.
    """

    centre: Coefficient
    sides: tuple[tuple[Coefficient, Coefficient], ...]

    def __call__(self, field: Float[Array, "*grid"]) -> Float[Array, "*grid"]:
        """The product with a field."""
        total = self.centre * field
        for axis, (lower, upper) in enumerate(self.sides):
            total += lower * neighbour(field, axis, -1) + upper * neighbour(field, axis, +1)
        return total

    def __add__(self, other: Self) -> "Stencil":
        """The stencil of the sum of two maps."""
        sides = tuple(
            (lower + more_lower, upper + more_upper)
            for (lower, upper), (more_lower, more_upper) in zip(
                self.sides, other.sides, strict=True
            )
        )
        return Stencil(self.centre + other.centre, sides)

    def transpose(self) -> "Stencil":
        """The stencil of the transposed map: what a cell gave, it now takes."""

        def shifted(coefficient: Coefficient, axis: int, offset: int) -> Coefficient:
            return neighbour(coefficient, axis, offset) if jnp.ndim(coefficient) else coefficient

        sides = tuple(
            (shifted(upper, axis, -1), shifted(lower, axis, +1))
            for axis, (lower, upper) in enumerate(self.sides)
        )
        return Stencil(self.centre, sides)

    def scaled(self, factor: Coefficient) -> "Stencil":
        """The stencil of the map times a factor for each cell."""
        sides = tuple((factor * lower, factor * upper) for lower, upper in self.sides)
        return Stencil(factor * self.centre, sides)

    def shifted_identity(self, weight: Float[Array, ""] | float) -> "Stencil":
        r"""The stencil of $I - w S$, the operator of an implicit step."""
        sides = tuple((-weight * lower, -weight * upper) for lower, upper in self.sides)
        return Stencil(1 - weight * self.centre, sides)
