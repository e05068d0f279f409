"""Inverses that are made once and applied many times: of few unknowns, and along a line.

A linear solver judges each of its solutions. These do not: they are for iterations that judge by
the true residual themselves, and whose operator has changed a little since the inverse was made.
"""

from collections.abc import Callable
from typing import Any, Self, final

import equinox as eqx
import jax
import jax.numpy as jnp
from jax.flatten_util import ravel_pytree
from jaxtyping import Array, Float

from impindiff._types import Vector
from impindiff.linear._banded import solve_tridiagonal
from impindiff.linear._blocks import LineFactors
from impindiff.linear._inverse import AbstractInverse, TransposedInverse
from impindiff.linear._judgement import Operator
from impindiff.linear._stencils import probe


def dense_matrix(operator: Operator, like: Vector) -> Float[Array, "n n"]:
    """The matrix of an operator, by one product for each unknown.

    Args:
        operator: the product.
        like: a vector of the same structure.
    """
    flat, unravel = ravel_pytree(like)

    def column(unit: Array) -> Array:
        return ravel_pytree(operator(unravel(unit)))[0]

    return jax.vmap(column, out_axes=1)(jnp.eye(flat.size, dtype=flat.dtype))


@final
class DenseInverse(AbstractInverse):
    """A matrix that is applied to all unknowns.

    Attributes:
        matrix: the inverse, written out.
    """

    matrix: Float[Array, "n n"]

    @classmethod
    def of(cls, operator: Operator, like: Vector) -> Self:
        """The inverse of an operator; not finite where it is singular."""
        return cls(jnp.linalg.inv(dense_matrix(operator, like)))

    def apply(self, vector: Vector) -> Vector:
        """See `AbstractInverse.apply`."""
        flat, unravel = ravel_pytree(vector)
        return unravel(self.matrix @ flat)

    def transpose(self) -> Self:
        """See `AbstractInverse.transpose`."""
        return type(self)(self.matrix.T)


@final
class PackedInverse(AbstractInverse):
    """An inverse, for unknowns that stand in one array.

    Attributes:
        inner: for the unknowns in their structure.
        unpack: gives them from an array.
    """

    inner: AbstractInverse
    unpack: Callable[[Array], Vector] = eqx.field(static=True)

    def apply(self, vector: Array) -> Array:
        """See `AbstractInverse.apply`."""
        return ravel_pytree(self.inner.apply(self.unpack(vector)))[0]

    def transpose(self) -> Self:
        """See `AbstractInverse.transpose`."""
        return type(self)(self.inner.transpose(), self.unpack)


@final
class LineElimination(AbstractInverse):
    """Elimination along a line, for an operator that couples neighbours.

    Attributes:
        factors: of a line with several fields in each cell; of one field its three bands, which
            are reduced anew each time: that runs over whole arrays.
        structure: of the unknown.
    """

    factors: LineFactors | tuple[Array, Array, Array]
    structure: Any = eqx.field(static=True)

    @classmethod
    def of(cls, operator: Operator, like: Vector) -> Self:
        """The inverse of an operator; of one with a wider reach, that of another operator."""
        leaves, structure = jax.tree.flatten(like)
        stencil = probe(operator, like)
        ((lower, upper),) = stencil.sides
        if len(leaves) == 1:
            return cls((lower[0, 0], stencil.centre[0, 0], upper[0, 0]), structure)
        bands = (jnp.moveaxis(band, -1, 0) for band in (lower, stencil.centre, upper))
        return cls(LineFactors.of(*bands), structure)

    def apply(self, vector: Vector) -> Vector:
        """See `AbstractInverse.apply`."""
        leaves = jax.tree.leaves(vector)
        if isinstance(self.factors, LineFactors):
            found = self.factors.solve(jnp.stack(leaves, -1))
            return jax.tree.unflatten(self.structure, list(jnp.moveaxis(found, -1, 0)))
        return jax.tree.unflatten(self.structure, [solve_tridiagonal(*self.factors, leaves[0])])

    def transpose(self) -> AbstractInverse:
        """See `AbstractInverse.transpose`."""
        if isinstance(self.factors, LineFactors):
            return TransposedInverse(self)
        lower, own, upper = self.factors
        return type(self)((jnp.roll(upper, 1), own, jnp.roll(lower, -1)), self.structure)
