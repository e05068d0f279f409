r"""Closures that see the neighbourhood: a convolutional network of whole fields."""

import itertools
from collections.abc import Mapping, Sequence
from typing import ClassVar, final

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, DTypeLike, Float, PRNGKeyArray

from impindiff._errors import InputError, as_count
from impindiff._types import Scalar
from impindiff.coefficients import AbstractClosure, Values, as_values, real_precision
from impindiff.grid import Grid
from impindiff.latent._field import AbstractLatent, Proportional, as_function
from impindiff.latent._layers import check_key

Channels = Float[Array, "..."]


@final
class ConvolutionalClosure(AbstractLatent, AbstractClosure):
    r"""An unknown function of whole fields, neighbours included, as a small U-Net.

    Two convolutions at full resolution, then on cells of twice the width and so on for `levels`
    levels, and back up, each level given what the one of its resolution found on the way down. The
    last layer is zero at first, and so is the closure. Along a periodic axis convolutions go
    around; at an end the last cell is repeated. Solid cells have the middle of the input's range.

    As the only term of an equation, `Reaction(ConvolutionalClosure(...))` under `ForwardEuler`, it
    is the purely data-driven recurrent network $u_{n+1} = u_n + \Delta t\,N(u_n)$: it knows no
    equation and conserves nothing.

    Args:
        names: a name for each component; one may be given as it is.
        inputs: fields that it is a function of, and the range in which each is expected.
        num_axes: space dimensions of the grid.
        width: channels at full resolution; twice as many at each level below.
        levels: how often the cells are taken together in pairs along each axis.
        key: random key.
        dtype: as that of `SineField`.

    Shapes: as those of `NeuralClosure`, on a grid whose cells along each axis can be halved
        `levels` times.
    Raises: InputError for no names or inputs, an empty range, sizes that are too small, and, when
        evaluated, a grid of other dimensions or whose cells cannot be halved so often.
    Reference: Ronneberger, Fischer & Brox (2015), arXiv 1505.04597.
    """

    down: tuple["_Block", ...]
    up: tuple["_Block", ...]
    head: "_Convolution"
    names: tuple[str, ...] = eqx.field(static=True)
    arguments: tuple[str, ...] = eqx.field(static=True)
    is_local: ClassVar[bool] = False
    ranges: tuple[tuple[float, float], ...] = eqx.field(static=True)

    def __init__(
        self,
        names: str | Sequence[str],
        inputs: Mapping[str, tuple[float, float]],
        num_axes: int,
        *,
        width: int = 16,
        levels: int = 2,
        key: PRNGKeyArray,
        dtype: DTypeLike | None = None,
    ) -> None:
        self.names, expected = as_function("convolutional closure", names, inputs)
        self.arguments, self.ranges = tuple(expected), tuple(expected.values())
        whose = f"convolutional closure {self.label}"
        num_axes = as_count(num_axes, f"the number of axes of {whose}", 1)
        width = as_count(width, f"the width of {whose}", 1)
        levels = as_count(levels, f"the number of levels of {whose}", 0)
        check_key(key, whose)
        precision = real_precision(dtype)
        widths = [width * 2**level for level in range(levels + 1)]
        keys = iter(jax.random.split(key, 2 * len(widths)))
        before = [len(inputs), *widths]
        self.down = tuple(
            _Block.draw(a, b, num_axes, next(keys)) for a, b in zip(before, widths, strict=False)
        )
        self.up = tuple(
            _Block.draw(a + b, a, num_axes, next(keys))
            for a, b in zip(widths[-2::-1], widths[:0:-1], strict=True)
        )
        head = _Convolution.draw(width, len(self.names), num_axes, next(keys), size=1)
        self.head = jax.tree.map(jnp.zeros_like, head)
        # Drawn in single precision whatever it is kept in, so that a key gives the same network.
        self.down, self.up, self.head = jax.tree.map(
            lambda leaf: leaf.astype(precision), (self.down, self.up, self.head)
        )

    @property
    def input_ranges(self) -> dict[str, tuple[float, float]]:
        """See `AbstractLatent.input_ranges`."""
        return dict(zip(self.arguments, self.ranges, strict=True))

    @property
    def in_unit_of_values(self) -> tuple[Proportional, ...]:
        """See `AbstractLatent.in_unit_of_values`."""
        return Proportional(self.head.weight, axis=0), Proportional(self.head.bias, axis=0)

    @property
    def is_steady(self) -> bool:
        """See `AbstractCoefficient.is_steady`."""
        return True

    def evaluate(
        self, grid: Grid | None, time: Scalar | None = None, values: Values | None = None
    ) -> Array:
        """See `AbstractClosure.evaluate`."""
        known: Values = {} if values is None else values
        shape, levels = () if grid is None else grid.shape, len(self.up)
        if grid is None or len(shape) != self.head.weight.ndim - 2:
            raise InputError(
                f"convolutional closure {self.label} has num_axes={self.head.weight.ndim - 2}, but "
                f"the system's grid has {len(shape)}: give num_axes={len(shape) or 1} on a grid."
            )
        if any(cells % 2**levels for cells in shape):
            raise InputError(
                f"convolutional closure {self.label} halves the cells along each axis {levels} "
                f"times, which {shape} cannot be: take fewer levels, or other numbers of cells."
            )
        around = tuple(axis.periodic for axis in grid.axes)
        scaled = [
            jnp.broadcast_to((known[name] - (low + high) / 2) / ((high - low) / 2), shape)
            for name, (low, high) in zip(self.arguments, self.ranges, strict=True)
        ]
        z, kept = jnp.stack(scaled), []
        if grid.solid is not None:
            # What stands there stands for nothing, and must not be seen from the cells beside it.
            z = jnp.where(grid.solid, 0, z)
        for number, block in enumerate(self.down):
            if number:
                kept.append(z)
                z = _halved(z)
            z = block(z, around)
        for block, beside in zip(self.up, reversed(kept), strict=True):
            z = block(jnp.concatenate([beside, _doubled(z)]), around)
        value = self.head(z, around)
        return as_values(value[0] if len(self.names) == 1 else value, self.label, grid)


