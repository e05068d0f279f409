"""Conjugate gradients, for symmetric positive definite operators."""

from collections.abc import Callable
from typing import final

import equinox as eqx
import jax
import jax.numpy as jnp

from impindiff._types import Vector
from impindiff.implicit import _tree as tree
from impindiff.implicit._judged import Iterated, divide
from impindiff.implicit._limits import check_limits
from impindiff.implicit._linear import AbstractLinearSolver, LinearProblem
from impindiff.implicit._loop import Loop
from impindiff.implicit._outcome import Result


@final
class CG(AbstractLinearSolver):
    r"""The conjugate gradient method: one product an iteration, four vectors.

    Operator and preconditioner must be symmetric and positive definite; for others use `BiCGStab`.
    Where a direction shows that they are not, the iteration ends and the outcome is
    `Result.NOT_SYMMETRIC`. That an operator is not definite shows in $p^\top A\,p$; that it is not
    symmetric in the second direction: $p_1^\top A\,p_0$ is zero by construction, but $p_0^\top
    A\,p_1$ only by symmetry.

    Args:
        rtol: see `AbstractLinearSolver`.
        atol: see `AbstractLinearSolver`.
        max_steps: see `AbstractLinearSolver`.
        check_symmetry: whether to look; one inner product an iteration.

    Raises: ValueError for a negative tolerance, for both tolerances zero, or `max_steps` under 1.
    Reference: Hestenes & Stiefel, J. Res. Natl. Bur. Stand. 49 (1952) 409.
    """

    rtol: float | None = eqx.field(static=True, default=None)
    atol: float = eqx.field(static=True, default=0.0)
    max_steps: int = eqx.field(static=True, default=500)
    check_symmetry: bool = eqx.field(static=True, default=True)

    def __check_init__(self) -> None:
        """Refuse tolerances that cannot be met."""
        check_limits(self)

    def iterate(
        self,
        problem: LinearProblem,
        precondition: Callable[[Vector], Vector],
        loop: Loop,
    ) -> Iterated:
        """See `AbstractLinearSolver.iterate`."""
        operator, residual, norm2, tolerance2 = problem
        # The two inner products differ by round-off times the root of the condition number.
        tolerance = jnp.finfo(norm2.dtype).eps ** 0.25

        def unfinished(carry):
            *_, norm2, iteration, curvature, symmetric = carry
            definite = (iteration == 0) | (curvature > 0)
            return (norm2 > tolerance2) & (iteration < self.max_steps) & definite & symmetric

        def is_symmetric(iteration, v, first, second):
            if not self.check_symmetry:
                return True
            # Relative to the two directions' own products, as the inequality of Cauchy has it.
            largest = tree.root_of(first) * tree.root_of(second)
            return (iteration != 1) | ~(jnp.abs(tree.dot(z, v)) > tolerance * largest)

        def step(carry):
            x, r, p, rho, _, iteration, before, _ = carry
            v = operator(p)
            curvature = tree.dot(p, v)
            symmetric = is_symmetric(iteration, v, before, curvature)
            alpha = divide(rho, curvature)
            x = jax.tree.map(lambda x, p: x + alpha * p, x, p)
            r = jax.tree.map(lambda r, v: r - alpha * v, r, v)
            z = precondition(r)
            rho_next = tree.dot(r, z)
            beta = divide(rho_next, rho)
            p = jax.tree.map(lambda z, p: z + beta * p, z, p)
            return x, r, p, rho_next, tree.dot(r, r), iteration + 1, curvature, symmetric

        z = precondition(residual)
        zero = tree.zeros_like(residual)
        count, yes = jnp.array(0), jnp.array(True)
        first = (zero, residual, z, tree.dot(residual, z), norm2, count, norm2, yes)
        last = loop(unfinished, step, first, self.max_steps)
        x, *_, norm2, iterations, curvature, symmetric = last
        suits = symmetric & ((iterations == 0) | (curvature > 0))
        failure = jnp.where(suits, Result.CONVERGED, Result.NOT_SYMMETRIC)
        return Iterated(x, norm2, iterations, failure)
