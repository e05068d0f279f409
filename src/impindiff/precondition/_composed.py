"""Approximate inverses made of others: between units, and where they are needed and not before."""

from collections.abc import Callable
from typing import Any, Self, final

import equinox as eqx
import jax
import jax.numpy as jnp

from impindiff._types import Vector
from impindiff.linear import AbstractInverse, tree
from impindiff.precondition._preconditioner import AbstractPreconditioner, LinearisedStep


@final
class ScaledInverse(AbstractInverse):
    r"""$C^{-1} P^{-1} R$, for the operator $R^{-1} A C$ with a $P$ made for $A$.

    Args:
        inner: $P^{-1}$.
        columns: the unknowns' units $C$, a PyTree of the unknown's structure; numbers, or arrays.
        rows: the equations' units $R$, the same.
    """

    inner: AbstractInverse
    columns: Vector
    rows: Vector

    def apply(self, vector: Vector) -> Vector:
        """Into the units of the inner preconditioner and back."""
        inner = self.inner.apply(jax.tree.map(jnp.multiply, vector, self.rows))
        return jax.tree.map(jnp.divide, inner, self.columns)

    def restricted(self, group: tuple[str, ...], like: Vector) -> AbstractInverse:
        """See `AbstractInverse.restricted`."""
        inner = self.inner.restricted(group, like)
        return ScaledInverse(inner, tree.pick(self.columns, group), tree.pick(self.rows, group))

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

    def preconditioner(self, inner: AbstractInverse | None) -> AbstractInverse | None:
        """What approximates the inverse, between the solver's units."""
        return None if inner is None else ScaledInverse(inner, self.columns, self.rows)


@final
class DeferredInverse(AbstractInverse):
    """What a preconditioner makes of a system, made anew wherever it is applied.

    Args:
        preconditioner: makes the approximate inverse.
        operator: the system.
        transposed: whether it is the transpose of what is made.
    """

    preconditioner: AbstractPreconditioner
    operator: LinearisedStep
    transposed: bool = eqx.field(static=True, default=False)

    def apply(self, vector: Vector) -> Vector:
        """Make it, and apply it."""
        # The system is made to depend on the vector, or a compiler would make the inverse before
        # any loop in which that is not known.
        known = jax.lax.stop_gradient(jax.tree.leaves(vector)[0].ravel()[0])

        def here(leaf: Any) -> Any:
            return jnp.where(jnp.isnan(known), 0, leaf) if eqx.is_inexact_array(leaf) else leaf

        preconditioner, operator = jax.tree.map(here, (self.preconditioner, self.operator))
        made = preconditioner.make(operator)
        if made is None:
            return vector
        return (made.transpose() if self.transposed else made).apply(vector)

    def transpose(self) -> Self:
        """The same of the transpose."""
        return type(self)(self.preconditioner, self.operator, not self.transposed)


@final
class Deferred(AbstractPreconditioner):
    """Another preconditioner, whose setup is done where it is needed and not before.

    For `Automatic`, which makes it once, inside the loop that is entered only where plain
    iterations were not enough.

    Args:
        preconditioner: the other.
    """

    preconditioner: AbstractPreconditioner

    def make(self, operator: LinearisedStep) -> DeferredInverse:
        """See `AbstractPreconditioner.make`."""
        return DeferredInverse(self.preconditioner, operator)
