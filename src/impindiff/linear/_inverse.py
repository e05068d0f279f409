"""Approximate inverses, each with its transpose, and what can be made of any of them.

The adjoint solve meets the transposed matrix, so an approximate inverse that cannot be transposed
would serve only half of a gradient.
"""

import abc
from typing import Self, final

import equinox as eqx
import jax

from impindiff._types import Vector
from impindiff.linear import _tree as tree


class AbstractInverse(eqx.Module):
    """A linear map $P^{-1}$ that approximates the inverse of the operator."""

    @abc.abstractmethod
    def apply(self, vector: Vector) -> Vector:
        """$P^{-1} v$."""

    @abc.abstractmethod
    def transpose(self) -> "AbstractInverse":
        """The approximate inverse of the transposed operator."""

    def restricted(self, group: tuple[str, ...], like: Vector) -> "AbstractInverse":
        """The approximate inverse for one group of unknowns alone.

        By default what it makes of the group where all else is zero: the same where it does not mix
        unknowns, and where it does, with what the others would answer at once.

        Args:
            group: names at the top of the unknown.
            like: the whole unknown.
        """
        return RestrictedInverse(self, tree.zeros_like(like))


@final
class IdentityInverse(AbstractInverse):
    """The vector itself: no preconditioner, where there has to be one."""

    def apply(self, vector: Vector) -> Vector:
        """The vector."""
        return vector

    def transpose(self) -> Self:
        """The same."""
        return self


@final
class TransposedInverse(AbstractInverse):
    """The transpose of a preconditioner, by transposing each of its operations.

    Exact to round-off, whatever the operations are. In the adjoint solve it costs what the
    preconditioner costs.

    Args:
        inner: $P^{-1}$.
    """

    inner: AbstractInverse

    def apply(self, vector: Vector) -> Vector:
        r"""$P^{-\top} v$."""
        (found,) = jax.linear_transpose(self.inner.apply, vector)(vector)
        return found

    def transpose(self) -> AbstractInverse:
        """The preconditioner itself."""
        return self.inner


@final
class RestrictedInverse(AbstractInverse):
    """What a preconditioner of all fields makes of a part, the others being zero."""

    inner: AbstractInverse
    others: Vector

    def apply(self, vector: Vector) -> Vector:
        """The part of what all fields become."""
        return tree.pick(self.inner.apply(dict(self.others) | dict(vector)), tuple(vector))

    def transpose(self) -> Self:
        """The same of the transpose."""
        return type(self)(self.inner.transpose(), self.others)
