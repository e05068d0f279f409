"""Direct solvers: any operator with few unknowns, and fields on a line.

Both solve once, judge the solution by the operator itself, and refine it only where that was not
enough.
"""

from collections.abc import Callable
from functools import partial
from typing import ClassVar, final

import equinox as eqx
import jax
import jax.numpy as jnp
from jax.flatten_util import ravel_pytree

from impindiff._errors import InputError, as_count
from impindiff._types import Scalar, Vector
from impindiff.linear import _tree as tree
from impindiff.linear._banded import (
    solve_block_tridiagonal,
    solve_tridiagonal,
    solve_tridiagonal_pivoted,
)
from impindiff.linear._blocks import LineFactors
from impindiff.linear._factors import DenseInverse, LineElimination, dense_matrix
from impindiff.linear._inverse import AbstractInverse
from impindiff.linear._judgement import WORTHWHILE, Iterated, Operator
from impindiff.linear._linear_solver import AbstractLinearSolver, LinearProblem
from impindiff.linear._loop import Loop, once_where, while_loop
from impindiff.linear._outcome import Result
from impindiff.linear._stencils import probe

Direct = Callable[[Vector], Vector]


def refine(
    solve: Direct,
    problem: LinearProblem,
    max_steps: int,
    loop: Loop,
    first: Direct | None = None,
) -> Iterated:
    """Solve directly, and correct the solution by its own residual while that helps.

    Args:
        solve: product with the inverse, up to round-off.
        problem: the equations.
        max_steps: the solve, and refinements after it.
        loop: repeats the refinement.
        first: in place of `solve` for the first time; may be faster and less safe.
    """
    operator, residual, start2, tolerance2 = problem

    def unfinished(carry):
        *_, norm2, count, going = carry
        return (norm2 > tolerance2) & (count < max_steps) & going

    def improve(solve, carry):
        x, r, norm2, count, _ = carry
        moved = tree.add(x, solve(r))
        left = tree.subtract(residual, operator(moved))
        after = tree.dot(left, left)
        # Refinement may lose at the level of round-off; then the step before was the better one,
        # as it was where a singular matrix gives NaN.
        better = after < norm2
        kept = [
            jax.tree.map(lambda new, old: jnp.where(better, new, old), *pair)
            for pair in ((moved, x), (left, r))
        ]
        going = (count == 0) | (after < WORTHWHILE * norm2)
        return *kept, jnp.where(better, after, norm2), count + 1, going

    carry = (tree.zeros_like(residual), residual, start2, jnp.array(0), jnp.array(True))
    if first is not None:
        needed = unfinished(carry)
        carry = jax.tree.map(
            lambda new, old: jnp.where(needed, new, old), improve(first, carry), carry
        )
    # Where one solve serves every time, it is compiled once.
    x, _, norm2, count, going = loop(unfinished, partial(improve, solve), carry, max_steps)
    # A finite equation of which the inverse takes away nothing at all.
    singular = jnp.isfinite(start2) & (norm2 >= start2) & (start2 > tolerance2)
    failure = jnp.where(going, Result.CONVERGED, Result.STALLED)
    failure = jnp.where(singular, Result.SINGULAR, failure)

    def with_operator(norm2: Scalar, x: Vector) -> Scalar:
        """The norm; NaN where the operator is not finite, so that even zero has no product."""
        product = operator(tree.scale(jnp.zeros_like(norm2), x))
        return norm2 + jnp.where(tree.is_finite(product), 0, jnp.nan)

    if loop is while_loop:
        norm2 = once_where(singular, with_operator, norm2, x)
    return Iterated(x, norm2, count, failure)


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
    max_size: int = eqx.field(
        static=True, default=2000, converter=partial(as_count, what="max_size of DenseLU", least=1)
    )
    max_steps: int = eqx.field(static=True, default=2)

    forms_residual: ClassVar[bool] = True

    def factorise(self, operator: Operator, like: Vector) -> AbstractInverse | None:
        """See `AbstractLinearSolver.factorise`."""
        is_small = sum(leaf.size for leaf in jax.tree.leaves(like)) <= self.max_size
        return DenseInverse.of(operator, like) if is_small else None

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
        factors = jax.scipy.linalg.lu_factor(dense_matrix(problem.operator, problem.residual))

        def direct(vector):
            return unravel(jax.scipy.linalg.lu_solve(factors, ravel_pytree(vector)[0]))

        return refine(direct, problem, self.max_steps, loop)


