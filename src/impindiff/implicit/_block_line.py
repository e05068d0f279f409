"""Preconditioners that solve along the grid's lines of one axis for all fields at once."""

from typing import Any, NamedTuple, final

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Inexact

from impindiff._errors import InputError
from impindiff._types import Vector
from impindiff.implicit._block_jacobi import invert_blocks
from impindiff.implicit._preconditioner import AbstractPreconditioner, Transposed

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


@final
class BlockLine(AbstractPreconditioner):
    r"""Exact solves along every line of cells of one axis, with all fields of its cells.

    $L_i\,x_{i-1} + D_i\,x_i + R_i\,x_{i+1} = v_i$ with $i$ along the axis and a small matrix for
    each coefficient of a `Line`. Factorised once, here.

    Args:
        lower: $L$, of shape `(m, m, *grid)`, row field first: see `BlockJacobi`. Indices wrap
            around: on an axis that is not periodic the first cell's is zero.
        centre: $D$, likewise.
        upper: $R$, likewise; on an axis that is not periodic the last cell's is zero.
        axis: number of the axis.

    Useful where fields are coupled within the cells and along one axis, and weakly along the
    others: as `Line`, for fields that react with each other. On a grid of one axis it is the
    inverse.

    Pivots are sought within the blocks, not between them. Where one is singular to its precision,
    nothing is divided.

    Raises: InputError for blocks that are not square or of different shapes, for an axis that is
        not there, and for an unknown of another number of leaves.
    """

    factors: LineFactors
    axis: int = eqx.field(static=True)

    def __init__(self, lower: Blocks, centre: Blocks, upper: Blocks, axis: int) -> None:
        check_blocks("BlockLine", (lower, centre, upper), axis)
        first = [jnp.moveaxis(part, axis + 2, 0) for part in (lower, centre, upper)]
        self.factors, self.axis = LineFactors.of(*first), axis

    def apply(self, vector: Vector) -> Vector:
        """Solve along each line."""
        stacked, structure = stack_fields(vector, self.factors.last.shape[0], "BlockLine")
        found = self.factors.solve(jnp.moveaxis(stacked, self.axis + 1, 0))
        found = jnp.moveaxis(found, 0, self.axis + 1).astype(stacked.dtype)
        return structure.unflatten(list(found))

    def transpose(self) -> AbstractPreconditioner:
        """The same elimination backwards."""
        return Transposed(self)


def check_blocks(whose: str, parts: tuple[Blocks, ...], axis: int) -> None:
    """Refuse blocks that do not belong to one grid, and axes that it does not have.

    Raises: InputError.
    """
    shapes = {jnp.shape(part) for part in parts}
    shape = min(shapes)
    if len(shapes) != 1 or len(shape) < 3 or shape[0] != shape[1]:
        raise InputError(
            f"{whose}(blocks of shapes {sorted(shapes)}): all must be of one shape, the row field, "
            "the column field, and the grid's axes, of which there is at least one."
        )
    if not 0 <= axis < len(shape) - 2:
        raise InputError(
            f"{whose}(axis={axis}) on a grid of {len(shape) - 2} axes: the axis must lie in "
            f"0...{len(shape) - 3}."
        )


def stack_fields(vector: Vector, num_fields: int, whose: str) -> tuple[Blocks, Any]:
    """The leaves of an unknown as one array, fields first, and its structure.

    Raises: InputError for another number of them than the blocks are for.
    """
    leaves, structure = jax.tree.flatten(vector)
    if len(leaves) != num_fields:
        raise InputError(
            f"the unknown has {len(leaves)} leaves, the blocks of {whose} are for {num_fields}: "
            "give a leaf for each field."
        )
    return jnp.stack(leaves), structure


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
