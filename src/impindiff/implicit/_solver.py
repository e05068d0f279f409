"""What a root solver is."""

import abc
from collections.abc import Callable

import equinox as eqx

from impindiff._types import Vector
from impindiff.implicit._linear import AbstractLinearSolver
from impindiff.implicit._outcome import Outcome
from impindiff.implicit._preconditioner import AbstractPreconditioner


class AbstractRootSolver(eqx.Module):
    """Finds $u$ with $R(u) = 0$, and names the linear solver of its adjoint."""

    adjoint: eqx.AbstractVar[AbstractLinearSolver]

    @abc.abstractmethod
    def solve(
        self,
        residual: Callable[[Vector], Vector],
        guess: Vector,
        preconditioner: AbstractPreconditioner | None,
    ) -> tuple[Vector, Outcome]:
        """A root and how it was reached."""
