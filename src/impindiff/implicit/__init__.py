"""The implicit layer: roots of residuals, with gradients by the implicit function theorem.

Knows `residual(u, inputs)` and linear algebra, never physics; usable on its own.
"""

from impindiff.implicit._adjoint import AbstractAdjoint, Root, SolveContext
from impindiff.implicit._affine import Affine
from impindiff.implicit._automatic import Automatic
from impindiff.implicit._balanced import Balanced
from impindiff.implicit._bicgstab import BiCGStab
from impindiff.implicit._block_jacobi import BlockJacobi
from impindiff.implicit._block_line import BlockLine
from impindiff.implicit._block_stencil import BlockStencil
from impindiff.implicit._certificate import DirectionCheck, GradientCheck, check_gradient
from impindiff.implicit._cg import CG
from impindiff.implicit._deferred import Deferred
from impindiff.implicit._dense import DenseLU
from impindiff.implicit._excess import Excess, Limit
from impindiff.implicit._exchange import clear_of_ends, exchange_symbol
from impindiff.implicit._fixed_point import Anderson, Picard
from impindiff.implicit._gauss_newton import gauss_newton_operator, gauss_newton_product
from impindiff.implicit._gmres import GMRES
from impindiff.implicit._groups import GroupWise, as_groups
from impindiff.implicit._implicit_adjoint import ImplicitAdjoint
from impindiff.implicit._limits import is_coarse, tolerance_of
from impindiff.implicit._line import Line
from impindiff.implicit._linear import AbstractLinearSolver
from impindiff.implicit._lineax import Lineax
from impindiff.implicit._multigrid import Multigrid, check_cycle
from impindiff.implicit._newton import Newton
from impindiff.implicit._one_step_adjoint import OneStepAdjoint
from impindiff.implicit._outcome import AdjointOutcome, Outcome, Result
from impindiff.implicit._preconditioner import AbstractPreconditioner, Jacobi, Transposed
from impindiff.implicit._probe import probe, reach_error
from impindiff.implicit._root import root, root_and_increment
from impindiff.implicit._scaled import Scaled, Scaling
from impindiff.implicit._solver import AbstractRootSolver
from impindiff.implicit._spectral import Spectral, eigenvalues, laplacian_symbol
from impindiff.implicit._staggered import Staggered
from impindiff.implicit._stencil import Stencil, neighbour
from impindiff.implicit._transform_line import TransformLine
from impindiff.implicit._tridiagonal import Tridiagonal
from impindiff.implicit._unrolled_adjoint import UnrolledAdjoint

__all__ = [
    "CG",
    "GMRES",
    "AbstractAdjoint",
    "AbstractLinearSolver",
    "AbstractPreconditioner",
    "AbstractRootSolver",
    "AdjointOutcome",
    "Affine",
    "Anderson",
    "Automatic",
    "Balanced",
    "BiCGStab",
    "BlockJacobi",
    "BlockLine",
    "BlockStencil",
    "Deferred",
    "DenseLU",
    "DirectionCheck",
    "Excess",
    "GradientCheck",
    "GroupWise",
    "ImplicitAdjoint",
    "Jacobi",
    "Limit",
    "Line",
    "Lineax",
    "Multigrid",
    "Newton",
    "OneStepAdjoint",
    "Outcome",
    "Picard",
    "Result",
    "Root",
    "Scaled",
    "Scaling",
    "SolveContext",
    "Spectral",
    "Staggered",
    "Stencil",
    "TransformLine",
    "Transposed",
    "Tridiagonal",
    "UnrolledAdjoint",
    "as_groups",
    "check_cycle",
    "check_gradient",
    "clear_of_ends",
    "eigenvalues",
    "exchange_symbol",
    "gauss_newton_operator",
    "gauss_newton_product",
    "is_coarse",
    "laplacian_symbol",
    "neighbour",
    "probe",
    "reach_error",
    "root",
    "root_and_increment",
    "tolerance_of",
]
