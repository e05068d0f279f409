"""A preconditioner that solves along the grid's lines of one axis."""

from typing import Self, final

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array

from impindiff._types import Vector
from impindiff.implicit._banded import solve_tridiagonal
from impindiff.implicit._preconditioner import AbstractPreconditioner
from impindiff.implicit._stencil import neighbour


@final
class Line(AbstractPreconditioner):
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
