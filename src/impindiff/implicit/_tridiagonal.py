"""A direct solver for one-dimensional grids."""

from collections.abc import Callable
from typing import final

import equinox as eqx
import jax
import jax.numpy as jnp

from impindiff._errors import InputError
from impindiff._types import Scalar, Vector
from impindiff.implicit._banded import (
    solve_block_tridiagonal,
    solve_tridiagonal,
    solve_tridiagonal_pivoted,
)
from impindiff.implicit._limits import check_limits
from impindiff.implicit._linear import AbstractLinearSolver, Iterated, Operator
from impindiff.implicit._loop import Loop
from impindiff.implicit._probe import probe
from impindiff.implicit._refine import refine


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

    def __check_init__(self) -> None:
        """Refuse limits that cannot be met."""
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
        leaves, structure = jax.tree.flatten(residual)
        shapes = {leaf.shape for leaf in leaves}
        if len(shapes) != 1 or len(next(iter(shapes))) != 1:
            raise InputError(
                f"Tridiagonal: found fields of shapes {sorted(shapes)}; all must be 1-D and of one "
                "length. Use BiCGStab or GMRES, or DenseLU for few unknowns."
            )
        stencil = probe(operator, residual)
        ((lower, upper),) = stencil.sides
        bands = (lower, stencil.centre, upper)

        def scalar(solve):
            def direct(vector):
                (rhs,) = jax.tree.leaves(vector)
                lower, own, upper = (band[0, 0] for band in bands)
                return jax.tree.unflatten(structure, [solve(lower, own, upper, rhs)])

            return direct

        def block(vector):
            below, own, above = (jnp.moveaxis(band, -1, 0) for band in bands)
            rhs = jnp.stack(jax.tree.leaves(vector), -1)
            found = solve_block_tridiagonal(below, own, above, rhs)
            return jax.tree.unflatten(structure, list(jnp.moveaxis(found, -1, 0)))

        one = len(leaves) == 1
        solve = scalar(solve_tridiagonal_pivoted) if one else block
        first = scalar(solve_tridiagonal) if one else None
        return refine(solve, operator, residual, tolerance2, self.max_steps, loop, first)
