"""A steady neural field with sine activations, periodic where its grid is."""

from collections.abc import Sequence
from typing import final

import equinox as eqx
import jax.numpy as jnp
from jaxtyping import Array, DTypeLike, Float, PRNGKeyArray

from impindiff._types import Scalar
from impindiff.grid import Grid
from impindiff.latent._coordinates import on_grid, turns
from impindiff.latent._layers import Dense
from impindiff.latent._output import AbstractField, Bounds, Output, Ranges
from impindiff.latent._sine_network import SineLayers, check_drawn, sine_network


@final
class SineField(AbstractField):
    r"""A steady field of one or more components as a sine-activated network (SIREN).

    $z_0 = (\sin\phi_a, \cos\phi_a)_a$ with $\phi_a$ one turn along a periodic axis $a$, half a turn
    along any other;
    $z_{k+1} = \sin(\omega_0 (W_k z_k + b_k))$; the value is $g(m + r\,(W z + b))$ with the midpoint
    $m$ and half-width $r$ of the output range, both learned, one for each component; $g$ keeps it
    inside its bounds as that of `Parameter` does, and is the identity without.

    Args:
        num_axes: space dimensions of the grid.
        names: a name for each component.
        width: units of each hidden layer.
        depth: hidden layers.
        frequency: $\omega_0$, the same for every layer. Higher values favour finer fields.
        output_range: interval that the initial field is scaled to, one for all components or a
            pair for each; a start, not a bound. (0, 1) by default, or the middle of the bounds.
        bounds: $(a, b)$ or $(a, \infty)$, which no value leaves; none by default.
        key: random key.
        dtype: precision of what is learned; JAX's default where None. A key gives the same network
            in any.

    Shapes: `evaluate` gives `(len(names), *grid.shape)`, or the grid's shape for a single name.
    Raises: InputError for an empty range or one outside the bounds, no names, sizes under 1, or,
        when evaluated, a grid of other dimensions.
    Reference: Sitzmann et al. (2020), arXiv 2006.09661; arXiv 2504.02260, section 3.
    """

    hidden: SineLayers
    head: Dense
    output: Output
    names: tuple[str, ...] = eqx.field(static=True)
    num_axes: int = eqx.field(static=True)

    def __init__(
        self,
        num_axes: int,
        names: Sequence[str],
        *,
        width: int = 64,
        depth: int = 3,
        frequency: float = 6.0,
        output_range: Ranges | None = None,
        bounds: Bounds | None = None,
        key: PRNGKeyArray,
        dtype: DTypeLike | None = None,
    ) -> None:
        self.output = Output(names, output_range, bounds, dtype)
        self.names, self.num_axes = self.output.names, num_axes
        check_drawn(num_axes, key, self.names)
        self.hidden, self.head = sine_network(
            key, 2 * num_axes, width, depth, len(self.names), frequency, self.output.dtype
        )

    @property
    def is_steady(self) -> bool:
        """See `AbstractCoefficient.is_steady`."""
        return True

    def evaluate(self, grid: Grid | None, time: Scalar | None = None) -> Float[Array, "..."]:
        """See `AbstractCoefficient.evaluate`."""
        grid = on_grid(grid, self.num_axes, self.names)
        z = jnp.asarray(turns(grid), self.output.dtype)
        return self.output(self.head(self.hidden(z)).T, grid.shape)
