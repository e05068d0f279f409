"""Boundary conditions: what holds at the ends of the grid."""

from impindiff.terms import (
    AbstractBoundary,
    BoundaryFace,
    Dirichlet,
    Flux,
    Inflow,
    Neumann,
    NoFlux,
    Outflow,
    Robin,
)

__all__ = [
    "AbstractBoundary",
    "BoundaryFace",
    "Dirichlet",
    "Flux",
    "Inflow",
    "Neumann",
    "NoFlux",
    "Outflow",
    "Robin",
]
