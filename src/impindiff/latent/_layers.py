"""Layers of networks, and how they are drawn."""

from functools import partial
from typing import Any, final

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, PRNGKeyArray

from impindiff._errors import InputError


@final
class Dense(eqx.Module):
    """$x W + b$ for many cells at once."""

    weight: Float[Array, "inputs outputs"]
    bias: Float[Array, " outputs"]

    def __call__(self, x: Float[Array, "cells inputs"]) -> Float[Array, "cells outputs"]:
        return x @ self.weight + self.bias


def check_key(key: Any, whose: str) -> None:
    """Refuse what is no random key.

    Raises: InputError.
    """
    dtype = getattr(key, "dtype", np.dtype(object))
    is_typed = jnp.issubdtype(dtype, jax.dtypes.prng_key) and np.ndim(key) == 0
    if not (is_typed or (dtype == np.uint32 and np.ndim(key) == 1)):
        raise InputError(f"{whose} has key={key!r:.40}: give one such as key=jax.random.key(0).")


# One compilation for all layers: drawn one by one, the start would take a second.
@partial(jax.jit, static_argnums=(1, 2, 3))
def draw(
    key: PRNGKeyArray, sizes: tuple[int, ...], bounds: tuple[float, ...], dtype: jnp.dtype
) -> tuple[Dense, ...]:
    r"""Uniform weights within a bound for each layer, biases within $1/\sqrt{\mathrm{inputs}}$.

    Drawn in single precision whatever they are kept in, so that a key gives the same network in
    both.
    """
    layers = []
    for inputs, outputs, bound in zip(sizes, sizes[1:], bounds, strict=False):
        key, for_weight, for_bias = jax.random.split(key, 3)
        spread = inputs**-0.5
        weight = jax.random.uniform(for_weight, (inputs, outputs), jnp.float32, -bound, bound)
        bias = jax.random.uniform(for_bias, (outputs,), jnp.float32, -spread, spread)
        layers.append(Dense(weight.astype(dtype), bias.astype(dtype)))
    return tuple(layers)
