"""Advection as the divergence of a transported flux."""

from typing import Any, Literal, final

import equinox as eqx
import jax.numpy as jnp

from impindiff._errors import InputError
from impindiff.grid import Grid
from impindiff.implicit import neighbour
from impindiff.terms._face_fluxes import FaceCoefficients
from impindiff.terms._term import AbstractTwoPointFlux

SCHEMES = ("upwind", "central")


@final
class Advection(AbstractTwoPointFlux):
    r"""Conservative advection, $-\nabla\cdot(\mathbf v\,u)$.

    Args:
        velocity: components of $\mathbf v$ at cell centres along a leading axis of the grid's
            number of dimensions: an array of shape `(num_axes, *grid.shape)`, `(num_axes,)` for a
            uniform wind, or a learned field with as many components. On a grid of one axis the
            leading axis may be left out, so that a uniform wind is one number.
        scheme: `upwind` is the donor-cell scheme, velocity and value both from the cell the flow
            comes from, $f = \max(v_l, 0)\,u_l + \min(v_u, 0)\,u_u$; first order, monotone.
            `central` takes the mean of $v u$ of the two cells; second order, and oscillates where
            the cell Peclet number exceeds 2.

    Accuracy: order one or two in the cell width for smooth fields.
    Raises: InputError for another scheme, or a velocity whose number of components is not the
        grid's.
    Reference: Patankar (1980), section 5.2; arXiv 2504.02260, section 3.
    """

    velocity: Any
    scheme: Literal["upwind", "central"] = eqx.field(static=True, default="upwind")

    def __check_init__(self) -> None:
        """Refuse a scheme that does not exist."""
        if self.scheme not in SCHEMES:
            raise InputError(
                f"advection scheme {self.scheme!r} is not one of {', '.join(SCHEMES)}."
            )

    def face_coefficients(self, grid: Grid, axis: int) -> FaceCoefficients:
        """See `AbstractTwoPointFlux.face_coefficients`."""
        velocity = jnp.asarray(self.velocity)
        if grid.num_axes == 1 and velocity.shape in ((), grid.shape):
            velocity = velocity[None]
        shape = velocity.shape
        if shape not in ((grid.num_axes,), (grid.num_axes, *grid.shape)):
            raise InputError(
                f"the advection velocity has shape {shape}: on a grid of shape {grid.shape} it "
                f"must be ({grid.num_axes},) or {(grid.num_axes, *grid.shape)}, one component for "
                "each axis first."
            )
        here = jnp.broadcast_to(velocity[axis], grid.shape)
        above = neighbour(here, axis, +1)
        if self.scheme == "upwind":
            return jnp.maximum(here, 0), jnp.minimum(above, 0)
        return here / 2, above / 2
