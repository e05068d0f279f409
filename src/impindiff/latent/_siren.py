r"""A neural field with sine activations, periodic where its grid is.

Coordinates enter as $\sin$ and $\cos$ of one turn along each periodic axis, so that the field and
all its derivatives match across the boundary whatever the weights: what is known of the domain is
not left to be learned. Along an axis that has ends they enter as those of half a turn, from a
quarter before to a quarter after the middle: a scaled position on which the two ends are as far
apart as can be, in as many numbers, so that one network serves either kind of axis.
"""

from typing import final

import equinox as eqx
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, PRNGKeyArray

from impindiff._errors import InputError
from impindiff._types import Scalar
from impindiff.grid import Grid
from impindiff.latent._field import AbstractLatent
from impindiff.latent._layers import Dense, draw


@final
class SineField(AbstractLatent):
    r"""A steady field of one or more components as a sine-activated network (SIREN).

    $z_0 = (\sin\phi_a, \cos\phi_a)_a$ with $\phi_a$ one turn along a periodic axis $a$, half a turn
    along any other;
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
    Raises: InputError for an empty range, no names, sizes under 1, or a grid of other dimensions.
    Reference: Sitzmann et al. (2020), arXiv 2006.09661; arXiv 2504.02260, section 3.
    """

    hidden: tuple[Dense, ...]
    head: Dense
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
                "a neural field needs num_axes, width, depth >= 1 and frequency > 0; found "
                f"num_axes={num_axes}, width={width}, depth={depth}, frequency={frequency}."
            )
        if not 0 < high - low < np.inf:
            raise InputError(
                f"the output range is ({low}, {high}): give finite (low, high) with high > low."
            )
        sizes = (2 * num_axes, *[width] * depth, len(names))
        # The bounds of Sitzmann et al., section 3.2: activations keep their spread through layers.
        bounds = (1 / sizes[0], *[float(np.sqrt(6 / width)) / frequency] * depth)
        *hidden, self.head = draw(key, sizes, bounds)
        self.hidden = tuple(hidden)
        self.midpoint = jnp.full(len(names), (low + high) / 2, jnp.float32)
        self.half_width = jnp.full(len(names), (high - low) / 2, jnp.float32)
        self.names = tuple(names)
        self.frequency = float(frequency)

    @property
    def is_steady(self) -> bool:
        """See `AbstractCoefficient.is_steady`."""
        return True

    def evaluate(self, grid: Grid | None, time: Scalar | None = None) -> Float[Array, "..."]:
        """See `AbstractCoefficient.evaluate`."""
        num_axes = self.hidden[0].weight.shape[0] // 2
        if grid is None:
            raise InputError(
                f"the neural field {self.names} is a field on a grid, and the system has none: use "
                "a Parameter, or a NeuralClosure of the state."
            )
        if num_axes != grid.num_axes:
            raise InputError(
                f"the neural field {self.names} has num_axes={num_axes}, but the grid has "
                f"{grid.num_axes}: give num_axes={grid.num_axes}."
            )
        z = jnp.asarray(_turns(grid), self.midpoint.dtype)
        for layer in self.hidden:
            z = jnp.sin(self.frequency * layer(z))
        value = self.midpoint + self.half_width * self.head(z)
        value = value.T.reshape(len(self.names), *grid.shape)
        return value[0] if len(self.names) == 1 else value


def _turns(grid: Grid) -> np.ndarray:
    """Sine and cosine of the turn along each axis, shape `(num_cells, 2 * num_axes)`."""
    waves = []
    for axis, centres in zip(grid.axes, grid.centres(), strict=True):
        along = (centres.ravel() - axis.lower) / axis.length
        angle = 2 * np.pi * along if axis.periodic else np.pi * (along - 0.5)
        waves += [np.sin(angle), np.cos(angle)]
    return np.stack(waves, axis=-1)
