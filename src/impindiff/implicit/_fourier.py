"""A preconditioner that is diagonal in Fourier space."""

from typing import Self, final

import jax
import jax.numpy as jnp
from jaxtyping import Array, Complex, PyTree

from impindiff._types import Vector
from impindiff.implicit._preconditioner import AbstractPreconditioner


@final
class Fourier(AbstractPreconditioner):
    r"""Exact inverse of an operator with constant coefficients on a periodic grid.

    $P^{-1} v = \mathcal F^{-1}(\mathcal F v / \hat a)$ with the operator's symbol $\hat a$. Where
    coefficients vary, the inverse for their mean leaves what varies for the iteration, whose count
    then does not grow as the grid is refined.

    Args:
        symbol: for each leaf of the unknown the eigenvalues of the operator, in the layout of
            `jnp.fft.rfftn`. Where one is zero, that component is left as it is.
    """

    symbol: PyTree[Complex[Array, "..."]]

    def apply(self, vector: Vector) -> Vector:
        """Divide by the symbol in Fourier space."""

        def divide(v, symbol):
            safe = jnp.where(symbol == 0, 1, symbol)
            return jnp.fft.irfftn(jnp.fft.rfftn(v) / safe, s=v.shape).astype(v.dtype)

        return jax.tree.map(divide, vector, self.symbol)

    def transpose(self) -> Self:
        """The symbol of a real operator's transpose is the complex conjugate."""
        return type(self)(jax.tree.map(jnp.conj, self.symbol))
