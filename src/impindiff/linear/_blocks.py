"""Small matrices, one for each cell: their inverses, and lines of cells that they couple.

All cells are treated at once, with the grid's axes last: a library's batched routines have them
first and take one small matrix after the other.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Inexact


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


Blocks = Inexact[Array, "..."]


class LineFactors(NamedTuple):
    """A block-tridiagonal ring, factorised: all cells but the last, and the last that closes it.

    Cells come first, batches of lines last.

    Attributes:
        below: $L_i$ of the cells before the last, zero for the first.
        pivots: the inverses of their pivots, $(D_i - L_i G_{i-1})^{-1}$.
        above: $G_i$, the inverse of the pivot times $R_i$; zero where the next cell is the last.
        to_last: what one unit in the last cell makes of each of them.
        from_first: what the last cell's row takes from the first cell.
        from_before: what it takes from the one before it.
        last: the inverse of what remains for the last cell.
    """

    below: Blocks
    pivots: Blocks
    above: Blocks
    to_last: Blocks
    from_first: Blocks
    from_before: Blocks
    last: Blocks

    @classmethod
    def of(cls, lower: Blocks, centre: Blocks, upper: Blocks) -> "LineFactors":
        """Factorise blocks of shape (cells, fields, fields, *batch); corners close the ring."""
        if centre.shape[0] == 1:
            none = centre[:0]
            last = invert_blocks(lower[0] + centre[0] + upper[0])
            return cls(none, none, none, none, 0 * last, 0 * last, last)
        below, onward = lower[:-1].at[0].set(0), upper[:-1].at[-1].set(0)
        closing = jnp.zeros_like(below).at[0].set(lower[0]).at[-1].add(upper[-2])

        def eliminate(before, row):
            below, own, onward = row
            pivot = invert_blocks(own - _times(below, before))
            above = _times(pivot, onward)
            return above, (pivot, above)

        rows = (below, centre[:-1], onward)
        _, (pivots, above) = jax.lax.scan(eliminate, jnp.zeros_like(below[0]), rows)
        to_last = _along_chain(below, pivots, above, closing)
        from_first, from_before = upper[-1], lower[-1]
        seen = _times(from_first, to_last[0]) + _times(from_before, to_last[-1])
        last = invert_blocks(centre[-1] - seen)
        return cls(below, pivots, above, to_last, from_first, from_before, last)

    def solve(self, rhs: Blocks) -> Blocks:
        """The solution for a right-hand side of shape (cells, fields, *batch)."""
        rhs = rhs[:, :, None]
        if rhs.shape[0] == 1:
            return _times(self.last, rhs[0])[None, :, 0]
        found = _along_chain(self.below, self.pivots, self.above, rhs[:-1])
        seen = _times(self.from_first, found[0]) + _times(self.from_before, found[-1])
        last = _times(self.last, rhs[-1] - seen)
        found = found - jax.vmap(_times, (0, None))(self.to_last, last)
        return jnp.concatenate([found, last[None]])[:, :, 0]


def _along_chain(below: Blocks, pivots: Blocks, above: Blocks, rhs: Blocks) -> Blocks:
    """Solve for all cells but the last, as if there were no last; several columns at once."""

    def forward(before, row):
        below, pivot, rhs = row
        here = _times(pivot, rhs - _times(below, before))
        return here, here

    def backward(after, row):
        above, here = row
        here = here - _times(above, after)
        return here, here

    nothing = jnp.zeros_like(rhs[0])
    _, found = jax.lax.scan(forward, nothing, (below, pivots, rhs))
    _, found = jax.lax.scan(backward, nothing, (above, found), reverse=True)
    return found


def _times(left: Blocks, right: Blocks) -> Blocks:
    """Products of small matrices, (m, k, ...) times (k, w, ...), with no call for each."""
    return jnp.sum(left[:, :, None] * right[None], 1)
