"""Conservative finite-volume terms, and the conditions at the domain's ends."""

from impindiff.implicit import Stencil
from impindiff.terms._advection import Advection
from impindiff.terms._block_preconditioners import (
    Preconditioning,
    block_jacobi,
    block_line,
    transform_line,
)
from impindiff.terms._boundary_face import AbstractBoundary, Affine, BoundaryFace, FluxParts
from impindiff.terms._by_group import by_group
from impindiff.terms._conditions import Dirichlet, Flux, Inflow, Neumann, NoFlux, Outflow, Robin
from impindiff.terms._diffusion import Diffusion
from impindiff.terms._face_fluxes import FaceFluxes
from impindiff.terms._face_velocity import FaceVelocity
from impindiff.terms._linearised import Assembled, Corrected, Ended, OnGrid, kinds_of
from impindiff.terms._metric import cells_at, open_faces
from impindiff.terms._preconditioners import fourier, jacobi, line, multigrid
from impindiff.terms._source import Source
from impindiff.terms._stream_function import StreamFunction
from impindiff.terms._structure import Structure, step_blocks
from impindiff.terms._term import (
    AbstractCorrectedFlux,
    AbstractSource,
    AbstractStateTerm,
    AbstractTerm,
    AbstractTwoPointFlux,
    settle,
)

__all__ = [
    "AbstractBoundary",
    "AbstractCorrectedFlux",
    "AbstractSource",
    "AbstractStateTerm",
    "AbstractTerm",
    "AbstractTwoPointFlux",
    "Advection",
    "Affine",
    "Assembled",
    "BoundaryFace",
    "Corrected",
    "Diffusion",
    "Dirichlet",
    "Ended",
    "FaceFluxes",
    "FluxParts",
    "Flux",
    "FaceVelocity",
    "Inflow",
    "Neumann",
    "NoFlux",
    "OnGrid",
    "Outflow",
    "Preconditioning",
    "Robin",
    "Source",
    "Stencil",
    "StreamFunction",
    "Structure",
    "block_jacobi",
    "block_line",
    "by_group",
    "cells_at",
    "fourier",
    "jacobi",
    "kinds_of",
    "line",
    "multigrid",
    "open_faces",
    "settle",
    "step_blocks",
    "transform_line",
]
