"""Operators that couple several fields of a grid, in a cell and with its face neighbours."""

from typing import Any, Self, final

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from impindiff._types import Vector
from impindiff.implicit._stencil import Stencil, neighbour

Block = Float[Array, "..."]


@final
class BlockStencil(eqx.Module):
    r"""A linear map between sets of fields on one grid that couples face neighbours.

    $(S u)_i = C_i u_i + \sum_a (L^a_i\,u_{i-1_a} + R^a_i\,u_{i+1_a})$ with a small matrix in place
    of each coefficient of a `Stencil`; indices wrap around.

    Attributes:
        centre: $C$, blocks [row field, column field] at each cell: shape (fields, fields, *grid).
        sides: for each axis $L$ and $R$, at the row's cell.
        structure: of the PyTrees it is applied to, whose leaves are the fields.
    """

    centre: Block
    sides: tuple[tuple[Block, Block], ...]
    structure: Any = eqx.field(static=True)

    def __call__(self, vector: Vector) -> Vector:
        """The product with a PyTree of fields."""
        fields = jnp.stack(jax.tree.leaves(vector))
        total = _apply(self.centre, fields)
        for axis, (lower, upper) in enumerate(self.sides, 1):
            total += _apply(lower, neighbour(fields, axis, -1))
            total += _apply(upper, neighbour(fields, axis, +1))
        return jax.tree.unflatten(self.structure, list(total))

    def transpose(self) -> Self:
        """The transposed map: blocks are transposed, and what a cell gave, it now takes."""

        def turned(block: Block) -> Block:
            return jnp.swapaxes(block, 0, 1)

        sides = tuple(
            (neighbour(turned(upper), axis, -1), neighbour(turned(lower), axis, +1))
            for axis, (lower, upper) in enumerate(self.sides, 2)
        )
        return type(self)(turned(self.centre), sides, self.structure)

    def stencil(self, field: int) -> Stencil:
        """What one field, counted in the order of the leaves, does to itself."""
        sides = tuple((lower[field, field], upper[field, field]) for lower, upper in self.sides)
        return Stencil(self.centre[field, field], sides)


def _apply(block: Block, fields: Float[Array, "..."]) -> Float[Array, "..."]:
    return jnp.sum(block * fields[None], 1)