# From so many fields on, elimination cell by cell is faster than halving the line: measured, three
# to eight times.
_MANY_FIELDS = 3


@final
class Tridiagonal(AbstractLinearSolver):
    r"""Finds the coefficients of an operator on a line by a few products, and eliminates.

    For one or several fields on a 1-D grid, periodic or not, each cell coupled to itself and its
    two neighbours. An operator of wider reach ends without success, since the true residual is
    formed with the operator itself. A preconditioner is not used.

    Args:
        rtol: see `AbstractLinearSolver`.
        atol: see `AbstractLinearSolver`.
        max_steps: the solve, and refinements where the true residual misses the tolerance; those
            of a single field pivot.

    Raises: InputError for limits that cannot be met, and, when solving, for fields that are not 1-D
        or of different lengths.
    """

    rtol: float | None = eqx.field(static=True, default=None)
    atol: float = eqx.field(static=True, default=0.0)
    max_steps: int = eqx.field(static=True, default=3)

    forms_residual: ClassVar[bool] = True
    needs_line: ClassVar[bool] = True

    def factorise(self, operator: Operator, like: Vector) -> AbstractInverse | None:
        """See `AbstractLinearSolver.factorise`."""
        return LineElimination.of(operator, like) if is_on_a_line(like) else None

    def iterate(
        self,
        problem: LinearProblem,
        precondition: Callable[[Vector], Vector],
        loop: Loop,
    ) -> Iterated:
        """See `AbstractLinearSolver.iterate`."""
        if not is_on_a_line(problem.residual):
            shapes = {leaf.shape for leaf in jax.tree.leaves(problem.residual)}
            raise InputError(
                f"Tridiagonal: found fields of shapes {sorted(shapes)}; all must be 1-D and of one "
                "length. Use BiCGStab or GMRES, or DenseLU for few unknowns."
            )
        safe, fast = eliminations(problem.operator, problem.residual)
        return refine(safe, problem, self.max_steps, loop, fast)


def is_on_a_line(vector: Vector) -> bool:
    """Whether all parts are fields on one line."""
    shapes = {leaf.shape for leaf in jax.tree.leaves(vector)}
    return len(shapes) == 1 and len(next(iter(shapes))) == 1


def eliminations(operator: Operator, example: Vector) -> tuple[Direct, Direct | None]:
    """Products with the inverse of an operator that couples neighbours on a line.

    Args:
        operator: the product; of wider reach, what is inverted is another matrix.
        example: 1-D fields of one length.

    Returns: a safe one, and a faster one for diagonally dominant matrices where there is any.
    """
    leaves, structure = jax.tree.flatten(example)
    stencil = probe(operator, example)
    ((lower, upper),) = stencil.sides
    bands = (lower, stencil.centre, upper)
    if len(leaves) == 1:

        def scalar(solve):
            def direct(vector):
                (rhs,) = jax.tree.leaves(vector)
                lower, own, upper = (band[0, 0] for band in bands)
                return jax.tree.unflatten(structure, [solve(lower, own, upper, rhs)])

            return direct

        return scalar(solve_tridiagonal_pivoted), scalar(solve_tridiagonal)
    below, own, above = (jnp.moveaxis(band, -1, 0) for band in bands)
    if len(leaves) >= _MANY_FIELDS:
        factors = LineFactors.of(below, own, above)

        def factorised(vector):
            rhs = jnp.stack(jax.tree.leaves(vector), -1)
            found = factors.solve(rhs)
            return jax.tree.unflatten(structure, list(jnp.moveaxis(found, -1, 0)))

        return factorised, None

    def block(vector):
        rhs = jnp.stack(jax.tree.leaves(vector), -1)
        found = solve_block_tridiagonal(below, own, above, rhs)
        return jax.tree.unflatten(structure, list(jnp.moveaxis(found, -1, 0)))

    return block, None
