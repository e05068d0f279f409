"""Linear solvers: Krylov methods and direct ones, their interface, outcomes and statistics.

An operator is known by its product; `tree` has the algebra of vectors that are PyTrees of arrays.
"""

from impindiff.linear import _tree as tree
from impindiff.linear._automatic import Automatic
from impindiff.linear._banded import solve_tridiagonal
from impindiff.linear._blocks import Blocks, LineFactors, invert_blocks
from impindiff.linear._direct import DenseLU, Tridiagonal
from impindiff.linear._factors import DenseInverse, LineElimination, PackedInverse
from impindiff.linear._inverse import AbstractInverse, IdentityInverse, TransposedInverse
from impindiff.linear._judgement import Iterated, Operator, blame_guess
from impindiff.linear._krylov import CG, GMRES, BiCGStab
from impindiff.linear._linear_solver import AbstractLinearSolver, LinearProblem
from impindiff.linear._lineax import Lineax
from impindiff.linear._loop import Loop, once_where, unrolled_loop, while_loop
from impindiff.linear._outcome import AdjointOutcome, Outcome, Result
from impindiff.linear._stencils import (
    BlockStencil,
    Coefficient,
    Stencil,
    neighbour,
    probe,
    reach_error,
)
from impindiff.linear._tolerance import check_tolerances, goal_of, is_coarse, tolerance_of

__all__ = [
    "AbstractInverse",
    "AbstractLinearSolver",
    "AdjointOutcome",
    "Automatic",
    "BiCGStab",
    "BlockStencil",
    "Blocks",
    "CG",
    "Coefficient",
    "DenseInverse",
    "DenseLU",
    "GMRES",
    "IdentityInverse",
    "Iterated",
    "LineFactors",
    "LineElimination",
    "LinearProblem",
    "Lineax",
    "Loop",
    "Operator",
    "Outcome",
    "Result",
    "PackedInverse",
    "Stencil",
    "TransposedInverse",
    "Tridiagonal",
    "blame_guess",
    "check_tolerances",
    "goal_of",
    "invert_blocks",
    "is_coarse",
    "neighbour",
    "once_where",
    "probe",
    "reach_error",
    "solve_tridiagonal",
    "tolerance_of",
    "tree",
    "unrolled_loop",
    "while_loop",
]
