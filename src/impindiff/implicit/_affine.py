"""Root finding where the residual is affine in the unknown: one linear solve, no loop around it."""

from collections.abc import Callable
from typing import ClassVar, final

import equinox as eqx
import jax

from impindiff._types import Scalar, Vector
from impindiff.implicit import _tree as tree
from impindiff.implicit._adjoint import AbstractAdjoint
from impindiff.implicit._bicgstab import BiCGStab
from impindiff.implicit._implicit_adjoint import ImplicitAdjoint, as_adjoint
from impindiff.implicit._linear import AbstractLinearSolver
from impindiff.implicit._loop import Loop, while_loop
from impindiff.implicit._outcome import Outcome
from impindiff.implicit._preconditioner import AbstractPreconditioner
from impindiff.implicit._solver import AbstractRootSolver, AtZero


@final
class Affine(AbstractRootSolver):
    r"""Solves $R(u) = A u - b = 0$ exactly once.

    Args:
        linear: solver of the forward system, $\lVert R(u) \rVert \le \mathrm{rtol}\,\lVert b
            \rVert$; starts from the guess.
        adjoint: how gradients are made.

    A residual that is not affine gives a wrong root with no sign of it here: the caller knows the
    equation.
    """

    linear: AbstractLinearSolver = BiCGStab()
    adjoint: AbstractAdjoint = eqx.field(default=ImplicitAdjoint(), converter=as_adjoint)

    reads_zero_only: ClassVar[bool] = True

    @property
    def tangent_solver(self) -> AbstractLinearSolver:
        """See `AbstractRootSolver.tangent_solver`."""
        return self.linear

    def solve(
        self,
        residual: Callable[[Vector], Vector],
        guess: Vector | None,
        preconditioner: AbstractPreconditioner | None = None,
        *,
        rtol: Scalar | None = None,
        loop: Loop = while_loop,
        at_zero: AtZero | None = None,
    ) -> tuple[Vector, Outcome]:
        """See `AbstractRootSolver.solve`."""
        like = guess if at_zero is None else at_zero.value
        value, operator = jax.linearize(residual, tree.zeros_like(like))
        # Of the two the one that is evaluated already; the compiler drops the other.
        value = value if at_zero is None else at_zero.value
        return self.linear.solve(
            operator, tree.negate(value), guess, preconditioner, rtol=rtol, loop=loop
        )