class _Convolution(eqx.Module):
    """A convolution that keeps the number of cells."""

    weight: Float[Array, "outputs inputs *kernel"]
    bias: Float[Array, " outputs"]

    @classmethod
    def draw(
        cls, inputs: int, outputs: int, num_axes: int, key: PRNGKeyArray, size: int = 3
    ) -> "_Convolution":
        """With He's spread: activations keep theirs through layers."""
        spread = (2 / (inputs * size**num_axes)) ** 0.5
        shape = (outputs, inputs, *[size] * num_axes)
        return cls(
            spread * jax.random.normal(key, shape, jnp.float32), jnp.zeros(outputs, jnp.float32)
        )

    def __call__(self, z: Channels, around: tuple[bool, ...]) -> Channels:
        size, cells = self.weight.shape[-1], z.shape[1:]
        reach = size // 2
        for axis, periodic in enumerate(around, start=1):
            widths = [(reach, reach) if k == axis else (0, 0) for k in range(z.ndim)]
            z = jnp.pad(z, widths, mode="wrap" if periodic else "edge")
        # What a kernel sees, side by side, times one matrix: on CPUs ten times as fast as the
        # convolution of a batch, above all backwards.
        corners = itertools.product(range(size), repeat=len(cells))
        seen = jnp.concatenate(
            [z[(slice(None), *map(slice, at, np.add(at, cells)))] for at in corners]
        )
        outputs = self.weight.shape[0]
        matrix = jnp.moveaxis(self.weight, 1, -1).reshape(outputs, -1).astype(z.dtype)
        found = matrix @ seen.reshape(matrix.shape[1], -1)
        return found.reshape(outputs, *cells) + self.bias.reshape(-1, *[1] * len(cells))


class _Block(eqx.Module):
    """Two convolutions, each with its activation."""

    first: _Convolution
    second: _Convolution

    @classmethod
    def draw(cls, inputs: int, outputs: int, num_axes: int, key: PRNGKeyArray) -> "_Block":
        keys = jax.random.split(key)
        return cls(
            _Convolution.draw(inputs, outputs, num_axes, keys[0]),
            _Convolution.draw(outputs, outputs, num_axes, keys[1]),
        )

    def __call__(self, z: Channels, around: tuple[bool, ...]) -> Channels:
        return jax.nn.gelu(self.second(jax.nn.gelu(self.first(z, around)), around))


def _halved(z: Channels) -> Channels:
    """Means over pairs of cells along each axis."""
    for axis in range(1, z.ndim):
        pairs = z.reshape(*z.shape[:axis], z.shape[axis] // 2, 2, *z.shape[axis + 1 :])
        z = pairs.mean(axis=axis + 1)
    return z


def _doubled(z: Channels) -> Channels:
    """Each cell's value in the two that it was taken together from."""
    for axis in range(1, z.ndim):
        z = jnp.repeat(z, 2, axis=axis)
    return z
