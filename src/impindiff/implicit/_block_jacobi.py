"""A preconditioner that solves for all fields of a cell at once."""

from typing import Self, final

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Inexact

from impindiff._errors import InputError
from impindiff._types import Vector
from impindiff.implicit._preconditioner import AbstractPreconditioner


@final
class BlockJacobi(AbstractPreconditioner):
    r"""Division by the operator's diagonal blocks, $P^{-1} v_i = B_i^{-1} v_i$ at each cell $i$.

    Args:
        blocks: $B$, of shape `(m, m, *grid)`, row field first: what each field's equation takes
            from each field of the same cell. The unknown's leaves are the fields, in the order of
            `jax.tree.leaves` (a dictionary's by name), each of the grid's shape.

    The blocks are inverted once, here. Where one is singular to its precision, or not finite,
    nothing is divided.

    Useful where fields are coupled cell by cell and more strongly than cells are to each other, as
    by fast reactions; a field whose own coefficient is zero, an algebraic one, is no trouble as
    long as the block as a whole can be inverted.

    Raises: InputError for blocks that are not square, and for an unknown of another number of
        leaves.
    """

    inverse: Float[Array, "m m *grid"]

    def __init__(self, blocks: Float[Array, "..."]) -> None:
        shape = jnp.shape(blocks)
        if len(shape) < 2 or shape[0] != shape[1]:
            raise InputError(
                f"BlockJacobi(blocks of shape {shape}): the first two axes must be equal, the row "
                "field and the column field; the grid's axes follow."
            )
        self.inverse = invert_blocks(blocks)

    def apply(self, vector: Vector) -> Vector:
        """Multiply each cell's values by the inverse of its block."""
        leaves, structure = jax.tree.flatten(vector)
        num_fields = self.inverse.shape[0]
        if len(leaves) != num_fields:
            raise InputError(
                f"the unknown has {len(leaves)} leaves, the blocks of BlockJacobi are for "
                f"{num_fields}: give a leaf for each field."
            )
        # A column at a time: multiplications and additions of whole fields, which the compiler
        # puts into one loop. A contraction over the axis takes ten times as long, a sum a hundred.
        total = self.inverse[:, 0] * leaves[0]
        for column in range(1, num_fields):
            total += self.inverse[:, column] * leaves[column]
        applied = [total[row].astype(leaf.dtype) for row, leaf in enumerate(leaves)]
        return structure.unflatten(applied)

    def transpose(self) -> Self:
        """The transposed inverse of each block."""
        return eqx.tree_at(lambda p: p.inverse, self, jnp.swapaxes(self.inverse, 0, 1))


@jax.jit
def invert_blocks(blocks: Inexact[Array, "m m *grid"]) -> Inexact[Array, "m m *grid"]:
    """The inverses by elimination with row exchanges; the identity where there is none.

    All cells at once and the grid's axes last. A library's batched inverse has them first, and
    takes one block after the other.
    """
    num_fields, grid = blocks.shape[0], blocks.shape[2:]
    identity = jnp.broadcast_to(
        jnp.eye(num_fields, dtype=blocks.dtype).reshape(num_fields, num_fields, *(1,) * len(grid)),
        blocks.shape,
    )
    # Fields differ in units: only of rows and columns of like size can pivots be compared.
    row_scale = _one_if_zero(jnp.max(jnp.abs(blocks), 1, keepdims=True))
    scaled = blocks / row_scale
    column_scale = _one_if_zero(jnp.max(jnp.abs(scaled), 0, keepdims=True))
    rows = jnp.concatenate([scaled / column_scale, identity], 1)
    smallest = num_fields * jnp.finfo(blocks.dtype).eps
    regular = jnp.ones(grid, bool)
    for step in range(num_fields):
        found = step + jnp.argmax(jnp.abs(rows[step:, step]), 0)
        pivot_row = rows[step]
        # Chosen one by one: gathered by index it would take three times as long.
        for other in range(step + 1, num_fields):
            pivot_row = jnp.where(found == other, rows[other], pivot_row)
        here = jnp.arange(num_fields).reshape(num_fields, *(1,) * len(grid)) == found
        rows = jnp.where(here[:, None], rows[step], rows)
        pivot = pivot_row[step]
        # A comparison that NaN fails, too.
        usable = jnp.abs(pivot) > smallest
        regular &= usable
        pivot_row = pivot_row / jnp.where(usable, pivot, 1)
        rows = (rows - rows[:, step, None] * pivot_row).at[step].set(pivot_row)
    inverse = (
        rows[:, num_fields:] / jnp.swapaxes(column_scale, 0, 1) / jnp.swapaxes(row_scale, 0, 1)
    )
    regular &= jnp.isfinite(inverse).all((0, 1))
    return jnp.where(regular, inverse, identity)


def _one_if_zero(scale: Float[Array, "..."]) -> Float[Array, "..."]:
    return jnp.where(scale == 0, 1, scale)
