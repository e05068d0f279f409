"""A direct solver for any operator with few unknowns."""

from collections.abc import Callable
from typing import ClassVar, final

import equinox as eqx
import jax
import jax.numpy as jnp
from jax.flatten_util import ravel_pytree

from impindiff._errors import InputError
from impindiff._types import Vector
from impindiff.implicit._judged import Iterated
from impindiff.implicit._limits import check_limits
from impindiff.implicit._linear import AbstractLinearSolver, LinearProblem
from impindiff.implicit._loop import Loop
from impindiff.implicit._refine import refine


@final
class DenseLU(AbstractLinearSolver):
    r"""Writes the matrix out, one product for each unknown, and factorises it with pivoting.

    For small systems, and to judge other solvers by. Solves once; refines only where the true
    residual misses the tolerance. A preconditioner is not used.

    Args:
        rtol: see `AbstractLinearSolver`.
        atol: see `AbstractLinearSolver`.
        max_size: most unknowns; the matrix has the square of their number.
        max_steps: the solve, and refinements after it.

    Raises: InputError for limits that cannot be met, and, when solving, for more unknowns.
    """

    rtol: float | None = eqx.field(static=True, default=None)
    atol: float = eqx.field(static=True, default=0.0)
    max_size: int = eqx.field(static=True, default=2000)
    max_steps: int = eqx.field(static=True, default=2)

    forms_residual: ClassVar[bool] = True

    def __check_init__(self) -> None:
        """Refuse limits that cannot be met."""
        check_limits(self)
        if self.max_size < 1:
            raise InputError(f"DenseLU(max_size={self.max_size}): must be at least 1.")

    def iterate(
        self,
        problem: LinearProblem,
        precondition: Callable[[Vector], Vector],
        loop: Loop,
    ) -> Iterated:
        """See `AbstractLinearSolver.iterate`."""
        flat, unravel = ravel_pytree(problem.residual)
        if flat.size > self.max_size:
            raise InputError(
                f"DenseLU: found {flat.size} unknowns; at most max_size={self.max_size} are "
                "allowed, since the matrix is written out. Raise max_size, or use Tridiagonal on a "
                "line, BiCGStab or GMRES otherwise."
            )

        def column(unit):
            return ravel_pytree(problem.operator(unravel(unit)))[0]

        matrix = jax.vmap(column, out_axes=1)(jnp.eye(flat.size, dtype=flat.dtype))
        factors = jax.scipy.linalg.lu_factor(matrix)

        def direct(vector):
            return unravel(jax.scipy.linalg.lu_solve(factors, ravel_pytree(vector)[0]))

        return refine(direct, problem, self.max_steps, loop)
