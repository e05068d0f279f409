r"""Fluxes that are linear in the two cells of each face, and their divergence as one stencil."""

from typing import Self, final

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from impindiff.implicit import Stencil, neighbour

FaceCoefficients = tuple[Float[Array, "..."], Float[Array, "..."]]


@final
class FaceFluxes(eqx.Module):
    r"""The flux $f = a\,u_\mathrm{lower} + b\,u_\mathrm{upper}$ through every face.

    Attributes:
        along: for each axis the pair $(a, b) / \Delta x$ at the upper face of every cell, of the
            grid's shape.

    What a step is differentiated with respect to: the gradient for a coefficient is $u$ times the
    *difference* of the adjoint between the two cells. In terms of the stencil's coefficients that
    would be a difference of two gradients, each summed over steps and samples beforehand; where
    the adjoint is smooth, single precision has nothing left of it.
    """

    along: tuple[FaceCoefficients, ...]

    def stencil(self) -> Stencil:
        r"""The rate of change $-\sum (f_\mathrm{out} - f_\mathrm{in}) / \Delta x$ as one map."""
        centre = jnp.asarray(0.0)  # weakly typed: the coefficients keep their precision
        sides = []
        for axis, (below, above) in enumerate(self.along):
            # The upper face of cell i is the lower face of cell i + 1, with the same flux.
            centre = centre + neighbour(above, axis, -1) - below
            sides.append((neighbour(below, axis, -1), -above))
        return Stencil(centre, tuple(sides))

    def __add__(self, other: Self) -> Self:
        """The sum of two fluxes."""
        return jax.tree.map(jnp.add, self, other)
