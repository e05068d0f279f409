r"""Closures that are learned: a small network of the local state."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, final

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, DTypeLike, Float, PRNGKeyArray

from impindiff._errors import InputError, as_count
from impindiff._types import Scalar
from impindiff.coefficients import AbstractClosure, HeldFunction, Values, as_values, real_precision
from impindiff.grid import Grid
from impindiff.latent._each_cell import in_each_cell
from impindiff.latent._field import AbstractLatent, Proportional, as_function
from impindiff.latent._interval import Interval
from impindiff.latent._layers import Dense, check_key, draw

_ANY = (-float("inf"), float("inf"))


@final
class NeuralClosure(AbstractLatent, AbstractClosure):
    r"""An unknown function of the state, the same in every cell: $c = g(s_0 + N(\hat u))$.

    $\hat u$ are the inputs scaled to $[-1, 1]$, $N$ a network that is zero at first, and $g$ keeps
    the value inside its bounds as that of `Parameter` does; $g(s_0)$ is the value it starts at.

    Args:
        names: a name for each component; one may be given as it is.
        inputs: what it is a function of, and the range in which each is expected:
            `{"porosity": (0.0, 1.0)}`. Fields, axes, `t` or named coefficients. Outside of the
            ranges it is extrapolated, by an activation that levels off.
        initial: the value it starts at, everywhere; the middle of the bounds by default.
        bounds: $(a, b)$, $(0, \infty)$ for a positive quantity, or none.
        width: units of each hidden layer, of hyperbolic tangents.
        depth: hidden layers.
        network: instead of these layers, any equinox module from the vector of scaled inputs to the
            vector of $N$, for one cell. Without bounds it learns values near 1: write their unit as
            a factor, `lambda r: 1e-6 * r`. It is differentiated in forward mode, too, which
            functions with a `jax.custom_vjp` of their own do not allow.
        key: random key for the layers.
        dtype: precision of the layers; JAX's default where None. A network of your own keeps its.

    Raises: InputError for no names or inputs, an empty range, an initial value outside the bounds,
        and for neither a key nor a network, or both.
    """

    held: HeldFunction
    names: tuple[str, ...] = eqx.field(static=True)
    arguments: tuple[str, ...] = eqx.field(static=True)
    ranges: tuple[tuple[float, float], ...] = eqx.field(static=True)
    interval: Interval = eqx.field(static=True)
    start: float = eqx.field(static=True)

    def __init__(
        self,
        names: str | Sequence[str],
        inputs: Mapping[str, tuple[float, float]],
        *,
        initial: float | None = None,
        bounds: tuple[float, float] = _ANY,
        width: int = 16,
        depth: int = 2,
        network: Callable[..., Any] | None = None,
        key: PRNGKeyArray | None = None,
        dtype: DTypeLike | None = None,
    ) -> None:
        self.names, expected = as_function("neural closure", names, inputs)
        self.arguments, self.ranges = tuple(expected), tuple(expected.values())
        whose = f"neural closure {self.label}"
        self.interval = Interval(bounds, whose)
        first = self.interval.middle if initial is None else initial
        self.start = float(self.interval.raw(first, whose))
        if (key is None) == (network is None):
            raise InputError(f"{whose}: give either a random key, or a network.")
        if key is not None:
            check_key(key, whose)
            width = as_count(width, f"the width of {whose}", 1)
            depth = as_count(depth, f"the depth of {whose}", 1)
            sizes = (len(inputs), *[width] * depth, len(self.names))
            self.held = HeldFunction(_Layers.of(sizes, key, real_precision(dtype)))
        elif network is not None:
            self.held = HeldFunction(_EachCell(network))

    @property
    def input_ranges(self) -> dict[str, tuple[float, float]]:
        """See `AbstractLatent.input_ranges`."""
        return dict(zip(self.arguments, self.ranges, strict=True))

    @property
    def in_unit_of_values(self) -> tuple[Proportional, ...]:
        """See `AbstractLatent.in_unit_of_values`: the last layer, except of a given network."""
        layers = self.held.function
        if not self.interval.is_unbounded or not isinstance(layers, _Layers):
            return ()
        head = layers.layers[-1]
        return Proportional(head.weight, axis=1), Proportional(head.bias, axis=0)

    @property
    def lower_bound(self) -> float:
        """See `AbstractLatent.lower_bound`."""
        return self.interval.lower

    @property
    def is_steady(self) -> bool:
        """See `AbstractCoefficient.is_steady`."""
        return "t" not in self.arguments

    def evaluate(
        self, grid: Grid | None, time: Scalar | None = None, values: Values | None = None
    ) -> Array:
        """See `AbstractClosure.evaluate`."""
        known: Values = {} if values is None else values
        # The middle goes first, in which times that are counted from long ago lose no digit.
        given = [
            (known[name] - (low + high) / 2) / ((high - low) / 2)
            for name, (low, high) in zip(self.arguments, self.ranges, strict=True)
        ]
        inputs = jnp.broadcast_arrays(*map(jnp.asarray, given))
        shape = inputs[0].shape
        scaled = [value.ravel() for value in inputs]
        found = in_each_cell(self.held.function, jnp.stack(scaled, axis=-1))
        if found.shape != (wanted := (scaled[0].size, len(self.names))):
            raise InputError(
                f"the network of {self.label} returns the shape {found.shape[1:]} for each cell: "
                f"it must return a vector, a component for each name: {wanted[1:]}."
            )
        value = self.interval.inside(self.start + found)
        value = value.T.reshape(len(self.names), *shape)
        return as_values(value[0] if len(self.names) == 1 else value, self.label, grid)


class _Layers(eqx.Module):
    """Layers of hyperbolic tangents; the last is linear, and zero at first."""

    layers: tuple[Dense, ...]

    @classmethod
    def of(cls, sizes: tuple[int, ...], key: PRNGKeyArray, dtype: jnp.dtype) -> "_Layers":
        # Glorot's bounds: activations keep their spread through layers.
        bounds = tuple((6 / (a + b)) ** 0.5 for a, b in zip(sizes, sizes[1:], strict=False))
        *hidden, head = draw(key, sizes, bounds, dtype)
        return cls((*hidden, jax.tree.map(jnp.zeros_like, head)))

    def __call__(self, x: Float[Array, "cells inputs"]) -> Float[Array, "cells outputs"]:
        *hidden, head = self.layers
        for layer in hidden:
            x = jnp.tanh(layer(x))
        return head(x)


class _EachCell(eqx.Module):
    """A network for one cell, applied to each."""

    network: Callable[..., Any]

    def __call__(self, x: Float[Array, "cells inputs"]) -> Array:
        found = jax.vmap(self.network)(x)
        if not isinstance(found, jax.Array):
            raise InputError(
                f"the network returns {type(found).__name__} for each cell: it must return a "
                "vector, an array with a component for each name."
            )
        # Of whole numbers there is no derivative, not even zero.
        return found if jnp.issubdtype(found.dtype, jnp.inexact) else found.astype(x.dtype)
