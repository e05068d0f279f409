"""What a term of a conservation law is.

A term does not care where its coefficients come from: by the time it computes, every latent and
every function has been evaluated to an array.
"""

import abc

import equinox as eqx
import jax.numpy as jnp
from jaxtyping import Array, Float

from impindiff._types import State
from impindiff.grid import Grid
from impindiff.implicit import Stencil
from impindiff.terms._face_fluxes import FaceCoefficients, FaceFluxes


class AbstractTerm(eqx.Module):
    """A contribution to the rate of change of one field.

    Whatever stands in an attribute is a coefficient, plain functions included; what is to stay a
    function must be static, `equinox.field(static=True)`.
    """


class AbstractTwoPointFlux(AbstractTerm):
    r"""A conservative term whose flux is linear in the two cells that share a face.

    $f = a\,u_\mathrm{lower} + b\,u_\mathrm{upper}$ at every face, and the cell's rate of change is
    $-\sum_\mathrm{axes} (f_\mathrm{out} - f_\mathrm{in}) / \Delta x$. Each face's flux is computed
    once: what leaves a cell enters its neighbour, and the total is conserved by construction.
    """

    @abc.abstractmethod
    def face_coefficients(self, grid: Grid, axis: int) -> FaceCoefficients:
        """The pair $(a, b)$ at the upper face of every cell along an axis."""

    def fluxes(self, grid: Grid) -> FaceFluxes:
        """The coefficients at all faces, evaluated."""

        def along(axis: int, width: float) -> FaceCoefficients:
            below, above = self.face_coefficients(grid, axis)
            return (
                jnp.broadcast_to(below / width, grid.shape),
                jnp.broadcast_to(above / width, grid.shape),
            )

        return FaceFluxes(tuple(along(axis, w) for axis, w in enumerate(grid.cell_widths)))

    def stencil(self, grid: Grid) -> Stencil:
        """The term as one linear map, its coefficients evaluated."""
        return self.fluxes(grid).stencil()


class AbstractSource(AbstractTerm):
    """A term that does not depend on the state, once its coefficients are evaluated."""

    @abc.abstractmethod
    def rate(self, grid: Grid | None) -> Float[Array, "..."]:
        """What is added to each cell per unit of time; without a grid, to the field's numbers."""


class AbstractStateTerm(AbstractTerm):
    """Any other function of the state: of several fields, of neighbours further away.

    A system with such a term is taken for nonlinear.
    """

    @abc.abstractmethod
    def rate(self, grid: Grid | None, state: State, field: str) -> Float[Array, "..."]:
        """What is added to each cell of a field per unit of time.

        Args:
            grid: where.
            state: all fields.
            field: the one in whose equation the term stands.
        """
