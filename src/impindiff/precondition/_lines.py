"""Exact solves along the grid's lines of one axis, for each field alone or for all at once."""

from functools import partial
from typing import Any, Self, final

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array

from impindiff._errors import InputError, as_count
from impindiff._types import Vector
from impindiff.linear import (
    AbstractInverse,
    Blocks,
    LineFactors,
    TransposedInverse,
    neighbour,
    solve_tridiagonal,
)
from impindiff.precondition._balanced import BalancedInverse, balanced_blocks, balanced_fields
from impindiff.precondition._preconditioner import AbstractPreconditioner, LinearisedStep


@final
class LineInverse(AbstractInverse):
    r"""Exact solves along every line of cells of one axis.

    $l_i\,x_{i-1} + d_i\,x_i + r_i\,x_{i+1} = v_i$ with $i$ along the axis: the operator without
    its neighbours along the other axes.

    Args:
        lower: $l$, a PyTree of the unknown's structure; leaves of the grid's shape, or numbers.
            Indices wrap around, as in `Stencil`: on an axis that is not periodic the first cell's
            is zero.
        diagonal: $d$, likewise. A cell where it is zero is left as it is.
        upper: $r$, likewise; on an axis that is not periodic the last cell's is zero.
        axis: number of the axis.

    Useful where coupling along one axis is far stronger than along the others, because its cells
    are much thinner or its coefficients larger: the iterations then depend on the weak couplings
    only.

    Each diagonal should be no smaller in magnitude than its two neighbours together, and somewhere
    on a line larger, as in an implicit step: elimination exchanges no rows, and a line that is
    singular as a whole gives numbers that are not finite.
    """

    lower: Vector
    diagonal: Vector
    upper: Vector
    axis: int = eqx.field(static=True)

    def __init__(self, lower: Vector, diagonal: Vector, upper: Vector, axis: int) -> None:
        # Here and not in each solve: the transpose is then that of what is solved.
        def guarded(coefficient, diagonal, instead):
            return jnp.where(diagonal == 0, instead, coefficient)

        self.lower = jax.tree.map(lambda c, d: guarded(c, d, 0), lower, diagonal)
        self.diagonal = jax.tree.map(lambda d: guarded(d, d, 1), diagonal)
        self.upper = jax.tree.map(lambda c, d: guarded(c, d, 0), upper, diagonal)
        self.axis = axis

    def apply(self, vector: Vector) -> Vector:
        """Solve along each line."""

        def solve(v: Array, *coefficients: Array) -> Array:
            last = [
                jnp.moveaxis(jnp.broadcast_to(part, v.shape), self.axis, -1)
                for part in (*coefficients, v)
            ]
            return jnp.moveaxis(solve_tridiagonal(*last), -1, self.axis).astype(v.dtype)

        return jax.tree.map(solve, vector, self.lower, self.diagonal, self.upper)

    def transpose(self) -> Self:
        """The lines' matrices transposed: what a cell gave, it now takes."""

        def shifted(coefficient: Array, offset: int) -> Array:
            if not jnp.ndim(coefficient):
                return coefficient
            return neighbour(coefficient, self.axis, offset)

        lower = jax.tree.map(lambda upper: shifted(upper, -1), self.upper)
        upper = jax.tree.map(lambda lower: shifted(lower, +1), self.lower)
        return eqx.tree_at(lambda p: (p.lower, p.upper), self, (lower, upper))


@final
class BlockLineInverse(AbstractInverse):
    r"""Exact solves along every line of cells of one axis, with all fields of its cells.

    $L_i\,x_{i-1} + D_i\,x_i + R_i\,x_{i+1} = v_i$ with $i$ along the axis and a small matrix for
    each coefficient of a `LineInverse`. Factorised once, here.

    Args:
        lower: $L$, of shape `(m, m, *grid)`, row field first: see `BlockInverse`. Indices wrap
            around: on an axis that is not periodic the first cell's is zero.
        centre: $D$, likewise.
        upper: $R$, likewise; on an axis that is not periodic the last cell's is zero.
        axis: number of the axis.

    Useful where fields are coupled within the cells and along one axis, and weakly along the
    others: as `LineInverse`, for fields that react with each other. On a grid of one axis it is the
    inverse.

    Pivots are sought within the blocks, not between them. Where one is singular to its precision,
    nothing is divided.

    Raises: InputError for blocks that are not square or of different shapes, for an axis that is
        not there, and for an unknown of another number of leaves.
    """

    factors: LineFactors
    axis: int = eqx.field(static=True)

    def __init__(self, lower: Blocks, centre: Blocks, upper: Blocks, axis: int) -> None:
        check_blocks("BlockLineInverse", (lower, centre, upper), axis)
        first = [jnp.moveaxis(part, axis + 2, 0) for part in (lower, centre, upper)]
        self.factors, self.axis = LineFactors.of(*first), axis

    def apply(self, vector: Vector) -> Vector:
        """Solve along each line."""
        stacked, structure = stack_fields(vector, self.factors.last.shape[0], "BlockLineInverse")
        found = self.factors.solve(jnp.moveaxis(stacked, self.axis + 1, 0))
        found = jnp.moveaxis(found, 0, self.axis + 1).astype(stacked.dtype)
        return structure.unflatten(list(found))

    def transpose(self) -> AbstractInverse:
        """The same elimination backwards."""
        return TransposedInverse(self)


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


@final
class Line(AbstractPreconditioner):
    """Exact solves along one axis: for cells much thinner along it, or coefficients much larger.

    Args:
        axis: number of the axis, counted from zero: `CrankNicolson(preconditioner=Line(1))`.

    Raises: InputError where it is used on a grid without that axis.
    """

    axis: int = eqx.field(static=True, converter=partial(as_count, what="the axis of Line"))

    def make(self, operator: LinearisedStep) -> BalancedInverse:
        """See `AbstractPreconditioner.make`."""
        whole = operator.field_stencils()
        check_axis("Line", self.axis, len(whole.shape))
        parts = whole.shifted(operator.weight)
        lower, upper = (
            {name: part.sides[self.axis][side] for name, part in parts.items()} for side in (0, 1)
        )
        diagonal = {name: part.centre for name, part in parts.items()}
        inner = jax.lax.stop_gradient(LineInverse(lower, diagonal, upper, self.axis))
        return balanced_fields(inner, whole, operator)


@final
class BlockLine(AbstractPreconditioner):
    """Exact solves along one axis for all fields at once: for fast reactions, too.

    As `Line`, but with what the fields of a line do to each other, found by coloured products.

    Args:
        axis: number of the axis, counted from zero: `SDIRK2(preconditioner=BlockLine(0))`.

    Raises: InputError where it is used on a grid without that axis, or with fields of different
        shapes.
    """

    axis: int = eqx.field(static=True, converter=partial(as_count, what="the axis of BlockLine"))

    def make(self, operator: LinearisedStep) -> BalancedInverse:
        """See `AbstractPreconditioner.make`."""
        blocks = operator.blocks()
        check_axis("BlockLine", self.axis, len(blocks.sides))
        lower, upper = blocks.sides[self.axis]
        inner = BlockLineInverse(lower, blocks.centre, upper, self.axis)
        return balanced_blocks(inner, blocks, operator)


def check_axis(whose: str, axis: int, num_axes: int) -> None:
    """Refuse an axis that the grid does not have.

    Raises: InputError.
    """
    if not 0 <= axis < num_axes:
        raise InputError(
            f"{whose}(axis={axis}) on a grid of {num_axes} axes: the axis must lie in "
            f"0...{num_axes - 1}."
        )
