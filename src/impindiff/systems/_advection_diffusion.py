"""The advection-diffusion equation."""

from typing import Any, Literal

from impindiff.grid import Grid
from impindiff.systems._boundaries import Given
from impindiff.systems._field import Field
from impindiff.systems._system import System
from impindiff.terms import Advection, Diffusion


def advection_diffusion(
    grid: Grid,
    velocity: Any,
    diffusivity: Any,
    *,
    scheme: Literal["upwind", "central", "limited"] = "upwind",
    field: str = "concentration",
    boundaries: Given | None = None,
) -> System:
    r"""$\partial_t u = -\nabla\cdot(\mathbf v\,u) + \nabla\cdot(D\,\nabla u)$.

    Args:
        grid: of one, two or three dimensions.
        velocity: see `impindiff.terms.Advection`.
        diffusivity: see `impindiff.terms.Diffusion`.
        scheme: advection scheme, see `impindiff.terms.Advection`.
        field: the name of $u$, as in the data.
        boundaries: for each axis that is not periodic the conditions at its ends, see `Field`.
    """
    terms = [Advection(velocity, scheme), Diffusion(diffusivity)]
    return System(grid, {field: Field(terms, boundaries)})
