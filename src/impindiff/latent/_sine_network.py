"""The sine network that neural fields are made of."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, final

import equinox as eqx
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, PRNGKeyArray

from impindiff._errors import InputError, as_count, as_number, warn_caller
from impindiff.latent._layers import Dense, check_key, draw


@final
@dataclass(frozen=True)
class Layers:
    r"""The hidden layers of a sine network. What is None is left to the field.

    Args:
        width: units of each hidden layer.
        depth: hidden layers.
        frequency: $\omega_0$, the same for every layer. Higher values favour finer fields, or
            faster ones.
    """

    width: int | None = None
    depth: int | None = None
    frequency: float | None = None

    def over(self, width: int, depth: int, frequency: float) -> tuple[int, int, float]:
        """Width, depth and frequency, with these where they are left open."""
        return (
            width if self.width is None else self.width,
            depth if self.depth is None else self.depth,
            frequency if self.frequency is None else self.frequency,
        )


# Keywords of version 0.1.0: which of the two networks they are of, and what they are there.
_EARLIER = {
    **{name: (0, name) for name in ("width", "depth", "frequency")},
    **{f"time_{name}": (1, name) for name in ("width", "depth", "frequency")},
}


def stated_layers(
    layers: Layers, time_layers: Layers, earlier: Mapping[str, Any], whose: str
) -> tuple[Layers, Layers]:
    """The layers of the networks of position and time, with what earlier keywords say of them.

    Warns: DeprecationWarning that says how it is written today.
    Raises: InputError for other keywords.
    """
    stated = [layers, time_layers]
    for keyword, value in earlier.items():
        if keyword not in _EARLIER:
            raise InputError(
                f"{whose} has no argument {keyword!r}: the sizes of its networks are given by "
                "layers=Layers(width, depth, frequency), and time_layers likewise."
            )
        number, name = _EARLIER[keyword]
        stated[number] = replace(stated[number], **{name: value})
        argument = ("layers", "time_layers")[number]
        warn_caller(
            f"{whose}({keyword}={value}) is {argument}=Layers({name}={value}) now.",
            DeprecationWarning,
        )
    return stated[0], stated[1]


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


def check_drawn(num_axes: Any, key: Any, names: Sequence[str]) -> None:
    """Refuse a number of axes that no grid has, and what is no random key.

    Raises: InputError.
    """
    whose = f"the neural field {', '.join(names)}"
    if as_count(num_axes, f"the number of axes of {whose}", 1) > 3:
        raise InputError(f"{whose} has {num_axes} axes: a grid has 1, 2 or 3.")
    check_key(key, whose)


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
    width = as_count(width, "the width of a neural field", 1)
    depth = as_count(depth, "the depth of a neural field", 1)
    if not 0 < as_number(frequency, "the frequency of a neural field") < np.inf:
        raise InputError(
            f"the frequency of a neural field is {frequency}: it must be positive and finite."
        )
    sizes = (inputs, *[width] * depth, outputs)
    # The bounds of Sitzmann et al., section 3.2: activations keep their spread through layers.
    bounds = (1 / inputs, *[float(np.sqrt(6 / width)) / frequency] * depth)
    *hidden, head = draw(key, sizes, bounds, dtype)
    return SineLayers(tuple(hidden), float(frequency)), head
