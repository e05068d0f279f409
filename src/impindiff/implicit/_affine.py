"""Root finding where the residual is affine in the unknown: one linear solve, no loop around it."""

from collections.abc import Callable
from typing import final

import jax

from impindiff._types import Vector
from impindiff.implicit import _tree as tree
from impindiff.implicit._bicgstab import BiCGStab
from impindiff.implicit._linear import AbstractLinearSolver
from impindiff.implicit._outcome import Outcome
from impindiff.implicit._preconditioner import AbstractPreconditioner
from impindiff.implicit._solver import AbstractRootSolver


@final
class Affine(AbstractRootSolver):
    r"""Solves $R(u) = A u - b = 0$ exactly once.

    Args:
        linear: solver of the forward system, $\lVert R(u) \rVert \le \mathrm{rtol}\,\lVert b
            \rVert$; starts from the guess.
        adjoint: solver of the transposed system, of which only gradients are made. Its right-hand
            sides may be many orders of magnitude smaller than the states, so its tolerance should
            be relative.

    A residual that is not affine gives a wrong root with no sign of it here: the caller knows the
    equation.
    """

    linear: AbstractLinearSolver = BiCGStab(rtol=1e-6)
    adjoint: AbstractLinearSolver = BiCGStab(rtol=1e-5)

    def solve(
        self,
        residual: Callable[[Vector], Vector],
        guess: Vector,
        preconditioner: AbstractPreconditioner | None,
    ) -> tuple[Vector, Outcome]:
        """See `AbstractRootSolver.solve`."""
        at_zero, operator = jax.linearize(residual, tree.zeros_like(guess))
        return self.linear.solve(operator, tree.negate(at_zero), guess, preconditioner)
