"""Restarted, flexible GMRES."""

from collections.abc import Callable
from typing import final

import equinox as eqx
import jax
import jax.numpy as jnp
from jax.flatten_util import ravel_pytree

from impindiff._errors import InputError, as_count
from impindiff._types import Scalar, Vector
from impindiff.implicit import _tree as tree
from impindiff.implicit._judged import Iterated, divide
from impindiff.implicit._limits import check_limits
from impindiff.implicit._linear import AbstractLinearSolver, LinearProblem
from impindiff.implicit._loop import Loop
from impindiff.implicit._outcome import Result


@final
class GMRES(AbstractLinearSolver):
    r"""The generalised minimal residual method, restarted and flexible.

    For operators on which `BiCGStab` stagnates. The residual never grows. One product an iteration,
    $2 m$ vectors; orthogonalised twice, which float32 needs. Flexible: the preconditioned vectors
    are kept, so that the preconditioner may itself be an iteration.

    Args:
        rtol: see `AbstractLinearSolver`.
        atol: see `AbstractLinearSolver`.
        max_steps: see `AbstractLinearSolver`; counted over restarts.
        restart: $m$, iterations between restarts.

    Raises: InputError for a negative tolerance, for both tolerances zero, or counts under 1.
    Reference: Y. Saad, SIAM J. Sci. Comput. 14 (1993) 461.
    """

    rtol: float | None = eqx.field(static=True, default=None)
    atol: float = eqx.field(static=True, default=0.0)
    max_steps: int = eqx.field(static=True, default=300)
    restart: int = eqx.field(static=True, default=30)

    def __check_init__(self) -> None:
        """Refuse tolerances that cannot be met."""
        check_limits(self)
        if as_count(self.restart, "restart of GMRES") < 1:
            raise InputError(f"GMRES(restart={self.restart}): must be at least 1; 30 is usual.")

    def iterate(
        self,
        problem: LinearProblem,
        precondition: Callable[[Vector], Vector],
        loop: Loop,
    ) -> Iterated:
        """See `AbstractLinearSolver.iterate`."""
        operator, residual, norm2, tolerance2 = problem
        flat, unravel = ravel_pytree(residual)
        size = min(self.restart, flat.size)

        def products(v):
            z = precondition(unravel(v))
            return ravel_pytree(z)[0], ravel_pytree(operator(z))[0]

        def unfinished(carry):
            _, _, norm2, iterations, stalled = carry
            return (norm2 > tolerance2) & (iterations < self.max_steps) & ~stalled

        def cycle(carry):
            x, r, norm2, iterations, _ = carry
            budget = self.max_steps - iterations
            correction, steps = _cycle(products, r, tolerance2, size, budget, loop)
            x = x + correction
            # Formed anew at each restart: it is what the next cycle has to remove.
            r = flat - ravel_pytree(operator(unravel(x)))[0]
            after = jnp.vdot(r, r)
            return x, r, after, iterations + steps, after > 0.999 * norm2

        first = (jnp.zeros_like(flat), flat, norm2, jnp.array(0), jnp.array(False))
        # At least one iteration a cycle; all but the last do as many as there are vectors.
        most_cycles = -(-self.max_steps // size) + 1
        x, _, norm2, iterations, stalled = loop(unfinished, cycle, first, most_cycles)
        stalled &= iterations < self.max_steps
        failure = jnp.where(stalled, Result.STALLED, Result.CONVERGED)
        return Iterated(unravel(x), norm2, iterations, failure)


def _cycle(products, residual, tolerance2: Scalar, size: int, budget, loop: Loop):
    """At most `size` steps of Arnoldi's process, and the correction of least residual."""
    beta = tree.norm(residual)
    basis = jnp.zeros((size + 1, residual.size), residual.dtype).at[0].set(divide(residual, beta))
    searched = jnp.zeros((size, residual.size), residual.dtype)
    # The Hessenberg matrix, made triangular by rotations as it grows; ones where it has not grown.
    triangle = jnp.eye(size, dtype=residual.dtype)
    rotations = jnp.zeros((size, 2), residual.dtype).at[:, 0].set(1)
    target = jnp.zeros(size + 1, residual.dtype).at[0].set(beta)

    def unfinished(carry):
        *_, target, step = carry
        return (step < size) & (step < budget) & (target[step] ** 2 > tolerance2)

    def extend(carry):
        basis, searched, triangle, rotations, target, step = carry
        z, w = products(basis[step])
        searched = searched.at[step].set(z)
        column = basis @ w
        w = w - column @ basis
        again = basis @ w
        w = w - again @ basis
        column = column + again
        height = tree.norm(w)
        basis = basis.at[step + 1].set(divide(w, height))
        column = column.at[step + 1].set(height)

        def rotate(carry):
            i, column = carry
            cosine, sine = rotations[i]
            here, below = column[i], column[i + 1]
            rotated = (cosine * here + sine * below, cosine * below - sine * here)
            return i + 1, column.at[i].set(rotated[0]).at[i + 1].set(rotated[1])

        _, column = loop(lambda carry: carry[0] < step, rotate, (jnp.array(0), column), size)
        length = tree.norm((column[step], column[step + 1]))
        cosine, sine = divide(column[step], length), divide(column[step + 1], length)
        rotations = rotations.at[step].set(jnp.stack([cosine, sine]))
        # A column of zeros (the operator is singular) would make the triangle so, too.
        column = column.at[step].set(jnp.where(length == 0, 1, length)).at[step + 1].set(0)
        triangle = triangle.at[:, step].set(column[:-1])
        here = target[step]
        target = target.at[step].set(cosine * here).at[step + 1].set(-sine * here)
        return basis, searched, triangle, rotations, target, step + 1

    first = (basis, searched, triangle, rotations, target, jnp.array(0))
    _, searched, triangle, _, target, steps = loop(unfinished, extend, first, size)
    # Beyond the steps done the triangle is the identity and the target is masked to zero.
    target = jnp.where(jnp.arange(size) < steps, target[:-1], 0)
    weights = jax.scipy.linalg.solve_triangular(triangle, target)
    return weights @ searched, steps
