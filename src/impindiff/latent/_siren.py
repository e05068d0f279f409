r"""A neural field with sine activations, periodic where its grid is.

Coordinates enter as $\sin$ and $\cos$ of one turn along each periodic axis, so that the field and
all its derivatives match across the boundary whatever the weights: what is known of the domain is
not left to be learned.
"""

from typing import final

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, PRNGKeyArray

from impindiff._errors import InputError
from impindiff._types import Scalar
from impindiff.grid import Grid
from impindiff.latent._field import AbstractLatent


class _Dense(eqx.Module):
    weight: Float[Array, "inputs outputs"]
    bias: Float[Array, " outputs"]

    def __init__(self, num_inputs: int, num_outputs: int, bound: float, key: PRNGKeyArray) -> None:
        for_weight, for_bias = jax.random.split(key)
        shape, spread = (num_inputs, num_outputs), num_inputs**-0.5
        self.weight = jax.random.uniform(for_weight, shape, jnp.float32, -bound, bound)
        self.bias = jax.random.uniform(for_bias, (num_outputs,), jnp.float32, -spread, spread)

    def __call__(self, x: Float[Array, "cells inputs"]) -> Float[Array, "cells outputs"]:
        return x @ self.weight + self.bias


@final
class SineField(AbstractLatent):
    r"""A steady field of one or more components as a sine-activated network (SIREN).

    $z_0 = (\sin\phi_a, \cos\phi_a)_a$ with $\phi_a$ one turn along axis $a$;
    $z_{k+1} = \sin(\omega_0 (W_k z_k + b_k))$; the value is $m + r\,(W z + b)$ with the midpoint
    $m$ and half-width $r$ of the output range, both learned, one for each component.

    Args:
        num_axes: space dimensions of the grid.
        names: a name for each component.
        width: units of each hidden layer.
        depth: hidden layers.
        frequency: $\omega_0$, the same for every layer. Higher values favour finer fields.
        output_range: interval that the initial field is scaled to; a start, not a bound.
        key: random key.

    Shapes: `evaluate` gives `(len(names), *grid.shape)`, or the grid's shape for a single name.
    Raises: InputError for an empty range, no names, or sizes under 1.
    Reference: Sitzmann et al. (2020), arXiv 2006.09661; arXiv 2504.02260, section 3.
    """

    hidden: tuple[_Dense, ...]
    head: _Dense
    midpoint: Float[Array, " outputs"]
    half_width: Float[Array, " outputs"]
    names: tuple[str, ...] = eqx.field(static=True)
    frequency: float = eqx.field(static=True)

    def __init__(
        self,
        num_axes: int,
        names: tuple[str, ...],
        *,
        width: int = 64,
        depth: int = 3,
        frequency: float = 6.0,
        output_range: tuple[float, float] = (0.0, 1.0),
        key: PRNGKeyArray,
    ) -> None:
        low, high = output_range
        if not names or len(set(names)) != len(names):
            raise InputError(
                f"a neural field needs a name of its own for each component, found {names}."
            )
        if min(num_axes, width, depth) < 1 or frequency <= 0:
            raise InputError(
                f"a neural field needs width, depth >= 1 and frequency > 0; found width={width}, "
                f"depth={depth}, "
                f"frequency={frequency}."
            )
        if not high > low:
            raise InputError(
                f"the output range ({low}, {high}) is empty: give (low, high) with high > low."
            )
        keys = jax.random.split(key, depth + 1)
        sizes = [2 * num_axes] + [width] * depth
        # The bounds of Sitzmann et al., section 3.2: activations keep their spread through the
        # layers.
        bounds = [1 / sizes[0]] + [float(np.sqrt(6 / width)) / frequency] * depth
        self.hidden = tuple(
            _Dense(*pair, bound, k)
            for pair, bound, k in zip(
                zip(sizes, sizes[1:], strict=False), bounds, keys, strict=False
            )
        )
        self.head = _Dense(width, len(names), bounds[-1], keys[-1])
        self.midpoint = jnp.full(len(names), (low + high) / 2, jnp.float32)
        self.half_width = jnp.full(len(names), (high - low) / 2, jnp.float32)
        self.names = tuple(names)
        self.frequency = float(frequency)

    @property
    def is_steady(self) -> bool:
        """See `AbstractLatent.is_steady`."""
        return True

    def evaluate(self, grid: Grid, time: Scalar | None = None) -> Float[Array, "..."]:
        """See `AbstractLatent.evaluate`."""
        z = jnp.asarray(_turns(grid), self.midpoint.dtype)
        for layer in self.hidden:
            z = jnp.sin(self.frequency * layer(z))
        value = self.midpoint + self.half_width * self.head(z)
        value = value.T.reshape(len(self.names), *grid.shape)
        return value[0] if len(self.names) == 1 else value


def _turns(grid: Grid) -> np.ndarray:
    """Sine and cosine of one turn along each axis, shape `(num_cells, 2 * num_axes)`."""
    waves = []
    for axis, centres in zip(grid.axes, grid.centres(), strict=True):
        angle = 2 * np.pi * (centres.ravel() - axis.lower) / axis.length
        waves += [np.sin(angle), np.cos(angle)]
    return np.stack(waves, axis=-1)
