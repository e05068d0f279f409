"""Preconditioners: cheap approximate inverses, each with its transpose.

The adjoint solve meets the transposed matrix, so a preconditioner that cannot be transposed would
serve only half of a gradient.
"""

import abc
from typing import Self, final

import equinox as eqx
import jax
import jax.numpy as jnp

from impindiff._types import Vector


class AbstractPreconditioner(eqx.Module):
    """A linear map $P^{-1}$ that approximates the inverse of the operator."""

    @abc.abstractmethod
    def apply(self, vector: Vector) -> Vector:
        """$P^{-1} v$."""

    @abc.abstractmethod
    def transpose(self) -> "AbstractPreconditioner":
        """The preconditioner of the transposed operator."""


@final
class Jacobi(AbstractPreconditioner):
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
class Transposed(AbstractPreconditioner):
    """The transpose of a preconditioner, by transposing each of its operations.

    Exact to round-off, whatever the operations are. In the adjoint solve it costs what the
    preconditioner costs.

    Args:
        inner: $P^{-1}$.
    """

    inner: AbstractPreconditioner

    def apply(self, vector: Vector) -> Vector:
        r"""$P^{-\top} v$."""
        (found,) = jax.linear_transpose(self.inner.apply, vector)(vector)
        return found

    def transpose(self) -> AbstractPreconditioner:
        """The preconditioner itself."""
        return self.inner
