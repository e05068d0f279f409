"""Differentiation of the solver itself: reverse mode through every iteration."""

from typing import final

import jax
from jaxtyping import PyTree

from impindiff._types import Vector
from impindiff.implicit import _tree as tree
from impindiff.implicit._adjoint import (
    AbstractAdjoint,
    Residual,
    Root,
    RootFinder,
    SolveContext,
    as_root,
)
from impindiff.implicit._increment import find_increment
from impindiff.implicit._loop import unrolled_loop
from impindiff.implicit._preconditioner import AbstractPreconditioner


@final
class UnrolledAdjoint(AbstractAdjoint):
    """Reverse mode through the iterations of the solver, every one of which is kept.

    The naive way, here to compare with: memory grows with the `max_steps` of the solver (and, for
    Newton's method, times that of its linear solver), whether they are used or not. The derivative
    is that of the iterate, no better than the iterate is converged, and says nothing of its error.
    """

    def root(
        self,
        residual: Residual,
        solver: RootFinder,
        guess: Vector,
        inputs: PyTree,
        preconditioner: AbstractPreconditioner | None,
        context: SolveContext,
    ) -> Root:
        """See `AbstractAdjoint.root`."""
        increment, outcome = find_increment(
            lambda u: residual(u, inputs),
            guess,
            solver,
            jax.lax.stop_gradient(preconditioner),
            context,
            unrolled_loop,
        )
        return as_root(guess, tree.add(guess, increment), increment, jax.lax.stop_gradient(outcome))
