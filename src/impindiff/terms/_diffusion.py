"""Diffusion as the divergence of a Fickian face flux."""

from typing import Any, Literal, final

import equinox as eqx
import jax.numpy as jnp
import numpy as np
from jax.core import Tracer

from impindiff._errors import InputError
from impindiff.grid import Grid
from impindiff.implicit import neighbour
from impindiff.terms._face_fluxes import FaceCoefficients
from impindiff.terms._term import AbstractTwoPointFlux

MEANS = ("harmonic", "arithmetic")


@final
class Diffusion(AbstractTwoPointFlux):
    r"""Fickian diffusion, $\nabla\cdot(D\,\nabla u)$.

    Args:
        diffusivity: $D \ge 0$ at cell centres: a number, an array of the grid's shape, a learned
            field, or a function of the state.
        mean: of the two cells of a face. "harmonic" closes the face of a cell with $D = 0$, as it
            must be for material that differs from place to place; "arithmetic" leaves it open, as
            it must be for a $D(u)$ that vanishes with $u$, or no front would ever advance.

    Accuracy: second order in the cell width for smooth $D$.
    Raises: InputError for a known value that is negative or not finite, or an array of another
        shape.
    Reference: Patankar (1980), section 4.2, for the harmonic face mean.
    """

    diffusivity: Any
    mean: Literal["harmonic", "arithmetic"] = eqx.field(static=True, default="harmonic")

    def __check_init__(self) -> None:
        """Refuse a diffusivity that makes the problem ill-posed, where it is known already."""
        if self.mean not in MEANS:
            raise InputError(f"the mean {self.mean!r} at faces is not one of {', '.join(MEANS)}.")
        if isinstance(self.diffusivity, Tracer) or not eqx.is_array_like(self.diffusivity):
            return
        values = np.ravel(self.diffusivity)
        wrong = values[~((values >= 0) & (values < np.inf))]
        if wrong.size:
            raise InputError(f"the diffusivity is {wrong[0]}: it must be finite and not negative.")

    def face_coefficients(self, grid: Grid, axis: int) -> FaceCoefficients:
        """See `AbstractTwoPointFlux.face_coefficients`."""
        shape = jnp.shape(self.diffusivity)
        if shape not in ((), grid.shape):
            raise InputError(
                f"the diffusivity has shape {shape}: it must be one number or of the grid's "
                f"shape {grid.shape}."
            )
        here = jnp.asarray(self.diffusivity)
        if shape == ():
            at_face = here
        elif self.mean == "arithmetic":
            at_face = (here + neighbour(here, axis, +1)) / 2
        else:
            above = neighbour(here, axis, +1)
            total = here + above
            # Harmonic, not arithmetic: beside a near-impermeable cell the arithmetic mean stays
            # half open and leaks through what should be a wall.
            at_face = jnp.where(total == 0, 0, 2 * here * above / jnp.where(total == 0, 1, total))
        conductance = at_face / grid.cell_widths[axis]
        return conductance, -conductance
