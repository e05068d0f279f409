"""A line search for objectives whose evaluation says more than a number.

Bisection for the weak Wolfe conditions. The objective is compiled once, inside one loop, and what
its solves did comes back with the accepted point; optax's zoom search compiles it several times
over and returns the value alone.
"""

from collections.abc import Callable
from typing import final

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, PyTree

from impindiff._types import Scalar
from impindiff.train._objective import Evaluation

_SUFFICIENT_DECREASE = 1e-4
_CURVATURE = 0.9


@final
class LineSearch(eqx.Module):
    """Where a search ended, its evaluation, the step length, whether the loss went down."""

    point: PyTree
    evaluation: Evaluation
    length: Scalar
    accepted: Bool[Array, ""]


def weak_wolfe(
    objective: Callable[[PyTree], Evaluation],
    start: PyTree,
    direction: PyTree,
    evaluation: Evaluation,
    max_evaluations: int,
) -> LineSearch:
    r"""Search for a step $t$ with $f(t) \le f_0 + c_1 t f_0'$ and $f'(t) \ge c_2 f_0'$.

    Where there is none within the evaluations allowed, the lowest point seen is taken; none is
    taken whose loss is not below $f_0$. Starts at $t = 1$; doubles while the slope is still steep,
    halves the bracket otherwise. A loss that is not finite, or a solve that failed, counts as too
    long a step.

    Args:
        objective: loss and gradient.
        start: where the line begins.
        direction: along which to search.
        evaluation: of the objective at the start; where it is `unknown`, the start is evaluated
            and taken, whatever it is.
        max_evaluations: most evaluations.

    Reference: Lewis & Overton, Math. Program. 141 (2013) 135, algorithm 4.6.
    """
    is_new = jnp.isposinf(evaluation.loss)
    slope = _dot(evaluation.gradient, direction)
    infinity = jnp.array(jnp.inf, evaluation.loss.dtype)

    def unfinished(carry):
        *_, done, count = carry
        return ~done & (count < max_evaluations)

    def probe(carry):
        best, low, high, t, _, count = carry
        point = jax.tree.map(lambda p, d: p + (t * d).astype(p.dtype), start, direction)
        here = objective(point)
        # Strictly: at a minimum, or where the slope drowns in round-off, equal is no progress.
        wanted = evaluation.loss + _SUFFICIENT_DECREASE * t * slope
        lower = here.is_finite & (here.loss <= wanted) & (here.loss < evaluation.loss)
        flat = _dot(here.gradient, direction) >= _CURVATURE * slope
        done = (lower & flat) | is_new
        better = done | (here.is_finite & (here.loss < best.evaluation.loss))
        found = LineSearch(point, here, t, jnp.array(True))
        best = jax.tree.map(lambda new, old: jnp.where(better, new, old), found, best)
        high = jnp.where(lower, high, t)
        low = jnp.where(lower, t, low)
        t = jnp.where(jnp.isfinite(high), (low + high) / 2, 2 * t)
        return best, low, high, t, done, count + 1

    zero, one = jnp.zeros_like(infinity), jnp.ones_like(infinity)
    nowhere = LineSearch(start, evaluation, zero, jnp.array(False))
    first = (nowhere, zero, infinity, one, jnp.array(False), 0)
    return jax.lax.while_loop(unfinished, probe, first)[0]


def unknown(objective: Callable[[PyTree], Evaluation], point: PyTree) -> Evaluation:
    """An evaluation that has yet to be made: of infinite loss."""
    shapes = eqx.filter_eval_shape(objective, point)
    nothing = jax.tree.map(lambda leaf: jnp.zeros(leaf.shape, leaf.dtype), shapes)
    return eqx.tree_at(lambda e: e.loss, nothing, jnp.full_like(nothing.loss, jnp.inf))


def _dot(left: PyTree, right: PyTree) -> Scalar:
    return jax.tree.reduce(jnp.add, jax.tree.map(jnp.vdot, left, right))
