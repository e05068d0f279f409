"""Conjugate gradients, for symmetric positive definite operators."""

from collections.abc import Callable
from typing import final

import equinox as eqx
import jax
import jax.numpy as jnp

from impindiff._types import Scalar, Vector
from impindiff.implicit import _tree as tree
from impindiff.implicit._limits import check_limits
from impindiff.implicit._linear import AbstractLinearSolver, Iterated, Operator, divide
from impindiff.implicit._loop import Loop
from impindiff.implicit._outcome import Result


@final
class CG(AbstractLinearSolver):
    r"""The conjugate gradient method: one product an iteration, four vectors.

    Operator and preconditioner must be symmetric and positive definite; for others use `BiCGStab`.
    Where a direction shows that they are not, the iteration ends and the outcome says so by its
    residual. That an operator is not symmetric shows in the second direction: $p_1^\top A\,p_0$ is
    zero by construction, but $p_0^\top A\,p_1$ only by symmetry. The outcome then is
    `Result.NOT_SYMMETRIC`.

    Args:
        rtol: see `AbstractLinearSolver`.
        atol: see `AbstractLinearSolver`.
        max_steps: see `AbstractLinearSolver`.
        check_symmetry: whether to look; one inner product an iteration.

    Raises: ValueError for a negative tolerance, for both tolerances zero, or `max_steps` under 1.
    Reference: Hestenes & Stiefel, J. Res. Natl. Bur. Stand. 49 (1952) 409.
    """

    rtol: float = eqx.field(static=True, default=1e-6)
    atol: float = eqx.field(static=True, default=0.0)
    max_steps: int = eqx.field(static=True, default=500)
    check_symmetry: bool = eqx.field(static=True, default=True)

    def __check_init__(self) -> None:
        """Refuse tolerances that cannot be met."""
        check_limits(self)

    def iterate(
        self,
        operator: Operator,
        residual: Vector,
        tolerance2: Scalar,
        precondition: Callable[[Vector], Vector],
        loop: Loop,
    ) -> Iterated:
        """See `AbstractLinearSolver.iterate`."""
        # The two inner products differ by round-off times the condition number.
        tolerance = jnp.finfo(tree.scalar_dtype(residual)).eps ** 0.25

        def unfinished(carry):
            *_, norm2, iteration, definite, symmetric = carry
            return (norm2 > tolerance2) & (iteration < self.max_steps) & definite & symmetric

        def is_symmetric(iteration, v):
            if not self.check_symmetry:
                return True
            skew = jnp.abs(tree.dot(z, v)) > tolerance * tree.norm(z) * tree.norm(v)
            return (iteration != 1) | ~skew

        def step(carry):
            x, r, p, rho, _, iteration, *_ = carry
            v = operator(p)
            symmetric = is_symmetric(iteration, v)
            curvature = tree.dot(p, v)
            alpha = divide(rho, curvature)
            x = jax.tree.map(lambda x, p: x + alpha * p, x, p)
            r = jax.tree.map(lambda r, v: r - alpha * v, r, v)
            z = precondition(r)
            rho_next = tree.dot(r, z)
            beta = divide(rho_next, rho)
            p = jax.tree.map(lambda z, p: z + beta * p, z, p)
            return x, r, p, rho_next, tree.dot(r, r), iteration + 1, curvature > 0, symmetric

        z = precondition(residual)
        norm2 = tree.dot(residual, residual)
        zero = tree.zeros_like(residual)
        yes = jnp.array(True)
        first = (zero, residual, z, tree.dot(residual, z), norm2, jnp.array(0), yes, yes)
        last = loop(unfinished, step, first, self.max_steps)
        x, *_, norm2, iterations, _, symmetric = last
        failure = jnp.where(symmetric, Result.CONVERGED, Result.NOT_SYMMETRIC)
        return Iterated(x, norm2, iterations, failure)
