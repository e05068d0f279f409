"""The test of a gradient that no wrong gradient passes.

Forward and reverse mode come from one rule: that they agree says nothing. What a step along the
gradient leaves over does: halve the step, and a true gradient leaves a quarter, a wrong one half.
"""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import PyTree


def random_like(tree: PyTree, seed: int) -> PyTree:
    """A PyTree of normal random numbers."""
    random = np.random.default_rng(seed)
    return jax.tree.map(lambda a: jnp.asarray(random.normal(size=a.shape), a.dtype), tree)


def inner(left: PyTree, right: PyTree) -> Any:
    """The inner product of two PyTrees."""
    return sum(jax.tree.leaves(jax.tree.map(jnp.vdot, left, right)))


def taylor_rate(
    loss: Callable[[Any], Any], point: PyTree, seed: int = 0, step: float = 1e-2
) -> float:
    """The order in which the remainder of a first-order Taylor expansion vanishes: 2.

    The loss must be nonlinear along the random direction, or there is no remainder to measure.
    """
    direction = random_like(point, seed)
    evaluate = jax.jit(jax.value_and_grad(loss))
    value, gradient = evaluate(point)
    slope = inner(gradient, direction)

    def remainder(h: float) -> float:
        there = jax.tree.map(lambda p, d: p + h * d, point, direction)
        return abs(float(evaluate(there)[0] - value - h * slope))

    return float(np.log2(remainder(step) / remainder(step / 2)))
