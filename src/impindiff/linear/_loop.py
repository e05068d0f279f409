"""How an iteration is repeated: forgetting what it passed through, or keeping it.

Solvers take their loop as an argument. With the first they need memory for one iterate, and have no
derivative of their own: none is needed where the implicit function theorem gives it. With the
second reverse mode goes back through the iterations, all of which are kept.
"""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool

Unfinished = Callable[[Any], Bool[Array, ""]]
Step = Callable[[Any], Any]


Loop = Callable[[Unfinished, Step, Any, int], Any]
"""`loop(unfinished, step, carry, max_steps)`: the carry after steps while it is unfinished.

`unfinished` is false after `max_steps` steps at the latest: for so many a loop with a derivative
reserves memory.
"""


def while_loop(unfinished: Unfinished, step: Step, carry: Any, max_steps: int) -> Any:
    """Keeps the last carry only; not differentiable in reverse mode."""
    return jax.lax.while_loop(unfinished, step, carry)


def unrolled_loop(unfinished: Unfinished, step: Step, carry: Any, max_steps: int) -> Any:
    """Keeps every carry; differentiable in either mode. Steps beyond the end change nothing."""

    def once(carry, _):
        return jax.lax.cond(unfinished(carry), step, lambda same: same, carry), None

    return jax.lax.scan(once, carry, length=max_steps)[0]


def once_where(
    condition: Bool[Array, ""], function: Callable[..., Any], value: Any, *fixed: Any
) -> Any:
    """The function of a value where a condition holds, else the value.

    A loop of at most one step, not `cond`: of a batch that needs none, none is computed.

    Args:
        condition: whether to.
        function: of the value, and of what else is given.
        value: arrays.
        fixed: what the function is expensive in. Compilers take out of a loop what is the same in
            all of its steps, and would compute it for nothing.
    """

    def step(carry):
        unfinished, value = carry
        held, _ = jax.lax.optimization_barrier((fixed, unfinished))
        return jnp.zeros_like(condition), function(value, *held)

    return jax.lax.while_loop(lambda carry: carry[0], step, (condition, value))[1]
