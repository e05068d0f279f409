"""A neural field whose shapes are fixed and whose amplitudes vary in time."""

from collections.abc import Sequence
from typing import Any, final

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, DTypeLike, Float, PRNGKeyArray

from impindiff._types import Scalar
from impindiff.coefficients import Instant
from impindiff.grid import Grid
from impindiff.latent._coordinates import Span, Times, on_grid, turns
from impindiff.latent._output import AbstractField, Bounds, Output, Ranges
from impindiff.latent._series import AbstractAmplitudes, Series
from impindiff.latent._sine_network import (
    Layers,
    SineLayers,
    check_drawn,
    sine_network,
    stated_layers,
)
from impindiff.latent._time_network import TimeNetwork


@final
class SeparableField(AbstractField):
    r"""A field of time and space as a sum of products: $\sum_j a_j(t)\,\varphi_j(\mathbf x)$.

    The shapes $\varphi_j$ are the units of the last hidden layer of a sine network of the position;
    the amplitudes $a_j$, for each component its own, are a sine network of the time. The sum is
    scaled and bounded as the head of a `SineField` is.

    The network of the position is evaluated once for all times, and each time costs a sum: that
    makes it the cheapest neural field that varies in time. Waves that drift are such a sum, for
    $\sin(kx - \omega t) = \sin kx\cos\omega t - \cos kx\sin\omega t$.

    Args:
        num_axes: space dimensions of the grid.
        names: a name for each component.
        span: first and last time (or date) it is wanted for, forecasts included.
        layers: of the network of the position; `Layers(64, 2, 6.0)` where left open. Their width is
            the number of shapes.
        time_layers: of the network of the time, which is scaled to (-1, 1) over the span;
            `Layers(16, 1, 1.0)` where left open. Lower frequencies favour slower fields, which
            forecasts beyond the observed times rest on.
        output_range: as that of `SineField`.
        bounds: as those of `SineField`.
        key: random key.
        dtype: as that of `SineField`.

    Raises: InputError as `SineField`, and for a span that is not two increasing times.
    """

    hidden: SineLayers
    amplitudes: "Amplitudes"
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
        layers, time_layers = stated_layers(layers, time_layers, earlier, "SeparableField")
        self.output = Output(names, output_range, bounds, dtype)
        self.names, self.num_axes = self.output.names, num_axes
        check_drawn(num_axes, key, self.names)
        rows, times = len(self.names), Span(span, self.names)
        precision = self.output.dtype
        for_space, for_time = jax.random.split(key)
        width, depth, frequency = layers.over(64, 2, 6.0)
        self.hidden, _ = sine_network(
            for_space, 2 * num_axes, width, depth, 1, frequency, precision
        )
        # So that the sum's spread at first does not grow with the number of shapes.
        size = width**-0.5
        time_width, time_depth, time_frequency = time_layers.over(16, 1, 1.0)
        sizes = time_width, time_depth, rows * width, time_frequency, size
        self.amplitudes = Amplitudes(TimeNetwork(times, *sizes, for_time, precision), rows)

    @property
    def is_steady(self) -> bool:
        """See `AbstractCoefficient.is_steady`."""
        return False

    @property
    def time_span(self) -> tuple[float, float]:
        """See `AbstractLatent.time_span`."""
        return self.amplitudes.span.ends

    @property
    def takes_instants(self) -> bool:
        """See `AbstractCoefficient.takes_instants`: its span says what to count from."""
        return True

    def prepared(self, grid: Grid | None) -> Series:
        """With the shapes evaluated; see `AbstractCoefficient.prepared`."""
        grid = on_grid(grid, self.num_axes, self.names)
        z = jnp.asarray(turns(grid), self.output.dtype)
        return Series(self.hidden(z).T, self.amplitudes, self.output)

    def evaluate(
        self, grid: Grid | None, time: Scalar | Instant | None = None
    ) -> Float[Array, "..."]:
        """See `AbstractCoefficient.evaluate`."""
        return self.prepared(grid).evaluate(grid, time)


@final
class Amplitudes(AbstractAmplitudes):
    """An amplitude for each shape, in rows."""

    network: TimeNetwork
    rows: int = eqx.field(static=True)

    @property
    def span(self) -> Span:
        """See `AbstractAmplitudes.span`."""
        return self.network.span

    def __call__(self, time: Scalar | Instant) -> Float[Array, "rows shapes"]:
        return self.network(time).reshape(self.rows, -1)
