"""What direct solvers share: one solve, judged, and refined only where that was not enough."""

from collections.abc import Callable

import jax
import jax.numpy as jnp

from impindiff._types import Scalar, Vector
from impindiff.implicit import _tree as tree
from impindiff.implicit._linear import WORTHWHILE, Iterated, Operator
from impindiff.implicit._loop import Loop
from impindiff.implicit._outcome import Result

Direct = Callable[[Vector], Vector]


def refine(
    first: Direct,
    again: Direct,
    operator: Operator,
    residual: Vector,
    tolerance2: Scalar,
    max_steps: int,
    loop: Loop,
) -> Iterated:
    """Solve directly, and correct the solution by its own residual while that helps.

    Args:
        first: product with the inverse, up to round-off.
        again: the same for corrections; may be slower and safer.
        operator: product with the matrix.
        residual: right-hand side.
        tolerance2: square of the residual norm to reach.
        max_steps: the solve, and refinements after it.
        loop: repeats the refinement.
    """
    start2 = tree.dot(residual, residual)
    needed = start2 > tolerance2

    def improve(solve, x, r, norm2):
        # What a singular matrix gives is not finite: no step is taken, and no NaN carried on.
        step = solve(r)
        good = jnp.isfinite(tree.norm(step))
        moved = jax.tree.map(lambda x, d: x + jnp.where(good, d, 0), x, step)
        left = tree.subtract(residual, operator(moved))
        after = tree.dot(left, left)
        # Refinement may lose at the level of round-off; then the step before was the better one.
        better = good & (after < norm2)
        kept = [
            jax.tree.map(lambda new, old: jnp.where(better, new, old), *pair)
            for pair in ((moved, x), (left, r))
        ]
        return *kept, jnp.where(better, after, norm2), good & (after < WORTHWHILE * norm2)

    x, r, norm2, _ = improve(first, tree.zeros_like(residual), residual, start2)
    x = jax.tree.map(lambda leaf: jnp.where(needed, leaf, 0), x)
    norm2 = jnp.where(needed, norm2, start2)

    def unfinished(carry):
        *_, norm2, count, going = carry
        return (norm2 > tolerance2) & (count < max_steps) & going

    def step(carry):
        x, r, norm2, count, _ = carry
        *improved, going = improve(again, x, r, norm2)
        return *improved, count + 1, going

    carry = (x, r, norm2, needed.astype(int), jnp.array(True))
    x, _, norm2, count, going = loop(unfinished, step, carry, max_steps)
    # A finite equation of which the inverse takes away nothing at all.
    singular = jnp.isfinite(start2) & (norm2 >= start2) & needed
    failure = jnp.where(going, Result.CONVERGED, Result.STALLED)
    failure = jnp.where(singular, Result.SINGULAR, failure)
    return Iterated(x, norm2, count, failure)
