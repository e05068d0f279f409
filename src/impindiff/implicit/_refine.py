"""What direct solvers share: one solve, judged, and refined only where that was not enough."""

from collections.abc import Callable
from functools import partial

import jax
import jax.numpy as jnp

from impindiff._types import Scalar, Vector
from impindiff.implicit import _tree as tree
from impindiff.implicit._judged import WORTHWHILE, Iterated
from impindiff.implicit._linear import LinearProblem
from impindiff.implicit._loop import Loop, once_where, while_loop
from impindiff.implicit._outcome import Result

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
