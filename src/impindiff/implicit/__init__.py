"""The implicit layer: roots of residuals, with gradients by the implicit function theorem.

Knows `residual(u, inputs)` and linear algebra, never physics; usable on its own.
"""

from impindiff.implicit._affine import AbstractRootSolver, Affine
from impindiff.implicit._bicgstab import AbstractLinearSolver, BiCGStab
from impindiff.implicit._outcome import AdjointOutcome, Outcome, Result
from impindiff.implicit._preconditioner import AbstractPreconditioner, Jacobi
from impindiff.implicit._root import root

__all__ = [
    "AbstractLinearSolver",
    "AbstractPreconditioner",
    "AbstractRootSolver",
    "AdjointOutcome",
    "Affine",
    "BiCGStab",
    "Jacobi",
    "Outcome",
    "Result",
    "root",
]
