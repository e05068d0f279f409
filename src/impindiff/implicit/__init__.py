"""The implicit layer: roots of residuals, with gradients by the implicit function theorem.

Knows `residual(u, inputs)`: no cell, no step, no bounds of a field. Usable on its own.
"""

from impindiff.implicit._adjoint import ImplicitAdjoint, OneStepAdjoint, UnrolledAdjoint
from impindiff.implicit._fixed_point import Anderson, Picard
from impindiff.implicit._gauss_newton import gauss_newton_operator, gauss_newton_product
from impindiff.implicit._gradient_check import DirectionCheck, GradientCheck, check_gradient
from impindiff.implicit._iteration import AbstractIteration
from impindiff.implicit._newton import Affine, Newton
from impindiff.implicit._root import root, root_and_increment
from impindiff.implicit._root_solver import (
    AbstractAdjoint,
    AbstractRootSolver,
    AtZero,
    Root,
    SolveContext,
)
from impindiff.implicit._staggered import Staggered

__all__ = [
    "AbstractAdjoint",
    "AbstractIteration",
    "AbstractRootSolver",
    "Affine",
    "Anderson",
    "AtZero",
    "DirectionCheck",
    "GradientCheck",
    "ImplicitAdjoint",
    "Newton",
    "OneStepAdjoint",
    "Picard",
    "Root",
    "SolveContext",
    "Staggered",
    "UnrolledAdjoint",
    "check_gradient",
    "gauss_newton_operator",
    "gauss_newton_product",
    "root",
    "root_and_increment",
]
