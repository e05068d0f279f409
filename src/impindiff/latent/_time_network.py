"""Numbers that a network makes of the time, for fields that vary in it."""

from typing import final

import equinox as eqx
import jax.numpy as jnp
from jaxtyping import Array, Float, PRNGKeyArray

from impindiff._types import Scalar
from impindiff.coefficients import Instant
from impindiff.latent._coordinates import Span
from impindiff.latent._layers import Dense
from impindiff.latent._sine_network import SineLayers, sine_network


@final
class TimeNetwork(eqx.Module):
    r"""A sine network of the time, scaled to (-1, 1) over a span.

    Args:
        span: the first and the last time.
        width: units of each hidden layer.
        depth: hidden layers.
        outputs: how many numbers it makes.
        frequency: $\omega_0$: lower values favour slower changes.
        size: what its outputs are multiplied by, for them to be small at first.
        key: random key.
        dtype: precision of the weights.

    Raises: InputError as `sine_network`.
    """

    hidden: SineLayers
    head: Dense
    span: Span

    def __init__(
        self,
        span: Span,
        width: int,
        depth: int,
        outputs: int,
        frequency: float,
        size: float,
        key: PRNGKeyArray,
        dtype: jnp.dtype,
    ) -> None:
        self.span = span
        self.hidden, head = sine_network(key, 1, width, depth, outputs, frequency, dtype)
        self.head = Dense(size * head.weight, size * head.bias)

    def __call__(self, time: Scalar | Instant) -> Float[Array, " outputs"]:
        z = self.span.scaled(time).reshape(1, 1).astype(self.head.bias.dtype)
        return self.head(self.hidden(z))[0]
