"""Conservative finite-volume terms."""

from impindiff.implicit import Stencil
from impindiff.terms._advection import Advection
from impindiff.terms._diffusion import Diffusion
from impindiff.terms._face_fluxes import FaceFluxes
from impindiff.terms._linearised import Assembled
from impindiff.terms._preconditioners import (
    Preconditioning,
    block_jacobi,
    fourier,
    jacobi,
    line,
    multigrid,
)
from impindiff.terms._source import Source
from impindiff.terms._term import (
    AbstractSource,
    AbstractStateTerm,
    AbstractTerm,
    AbstractTwoPointFlux,
)

__all__ = [
    "AbstractSource",
    "AbstractStateTerm",
    "AbstractTerm",
    "AbstractTwoPointFlux",
    "Advection",
    "Assembled",
    "Diffusion",
    "FaceFluxes",
    "Preconditioning",
    "Source",
    "Stencil",
    "block_jacobi",
    "fourier",
    "jacobi",
    "line",
    "multigrid",
]
