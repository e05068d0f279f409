"""A neural field all of whose weights are a function of the time."""

from collections.abc import Sequence
from typing import Any, final

import equinox as eqx
import jax
import jax.numpy as jnp
from jax.flatten_util import ravel_pytree
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
class HypernetworkField(AbstractField):
    r"""A sine network of the position whose weights come from a network of the time.

    $\theta(t) = \theta_0 + P\,h(t)$ are the weights and biases of all layers: $\theta_0$ as those
    of a `SineField` are drawn, $h$ the few outputs of a sine network of the time, $P$ a matrix that
    is small at first. The paper's field for unknowns that vary in time.

    It has by far the most weights, and is evaluated anew at each time, network and all.

    Args:
        num_axes: space dimensions of the grid.
        names: a name for each component.
        span: first and last time (or date) it is wanted for, forecasts included.
        layers: of the network of the position; `Layers(64, 2, 6.0)` where left open.
        time_layers: of the network of the time, which is scaled to (-1, 1) over the span;
            `Layers(16, 2, 1.0)` where left open.
        rank: outputs of the network of the time, $h$.
        output_range: as that of `SineField`.
        bounds: as those of `SineField`.
        key: random key.
        dtype: as that of `SineField`.

    Raises: InputError as `SineField`, and for a span that is not two increasing times.
    Reference: arXiv 2504.02260, section 2; Ha et al. (2016), arXiv 1609.09106.
    """

    hidden: SineLayers
    head: Dense
    network: TimeNetwork
    projection: Float[Array, "rank weights"]
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
        rank: int = 10,
        output_range: Ranges | None = None,
        bounds: Bounds | None = None,
        key: PRNGKeyArray,
        dtype: DTypeLike | None = None,
        **earlier: Any,
    ) -> None:
        layers, time_layers = stated_layers(layers, time_layers, earlier, "HypernetworkField")
        self.output = Output(names, output_range, bounds, dtype)
        self.names, self.num_axes = self.output.names, num_axes
        check_drawn(num_axes, key, self.names)
        times, precision = Span(span, self.names), self.output.dtype
        for_space, for_time, for_projection = jax.random.split(key, 3)
        width, depth, frequency = layers.over(64, 2, 6.0)
        sizes = 2 * num_axes, width, depth, len(self.names), frequency, precision
        self.hidden, self.head = sine_network(for_space, *sizes)
        time_width, time_depth, time_frequency = time_layers.over(16, 2, 1.0)
        sizes = time_width, time_depth, rank, time_frequency
        self.network = TimeNetwork(times, *sizes, 1.0, for_time, precision)
        weights, _ = ravel_pytree((self.hidden, self.head))
        # A tenth of each weight's own size: the field is nearly steady at first.
        drawn = jax.random.uniform(for_projection, (rank, weights.size), jnp.float32, -1, 1)
        self.projection = 0.1 * jnp.abs(weights) * drawn.astype(precision)

    @property
    def is_steady(self) -> bool:
        """See `AbstractCoefficient.is_steady`."""
        return False

    @property
    def time_span(self) -> tuple[float, float]:
        """See `AbstractLatent.time_span`."""
        return self.network.span.ends

    @property
    def takes_instants(self) -> bool:
        """See `AbstractCoefficient.takes_instants`: its span says what to count from."""
        return True

    def evaluate(
        self, grid: Grid | None, time: Scalar | Instant | None = None
    ) -> Float[Array, "..."]:
        """See `AbstractCoefficient.evaluate`."""
        grid = on_grid(grid, self.num_axes, self.names)
        weights, unravel = ravel_pytree((self.hidden, self.head))
        change = self.network(given_time(time, self.names)) @ self.projection
        hidden, head = unravel(weights + change)
        z = jnp.asarray(turns(grid), self.output.dtype)
        return self.output(head(hidden(z)).T, grid.shape)
