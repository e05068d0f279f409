r"""Preconditioners that get the total of each field right.

An operator $A = I - w S$ of a closed domain keeps the total of a field: with the cells' volumes
$\ell$, $\ell^\top A = \ell^\top$. If its approximate inverse does so too, no iterate of a Krylov
method gains or loses anything, at whatever tolerance it stops. Few approximations do: a diagonal
that varies, lines, one multigrid cycle do not. What is lacking is a number for each field, and is
mended by adding the same value to all of its cells, as if by a grid of one cell,

$$ \hat P^{-1} = \gamma\,Q + (I - Q A)\,P^{-1}\,(I - A Q), \qquad
   Q = \frac{p\,\ell^\top}{\ell^\top A\,p}, $$

with $p = 1$ in all cells that exchange anything. Then
$\ell^\top A\,\hat P^{-1} = \gamma\,\ell^\top$: a total of zero stays zero, and a symmetric $P^{-1}$
symmetric. The eigenvalue is what $P^{-1}$ makes of it by itself,
$\gamma = \ell^\top A P^{-1} A\,p / \ell^\top A\,p$. With 1 it would lie amid those of a diagonal,
where the polynomials of BiCGStab magnify round-off of the total a thousandfold. Cells that
exchange nothing, as solid ones, are divided by their diagonal.
"""

from collections.abc import Mapping
from dataclasses import replace
from typing import Self, final

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from impindiff._types import Scalar, Vector
from impindiff.linear import AbstractInverse, BlockStencil, Stencil
from impindiff.precondition._preconditioner import FieldStencils, LinearisedStep

Field = Float[Array, "..."]

# Sums of coefficients that should cancel are taken for zero below so many units of round-off.
_ROUND_OFF_UNITS = 16
# Where growth makes the total of a uniform change smaller than this share of it, nothing is mended.
_LEAST_SHARE = 0.1


@final
class Total(eqx.Module):
    r"""The total of one field, and what a uniform change does to it.

    Attributes:
        weights: $\ell$.
        change: $p$.
        image: $A\,p$.
        balance: $A^\top \ell$.
        eigenvalue: $\gamma$.
        alone: reciprocal of the diagonal where nothing is exchanged, zero elsewhere.
    """

    weights: Field
    change: Field
    image: Field
    balance: Field
    eigenvalue: Scalar
    alone: Field

    def amount(self, weights: Field, vector: Field) -> Scalar:
        """By how much to change all cells for the sum of a vector with some weights."""
        whole = jnp.vdot(self.balance, self.change)
        right = whole > _LEAST_SHARE * jnp.vdot(jnp.abs(self.weights), jnp.abs(self.change))
        return jnp.where(right, jnp.vdot(weights, vector) / jnp.where(right, whole, 1), 0)

    def transpose(self) -> "Total":
        """The same for the transposed operator."""
        rest = self.eigenvalue, self.alone
        return Total(self.change, self.weights, self.balance, self.image, *rest)


@final
class BalancedInverse(AbstractInverse):
    """A preconditioner that gets the total of each field right, see above.

    Args:
        inner: the preconditioner.
        totals: one for each field of the unknown.
    """

    inner: AbstractInverse
    totals: dict[str, Total]

    @classmethod
    def of(
        cls,
        inner: AbstractInverse,
        stencils: Mapping[str, Stencil | None],
        weight: Scalar,
        shape: tuple[int, ...],
        volumes: np.ndarray | None,
    ) -> Self:
        r"""For the operator $I - w S$ of each field.

        Args:
            inner: approximates its inverse.
            stencils: $S$; fields without one, which nothing moves, are left alone.
            weight: $w$.
            shape: of the grid.
            volumes: of the cells; None where all are equal.
        """
        totals = {
            field: _total(stencil, weight, shape, volumes)
            for field, stencil in stencils.items()
            if stencil is not None
        }
        still = {field: jnp.zeros(shape, weight.dtype) for field in stencils}
        images = inner.apply(still | {field: total.image for field, total in totals.items()})
        for field, total in totals.items():
            natural = total.amount(total.balance, images[field])
            eigenvalue = jnp.where(natural > 0, natural, 1)
            totals[field] = replace(total, eigenvalue=eigenvalue)
        return cls(inner, jax.lax.stop_gradient(totals))

    def apply(self, vector: Vector) -> Vector:
        """The preconditioner of what is left when totals are right, and mended after it."""
        amounts = {f: total.amount(total.weights, vector[f]) for f, total in self.totals.items()}
        rest = {
            f: jnp.where(total.alone == 0, vector[f] - amounts[f] * total.image, 0)
            for f, total in self.totals.items()
        }
        found = dict(self.inner.apply({**vector, **rest}))
        for field, total in self.totals.items():
            amount = total.eigenvalue * amounts[field]
            amount -= total.amount(total.balance, found[field])
            moved = found[field] + amount * total.change
            found[field] = jnp.where(total.alone == 0, moved, total.alone * vector[field])
        return found

    def transpose(self) -> "BalancedInverse":
        """The same form, with rows for columns."""
        totals = {field: total.transpose() for field, total in self.totals.items()}
        return BalancedInverse(self.inner.transpose(), totals)


def _total(
    stencil: Stencil, weight: Scalar, shape: tuple[int, ...], volumes: np.ndarray | None
) -> Total:
    whole = jax.tree.map(lambda part: jnp.broadcast_to(part, shape), stencil)
    sizes = jax.tree.map(jnp.abs, whole)
    exchanged = [lower + upper for lower, upper in sizes.sides]
    moves = sum(exchanged, start=jnp.zeros(shape)) > 0
    change = moves.astype(whole.centre.dtype)
    # Of mean one: no unit of length is in it.
    weights = change if volumes is None else change * jnp.asarray(volumes / volumes.mean())
    weights = weights.astype(change.dtype)

    def product(stencil: Stencil, sizes: Stencil, vector: Field) -> Field:
        found, slack = stencil(vector), _ROUND_OFF_UNITS * jnp.finfo(vector.dtype).eps
        found = jnp.where(jnp.abs(found) <= slack * sizes(vector), 0, found)
        return vector - weight * found

    image = product(whole, sizes, change)
    balance = product(whole.transpose(), sizes.transpose(), weights)
    diagonal = 1 - weight * whole.centre
    alone = jnp.where(moves, 0, 1 / jnp.where(diagonal == 0, 1, diagonal))
    return Total(weights, change, image, balance, jnp.ones((), change.dtype), alone)


def balanced_fields(
    inner: AbstractInverse, parts: FieldStencils, operator: LinearisedStep
) -> BalancedInverse:
    """With the total of each field right, so that steps keep it at whatever tolerance.

    Args:
        inner: sees each field alone.
        parts: what each field does to itself.
        operator: the system of the step.
    """
    given = parts.stencils, operator.weight, parts.shape, operator.volumes
    return BalancedInverse.of(inner, *given)


def balanced_blocks(
    inner: AbstractInverse, blocks: BlockStencil, operator: LinearisedStep
) -> BalancedInverse:
    """The same of one that sees what fields do to each other: of what each does to itself."""
    one, shape = jnp.ones((), blocks.centre.dtype), blocks.centre.shape[2:]
    # The leaves of a dictionary come in the order of its sorted names.
    own = {
        field: blocks.stencil(number).shifted_identity(one)
        for number, field in enumerate(sorted(operator.state))
    }
    return BalancedInverse.of(inner, own, one, shape, operator.volumes)
