"""Conservative finite-volume terms, and the conditions at the domain's ends."""

from impindiff.terms._advection import Advection
from impindiff.terms._boundary_conditions import (
    Dirichlet,
    Flux,
    Inflow,
    Neumann,
    NoFlux,
    Outflow,
    Robin,
)
from impindiff.terms._boundary_face import (
    AbstractBoundary,
    Affine,
    BoundaryFace,
    FluxParts,
    OuterFace,
)
from impindiff.terms._diffusion import Diffusion
from impindiff.terms._face_fluxes import Correction, FaceFluxes
from impindiff.terms._face_velocity import FaceVelocity
from impindiff.terms._metric import cells_at, open_faces
from impindiff.terms._source import Source
from impindiff.terms._stream_function import StreamFunction
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
    "BoundaryFace",
    "Correction",
    "Diffusion",
    "Dirichlet",
    "FaceFluxes",
    "FluxParts",
    "Flux",
    "FaceVelocity",
    "Inflow",
    "Neumann",
    "NoFlux",
    "OuterFace",
    "Outflow",
    "Robin",
    "Source",
    "StreamFunction",
    "cells_at",
    "open_faces",
    "settle",
]
