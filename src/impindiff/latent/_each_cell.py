r"""Functions of what is in a cell, whose slopes are found once in each.

A solver asks for many products with a linearisation: one for each iteration, and for each colour by
which a Jacobian is written out. Through a network each would be as dear as its evaluation. But
where a cell's output depends on nothing beyond the cell, $\dot y_i = \sum_k (\partial f / \partial
x_k)(x_i)\,\dot x_{ik}$: with the slopes at hand, a product is a multiplication.
"""

from collections.abc import Callable
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float


@eqx.filter_custom_jvp
def in_each_cell(
    function: Callable[..., Array], x: Float[Array, "cells inputs"]
) -> Float[Array, "cells outputs"]:
    """`function(x)`, of which each row depends on the same row of `x` alone.

    Derivatives of any order and either mode, in the arrays of the function, too.
    """
    return function(x)


@in_each_cell.def_jvp
def _(primals: tuple[Any, Array], tangents: tuple[Any, Array | None]) -> tuple[Array, Array | None]:
    (function, x), (along_function, along_x) = primals, tangents
    value, parts = function(x), []
    if along_x is not None:
        units = jnp.eye(x.shape[-1], dtype=x.dtype)

        def slope(unit: Array) -> Array:
            return jax.jvp(function, (x,), (jnp.broadcast_to(unit, x.shape),))[1]

        slopes = jax.vmap(slope)(units)
        each = along_x.reshape(*along_x.shape, *[1] * (value.ndim - 1))
        parts += [slopes[k] * each[:, k] for k in range(len(units))]
    if jax.tree.leaves(along_function):
        parts.append(eqx.filter_jvp(lambda f: f(x), (function,), (along_function,))[1])
    # A network may have a precision of its own.
    return value, sum(parts[1:], start=parts[0]).astype(value.dtype) if parts else None
