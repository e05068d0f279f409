"""Preconditioners: cheap approximate inverses of the systems of implicit steps, with transposes.

A preconditioner is a small description, `Jacobi()` or `Line(0)`, which makes an approximate inverse
of one linearised step. Which one pays is predicted from the step's matrix.
"""

from impindiff.precondition._balanced import BalancedInverse
from impindiff.precondition._choice import SMALL, Candidate, because, candidates, robust
from impindiff.precondition._composed import Deferred, DeferredInverse, ScaledInverse, Scaling
from impindiff.precondition._fourier import (
    Fourier,
    SpectralInverse,
    TransformLine,
    TransformLineInverse,
)
from impindiff.precondition._groups import ByGroup, GroupInverse, Groups, as_groups, check_groups
from impindiff.precondition._lines import BlockLine, BlockLineInverse, Line, LineInverse
from impindiff.precondition._modes import (
    clear_of_ends,
    eigenvalues,
    exchange_symbol,
    laplacian_symbol,
)
from impindiff.precondition._multigrid import Multigrid, MultigridCycle, check_cycle
from impindiff.precondition._point import BlockInverse, BlockJacobi, DiagonalInverse, Jacobi
from impindiff.precondition._preconditioner import (
    AbstractPreconditioner,
    FieldStencils,
    LinearisedStep,
)
from impindiff.precondition._structure import Structure, step_blocks

__all__ = [
    "AbstractPreconditioner",
    "BalancedInverse",
    "BlockInverse",
    "BlockJacobi",
    "BlockLine",
    "BlockLineInverse",
    "ByGroup",
    "Candidate",
    "Deferred",
    "DeferredInverse",
    "DiagonalInverse",
    "FieldStencils",
    "Fourier",
    "GroupInverse",
    "Groups",
    "Jacobi",
    "Line",
    "LineInverse",
    "LinearisedStep",
    "Multigrid",
    "MultigridCycle",
    "SMALL",
    "ScaledInverse",
    "Scaling",
    "SpectralInverse",
    "Structure",
    "TransformLine",
    "TransformLineInverse",
    "as_groups",
    "because",
    "candidates",
    "check_cycle",
    "check_groups",
    "clear_of_ends",
    "eigenvalues",
    "exchange_symbol",
    "laplacian_symbol",
    "robust",
    "step_blocks",
]
