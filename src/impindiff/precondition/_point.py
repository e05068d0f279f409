"""Approximate inverses of what a cell does to itself: a diagonal, or a block of all fields."""

from typing import Self, final

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from impindiff._errors import InputError
from impindiff._types import Vector
from impindiff.linear import AbstractInverse, invert_blocks
from impindiff.precondition._balanced import BalancedInverse, balanced_blocks, balanced_fields
from impindiff.precondition._preconditioner import AbstractPreconditioner, LinearisedStep


@final
class DiagonalInverse(AbstractInverse):
    """Division by the operator's diagonal. Where the diagonal is zero, nothing is divided.

    Args:
        diagonal: a PyTree of the unknown's structure.

    Useful where the diagonal varies over orders of magnitude; it does not change how iteration
    counts grow with refinement.
    """

    diagonal: Vector

    def apply(self, vector: Vector) -> Vector:
        """Divide by the diagonal."""
        return jax.tree.map(lambda v, d: v / jnp.where(d == 0, 1, d), vector, self.diagonal)

    def transpose(self) -> Self:
        """A diagonal matrix is its own transpose."""
        return self


@final
class BlockInverse(AbstractInverse):
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
                f"BlockInverse(blocks of shape {shape}): the first two axes must be equal, the row "
                "field and the column field; the grid's axes follow."
            )
        self.inverse = invert_blocks(blocks)

    def apply(self, vector: Vector) -> Vector:
        """Multiply each cell's values by the inverse of its block."""
        leaves, structure = jax.tree.flatten(vector)
        num_fields = self.inverse.shape[0]
        if len(leaves) != num_fields:
            raise InputError(
                f"the unknown has {len(leaves)} leaves, the blocks of BlockInverse are for "
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


@final
class Jacobi(AbstractPreconditioner):
    """The diagonal of $I - w S$: for coefficients that differ by orders of magnitude."""

    def make(self, operator: LinearisedStep) -> BalancedInverse:
        """See `AbstractPreconditioner.make`."""
        parts = operator.field_stencils()
        diagonals = {
            name: jnp.broadcast_to(stencil.centre, parts.shape)
            for name, stencil in parts.shifted(operator.weight).items()
        }
        inner = DiagonalInverse(jax.lax.stop_gradient(diagonals))
        return balanced_fields(inner, parts, operator)


@final
class BlockJacobi(AbstractPreconditioner):
    r"""The inverse of what the fields of each cell do to each other: for fast reactions.

    The blocks of $I - w\,\partial F/\partial u$ at the state, found by coloured products.
    """

    def make(self, operator: LinearisedStep) -> BalancedInverse:
        """See `AbstractPreconditioner.make`."""
        blocks = operator.blocks()
        return balanced_blocks(BlockInverse(blocks.centre), blocks, operator)
