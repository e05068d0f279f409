"""Solvers of lineax as solvers of ours."""

from collections.abc import Callable
from typing import final

import equinox as eqx
import jax
import jax.numpy as jnp
import lineax as lx

from impindiff._types import Vector
from impindiff.linear import _tree as tree
from impindiff.linear._judgement import Iterated
from impindiff.linear._linear_solver import AbstractLinearSolver, LinearProblem
from impindiff.linear._loop import Loop
from impindiff.linear._outcome import Result

_PRECONDITIONED = (lx.CG, lx.BiCGStab, lx.GMRES)


@final
class Lineax(AbstractLinearSolver):
    """Any linear solver of lineax, judged by the true residual as all others are.

    It never raises: what lineax calls a failure is an outcome. It is not asked about systems that
    are already solved, of which some of its solvers make NaN. Tolerances of an iterative solver are
    its own, relative to a right-hand side of largest entry about 1: give it tighter ones than here.

    Args:
        solver: for example `lineax.LU()` or `lineax.GMRES(1e-8, 1e-8)`.
        rtol: see `AbstractLinearSolver`; what its solution is judged by.
        atol: see `AbstractLinearSolver`.
        tags: what lineax may assume of the operator, `lineax.positive_semidefinite_tag` for its
            CG. They must hold for the operator and its transpose.

    A preconditioner is handed to lineax's CG, BiCGStab and GMRES, and not used by others.
    Raises: ValueError for tolerances that cannot be met.
    """

    solver: lx.AbstractLinearSolver
    rtol: float = eqx.field(static=True)
    atol: float = eqx.field(static=True)
    tags: object = eqx.field(static=True)

    def __init__(
        self,
        solver: lx.AbstractLinearSolver,
        rtol: float = 1e-6,
        atol: float = 0.0,
        tags: object = (),
    ) -> None:
        self.solver, self.rtol, self.atol, self.tags = solver, rtol, atol, tags

    @property
    def max_steps(self) -> int:
        """Most steps of the solver itself; 1 where it counts none."""
        return getattr(self.solver, "max_steps", None) or 1

    def iterate(
        self,
        problem: LinearProblem,
        precondition: Callable[[Vector], Vector],
        loop: Loop,
    ) -> Iterated:
        """See `AbstractLinearSolver.iterate`."""
        operator, residual, norm2, tolerance2 = problem
        shape = jax.eval_shape(lambda: residual)
        # Solved or not finite: a right-hand side that is harmless to any solver stands in for it.
        needed = (norm2 > tolerance2) & jnp.isfinite(norm2)
        asked = jax.tree.map(lambda r: jnp.where(needed, r, 1), residual)
        options = {}
        if isinstance(self.solver, _PRECONDITIONED):
            # CG takes none without the tag; of the others' preconditioners it would be untrue.
            tags = lx.positive_semidefinite_tag if isinstance(self.solver, lx.CG) else ()
            options["preconditioner"] = lx.FunctionLinearOperator(precondition, shape, tags)
        solution = lx.linear_solve(
            lx.FunctionLinearOperator(operator, shape, self.tags),
            asked,
            self.solver,
            options=options,
            throw=False,
        )
        x = jax.tree.map(lambda leaf: jnp.where(needed, leaf, 0), solution.value)
        good = tree.is_finite(x)
        x = jax.tree.map(lambda leaf: jnp.where(good, leaf, 0), x)
        left = tree.subtract(residual, operator(x))
        counted = jnp.asarray(solution.stats.get("num_steps", 1))
        # Of a solution that lineax is content with, more of the same makes no better one.
        content = solution.result == lx.RESULTS.successful
        failure = jnp.where(content, Result.STALLED, Result.CONVERGED)
        failure = jnp.where(good | ~needed, failure, Result.SINGULAR)
        return Iterated(x, tree.dot(left, left), jnp.where(needed, counted, 0), failure)
