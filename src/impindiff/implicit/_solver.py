"""What a root solver is."""

import abc
from collections.abc import Callable

import equinox as eqx

from impindiff._types import Scalar, Vector
from impindiff.implicit._adjoint import AbstractAdjoint
from impindiff.implicit._loop import Loop, while_loop
from impindiff.implicit._outcome import Outcome
from impindiff.implicit._preconditioner import AbstractPreconditioner


class AbstractRootSolver(eqx.Module):
    """Finds $u$ with $R(u) = 0$, and says how gradients go through it."""

    # Not an `AbstractVar`: type checkers would take it for the first field of every solver.
    @property
    @abc.abstractmethod
    def adjoint(self) -> AbstractAdjoint:
        """How gradients are made; given a linear solver, `ImplicitAdjoint` with that solver."""

    @abc.abstractmethod
    def solve(
        self,
        residual: Callable[[Vector], Vector],
        guess: Vector,
        preconditioner: AbstractPreconditioner | None = None,
        *,
        rtol: Scalar | None = None,
        loop: Loop = while_loop,
    ) -> tuple[Vector, Outcome]:
        """A root and how it was reached.

        Args:
            residual: $R$.
            guess: where to start.
            preconditioner: approximates the inverse of the Jacobian.
            rtol: a looser tolerance than the solver's own, for this solve.
            loop: repeats iterations; with `unrolled_loop` they can be differentiated.
        """
