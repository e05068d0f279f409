"""The advection-diffusion equation."""

from typing import Any, Literal

from impindiff.grid import Grid
from impindiff.systems._system import System
from impindiff.terms import Advection, Diffusion


def advection_diffusion(
    grid: Grid,
    velocity: Any,
    diffusivity: Any,
    *,
    scheme: Literal["upwind", "central"] = "upwind",
    field: str = "concentration",
) -> System:
    r"""$\partial_t u = -\nabla\cdot(\mathbf v\,u) + \nabla\cdot(D\,\nabla u)$.

    Args:
        grid: of one, two or three dimensions.
        velocity: see `impindiff.terms.Advection`.
        diffusivity: see `impindiff.terms.Diffusion`.
        scheme: advection scheme, `upwind` or `central`.
        field: the name of $u$, as in the data.
    """
    return System(grid, {field: [Advection(velocity, scheme), Diffusion(diffusivity)]})
