"""A direct solver for one-dimensional grids."""

from collections.abc import Callable
from typing import ClassVar, final

import equinox as eqx
import jax
import jax.numpy as jnp

from impindiff._errors import InputError
from impindiff._types import Vector
from impindiff.implicit._banded import (
    solve_block_tridiagonal,
    solve_tridiagonal,
    solve_tridiagonal_pivoted,
)
from impindiff.implicit._block_line import LineFactors
from impindiff.implicit._judged import Iterated, Operator
from impindiff.implicit._limits import check_limits
from impindiff.implicit._linear import AbstractLinearSolver, LinearProblem
from impindiff.implicit._loop import Loop
from impindiff.implicit._probe import probe
from impindiff.implicit._refine import Direct, refine

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

    def __check_init__(self) -> None:
        """Refuse limits that cannot be met."""
        check_limits(self)

    def iterate(
        self,
        problem: LinearProblem,
        precondition: Callable[[Vector], Vector],
        loop: Loop,
    ) -> Iterated:
        """See `AbstractLinearSolver.iterate`."""
        leaves = jax.tree.leaves(problem.residual)
        shapes = {leaf.shape for leaf in leaves}
        if len(shapes) != 1 or len(next(iter(shapes))) != 1:
            raise InputError(
                f"Tridiagonal: found fields of shapes {sorted(shapes)}; all must be 1-D and of one "
                "length. Use BiCGStab or GMRES, or DenseLU for few unknowns."
            )
        safe, fast = eliminations(problem.operator, problem.residual)
        return refine(safe, problem, self.max_steps, loop, fast)


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
