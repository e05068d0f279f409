"""A preconditioner for unknowns and equations in units of their own."""

from typing import Self, final

import jax
import jax.numpy as jnp

from impindiff._types import Vector
from impindiff.implicit._preconditioner import AbstractPreconditioner


@final
class Scaled(AbstractPreconditioner):
    r"""$C^{-1} P^{-1} R$, for the operator $R^{-1} A C$ with a $P$ made for $A$.

    Args:
        inner: $P^{-1}$.
        columns: the unknowns' units $C$, a PyTree of the unknown's structure; numbers, or arrays.
        rows: the equations' units $R$, the same.
    """

    inner: AbstractPreconditioner
    columns: Vector
    rows: Vector

    def apply(self, vector: Vector) -> Vector:
        """Into the units of the inner preconditioner and back."""
        inner = self.inner.apply(jax.tree.map(jnp.multiply, vector, self.rows))
        return jax.tree.map(jnp.divide, inner, self.columns)

    def transpose(self) -> Self:
        r"""$R P^{-\top} C^{-1}$: units change places and are inverted."""
        columns, rows = (jax.tree.map(lambda u: 1 / u, side) for side in (self.rows, self.columns))
        return type(self)(self.inner.transpose(), columns, rows)
