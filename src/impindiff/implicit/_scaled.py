"""Units in which a solver sees unknowns and equations, and preconditioners between them."""

from collections.abc import Callable
from typing import Self, final

import equinox as eqx
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


@final
class Scaling(eqx.Module):
    r"""Units in which a solver sees unknowns and equations.

    Norms of a residual are those of $\rho^{-1} R$. With a cell's share $v$ of the volume, units
    $C = c / \sqrt v$ and $\rho = r / \sqrt v$ make them sums over the volume, and leave an operator
    symmetric that is so with respect to it.

    Args:
        columns: $C$, a PyTree of the unknown's structure; numbers, or arrays.
        rows: $\rho$, the same.
    """

    columns: Vector
    rows: Vector

    def unknown(self, change: Vector) -> Vector:
        """From a change in the solver's units to one of the unknown."""
        return jax.tree.map(jnp.multiply, change, self.columns)

    def change(self, unknown: Vector) -> Vector:
        """From a change of the unknown to the solver's units."""
        return jax.tree.map(jnp.divide, unknown, self.columns)

    def equation(self, residual: Vector) -> Vector:
        """A residual in the solver's units."""
        return jax.tree.map(jnp.divide, residual, self.rows)

    def operator(self, product: Callable[[Vector], Vector]) -> Callable[[Vector], Vector]:
        """The product with a Jacobian, between the solver's units."""
        return lambda change: self.equation(product(self.unknown(change)))

    def preconditioner(self, inner: AbstractPreconditioner | None) -> AbstractPreconditioner | None:
        """What approximates the inverse, between the solver's units."""
        return None if inner is None else Scaled(inner, self.columns, self.rows)
