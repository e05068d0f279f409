"""Preconditioners of the linear solves in a time step."""

from impindiff.precondition import (
    AbstractPreconditioner,
    BlockJacobi,
    BlockLine,
    ByGroup,
    Fourier,
    Jacobi,
    Line,
    Multigrid,
    TransformLine,
)

__all__ = [
    "AbstractPreconditioner",
    "BlockJacobi",
    "BlockLine",
    "ByGroup",
    "Fourier",
    "Jacobi",
    "Line",
    "Multigrid",
    "TransformLine",
]
