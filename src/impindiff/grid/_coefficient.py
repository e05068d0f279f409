"""What stands for numbers in an equation until it is known where and when they are wanted."""

import abc
from collections.abc import Callable
from typing import Any, final

import equinox as eqx
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array

from impindiff._types import Scalar
from impindiff.grid._grid import Grid


class AbstractCoefficient(eqx.Module):
    """A coefficient that has to be evaluated.

    Before anything is computed each is replaced by its values, so that equations see numbers and
    arrays and cannot tell where they came from.
    """

    @property
    @abc.abstractmethod
    def is_steady(self) -> bool:
        """Whether it is the same at all times, and so evaluated once for a whole rollout."""

    @abc.abstractmethod
    def evaluate(self, grid: Grid | None, time: Scalar | None = None) -> Any:
        """Values at the cell centres: of the grid's shape, or with components along a leading axis.

        Args:
            grid: where; None in a system without.
            time: when; None is for steady ones.
        """


@final
class Function(AbstractCoefficient):
    """A formula in time and position, `f(t, x)`, `f(t, x, y)` or `f(t, x, y, z)`.

    Args:
        function: takes the time and, for each axis, an array of positions, and returns an array of
            their shape or a number; a tuple of those for several components. It must be written
            with `jax.numpy`, for time is traced.

    Taken to vary in time: it is evaluated at the times of every step. What does not vary costs less
    as an array, `f(0.0, *grid.centres())`.
    """

    function: Callable[..., Any] = eqx.field(static=True)

    @property
    def is_steady(self) -> bool:
        """See `AbstractCoefficient.is_steady`."""
        return False

    def evaluate(self, grid: Grid, time: Scalar | None = None) -> Array:
        """See `AbstractCoefficient.evaluate`."""
        return self.at(time, grid.centres())

    def at(self, time: Scalar | None, positions: tuple[np.ndarray, ...]) -> Array:
        """Values anywhere; several components along a leading axis."""
        value = self.function(time, *(jnp.asarray(position) for position in positions))
        if isinstance(value, tuple | list):
            value = jnp.stack([jnp.broadcast_to(part, positions[0].shape) for part in value])
        return jnp.asarray(value)


def as_coefficient(value: Any) -> Any:
    """What a user gave for a coefficient: a plain function becomes a `Function`."""
    if callable(value) and not isinstance(value, eqx.Module | type):
        return Function(value)
    return value


def is_coefficient(node: object) -> bool:
    """Whether a node of a PyTree has to be evaluated."""
    return isinstance(node, AbstractCoefficient)
