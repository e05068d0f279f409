"""What stands for numbers in an equation until it is known where and when they are wanted."""

import abc
import inspect
from collections.abc import Callable
from typing import Any, TypeVar, final

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array

from impindiff._errors import InputError
from impindiff._types import Scalar
from impindiff.grid._grid import Grid

T = TypeVar("T")


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
    def evaluate(self, grid: Grid, time: Scalar | None = None) -> Any:
        """Values at the cell centres: of the grid's shape, or with components along a leading axis.

        Args:
            grid: where.
            time: when; None is for steady ones.
        """


@final
class Function(AbstractCoefficient):
    """A known formula in time and position, such as `lambda t, x: jnp.sin(x - t)`.

    Args:
        function: its parameters name what it is given: the time `t`, and axes of the grid, whose
            coordinates come as arrays. It returns an array of their shape or a number; a tuple of
            those for several components. It must be written with `jax.numpy`, for it is traced.
            `*x` stands for all axes in order; parameters with a default keep it.

    Without `t` among them it is steady, and evaluated once.
    Raises: InputError for a function whose parameters cannot be read, and, when evaluated, for a
        name that is neither `t` nor an axis.
    """

    function: Callable[..., Any] = eqx.field(static=True)
    arguments: tuple[str, ...] = eqx.field(static=True)

    def __init__(self, function: Callable[..., Any]) -> None:
        try:
            given = inspect.signature(function).parameters.values()
        except (TypeError, ValueError) as error:
            raise InputError(
                f"the parameters of {function!r} cannot be read: wrap it, as in lambda t, x: "
                "function(t, x)."
            ) from error
        wanted = [p for p in given if p.default is p.empty and p.kind is not p.VAR_KEYWORD]
        self.function = function
        self.arguments = tuple("*" * (p.kind is p.VAR_POSITIONAL) + p.name for p in wanted)

    @property
    def is_steady(self) -> bool:
        """See `AbstractCoefficient.is_steady`."""
        return "t" not in self.arguments

    def evaluate(self, grid: Grid, time: Scalar | None = None) -> Array:
        """See `AbstractCoefficient.evaluate`."""
        return self.at(time, dict(zip(grid.names, grid.centres(), strict=True)))

    def at(self, time: Scalar | None, positions: dict[str, np.ndarray]) -> Array:
        """Values anywhere, at positions named by axis; several components along a leading axis."""
        placed = {name: jnp.asarray(position) for name, position in positions.items()}
        known, values = {"t": time, **placed}, []
        for name in self.arguments:
            if name.startswith("*"):
                values += placed.values()
            elif name in known:
                values.append(known[name])
            else:
                raise InputError(
                    f"a function of ({', '.join(self.arguments)}) asks for {name!r}: it may be "
                    f"given {', '.join(map(repr, known))}."
                )
        value = self.function(*values)
        if isinstance(value, tuple | list):
            shape = next(iter(placed.values())).shape
            value = jnp.stack([jnp.broadcast_to(part, shape) for part in value])
        return jnp.asarray(value)


def as_coefficients(tree: T) -> T:
    """What a user gave for coefficients: plain functions become `Function`s."""

    def convert(node: Any) -> Any:
        if isinstance(node, eqx.Module | type) or not callable(node):
            return node
        return Function(node)

    return jax.tree.map(convert, tree, is_leaf=is_coefficient)


def is_coefficient(node: object) -> bool:
    """Whether a node of a PyTree has to be evaluated."""
    return isinstance(node, AbstractCoefficient)
