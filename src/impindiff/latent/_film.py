"""A neural field of which every layer is scaled and shifted by the time."""

from collections.abc import Sequence
from typing import Any, final

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, DTypeLike, Float, PRNGKeyArray

from impindiff._types import Scalar
from impindiff.coefficients import Instant
from impindiff.grid import Grid
from impindiff.latent._coordinates import Span, Times, given_time, on_grid, turns
from impindiff.latent._layers import Dense
from impindiff.latent._output import AbstractField, Bounds, Output, Ranges
from impindiff.latent._sine_network import (
    Layers,
    SineLayers,
    check_drawn,
    sine_network,
    stated_layers,
)
from impindiff.latent._time_network import TimeNetwork


@final
class FilmField(AbstractField):
    r"""A sine network of the position whose layers are modulated by the time (FiLM).

    $z_{k+1} = \sin\bigl(\omega_0\,[(1 + \gamma_k(t)) \odot W_k z_k + b_k + \beta_k(t)]\bigr)$;
    the scales $\gamma$ and shifts $\beta$ of all layers are one sine network of the time, small at
    first; the head is scaled and bounded as that of `SineField`.

    The whole network of the position is evaluated at each time: in place of `SeparableField` where
    shapes themselves change, such as fronts that move.

    Args:
        num_axes: space dimensions of the grid.
        names: a name for each component.
        span: first and last time (or date) it is wanted for, forecasts included.
        layers: of the network of the position; `Layers(64, 2, 6.0)` where left open.
        time_layers: of the network of the time, which is scaled to (-1, 1) over the span;
            `Layers(16, 1, 1.0)` where left open.
        output_range: as that of `SineField`.
        bounds: as those of `SineField`.
        key: random key.
        dtype: as that of `SineField`.

    Raises: InputError as `SineField`, and for a span that is not two increasing times.
    Reference: Perez et al. (2018), arXiv 1709.07871.
    """

    hidden: SineLayers
    head: Dense
    modulation: TimeNetwork
    output: Output
    names: tuple[str, ...] = eqx.field(static=True)
    num_axes: int = eqx.field(static=True)

    def __init__(
        self,
        num_axes: int,
        names: Sequence[str],
        span: Times,
        *,
        layers: Layers = Layers(),
        time_layers: Layers = Layers(),
        output_range: Ranges | None = None,
        bounds: Bounds | None = None,
        key: PRNGKeyArray,
        dtype: DTypeLike | None = None,
        **earlier: Any,
    ) -> None:
        layers, time_layers = stated_layers(layers, time_layers, earlier, "FilmField")
        self.output = Output(names, output_range, bounds, dtype)
        self.names, self.num_axes = self.output.names, num_axes
        check_drawn(num_axes, key, self.names)
        times, precision = Span(span, self.names), self.output.dtype
        for_space, for_time = jax.random.split(key)
        width, depth, frequency = layers.over(64, 2, 6.0)
        sizes = 2 * num_axes, width, depth, len(self.names), frequency, precision
        self.hidden, self.head = sine_network(for_space, *sizes)
        time_width, time_depth, time_frequency = time_layers.over(16, 1, 1.0)
        sizes = time_width, time_depth, 2 * depth * width, time_frequency
        # A tenth of what a head is drawn with: the field is nearly steady at first.
        self.modulation = TimeNetwork(times, *sizes, 0.1, for_time, precision)

    @property
    def is_steady(self) -> bool:
        """See `AbstractCoefficient.is_steady`."""
        return False

    @property
    def time_span(self) -> tuple[float, float]:
        """See `AbstractLatent.time_span`."""
        return self.modulation.span.ends

    @property
    def takes_instants(self) -> bool:
        """See `AbstractCoefficient.takes_instants`: its span says what to count from."""
        return True

    def evaluate(
        self, grid: Grid | None, time: Scalar | Instant | None = None
    ) -> Float[Array, "..."]:
        """See `AbstractCoefficient.evaluate`."""
        grid = on_grid(grid, self.num_axes, self.names)
        depth, frequency = len(self.hidden.layers), self.hidden.frequency
        modulation = self.modulation(given_time(time, self.names)).reshape(depth, 2, -1)
        z = jnp.asarray(turns(grid), self.output.dtype)
        for layer, (scale, shift) in zip(self.hidden.layers, modulation, strict=True):
            # On the few weights, not on what they make of every cell.
            modulated = Dense(layer.weight * (1 + scale), layer.bias + shift)
            z = jnp.sin(frequency * modulated(z))
        return self.output(self.head(z).T, grid.shape)
