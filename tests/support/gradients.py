"""The test of a gradient that no wrong gradient passes.

Forward and reverse mode come from one rule: that they agree says nothing. What a step along the
gradient leaves over does: halve the step, and a true gradient leaves a quarter, a wrong one half.
"""

from collections.abc import Callable, Mapping
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


def taylor_rates(
    loss: Callable[[Any], Any], parts: Mapping[str, PyTree], seed: int = 0, step: float = 1e-2
) -> dict[str, float]:
    """The order in which the remainder of a first-order Taylor expansion vanishes: 2.

    Along a random direction in each of the parts that the loss depends on, the others held fixed;
    the gradient is of all at once. The loss must be nonlinear in each, or there is no remainder.
    """
    evaluate = jax.jit(jax.value_and_grad(loss))
    value, gradient = evaluate(parts)

    def rate(name: str) -> float:
        direction = random_like(parts[name], seed)
        slope = inner(gradient[name], direction)

        def remainder(h: float) -> float:
            moved = jax.tree.map(lambda p, d: p + h * d, parts[name], direction)
            return abs(float(evaluate({**parts, name: moved})[0] - value - h * slope))

        return float(np.log2(remainder(step) / remainder(step / 2)))

    return {name: rate(name) for name in parts}


def taylor_rate(loss: Callable[[Any], Any], point: PyTree, **options: Any) -> float:
    """`taylor_rates` where there is one part only."""
    return taylor_rates(lambda parts: loss(parts["point"]), {"point": point}, **options)["point"]
