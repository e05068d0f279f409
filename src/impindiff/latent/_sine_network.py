"""The sine network that neural fields are made of."""

from typing import final

import equinox as eqx
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, PRNGKeyArray

from impindiff._errors import InputError
from impindiff.latent._layers import Dense, draw


@final
class SineLayers(eqx.Module):
    r"""Hidden layers $z_{k+1} = \sin(\omega_0 (W_k z_k + b_k))$.

    Reference: Sitzmann et al. (2020), arXiv 2006.09661.
    """

    layers: tuple[Dense, ...]
    frequency: float = eqx.field(static=True)

    def __call__(self, z: Float[Array, "cells inputs"]) -> Float[Array, "cells width"]:
        for layer in self.layers:
            z = jnp.sin(self.frequency * layer(z))
        return z


def sine_network(
    key: PRNGKeyArray,
    inputs: int,
    width: int,
    depth: int,
    outputs: int,
    frequency: float,
    dtype: jnp.dtype,
) -> tuple[SineLayers, Dense]:
    r"""The hidden layers of a network, and its linear head.

    Args:
        key: random key.
        inputs: numbers that it takes for a cell, two for each axis.
        width: units of each hidden layer.
        depth: hidden layers.
        outputs: numbers that the head gives.
        frequency: $\omega_0$.
        dtype: precision of the weights.

    Raises: InputError for sizes under 1 or a frequency that is not positive.
    """
    if min(inputs, width, depth, outputs) < 1 or not 0 < frequency < np.inf:
        raise InputError(
            "a neural field needs num_axes, width, depth >= 1 and frequency > 0; found "
            f"num_axes={inputs // 2}, width={width}, depth={depth}, frequency={frequency}."
        )
    sizes = (inputs, *[width] * depth, outputs)
    # The bounds of Sitzmann et al., section 3.2: activations keep their spread through layers.
    bounds = (1 / inputs, *[float(np.sqrt(6 / width)) / frequency] * depth)
    *hidden, head = draw(key, sizes, bounds, dtype)
    return SineLayers(tuple(hidden), float(frequency)), head
