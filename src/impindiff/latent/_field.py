"""Latents: what is learned of the coefficients of equations.

A latent stands where a number or an array of coefficients would stand. Before anything is solved it
is evaluated, and from there on nobody can tell the difference.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, ClassVar, NamedTuple, TypeVar

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, PyTree

from impindiff._errors import InputError, as_names, as_text
from impindiff._types import Scalar
from impindiff.coefficients import AbstractClosure, AbstractCoefficient, Instant, value_at
from impindiff.grid import Grid
from impindiff.latent._interval import Interval

T = TypeVar("T")


class Proportional(NamedTuple):
    """A learned array that the values of a latent are proportional to.

    Attributes:
        array: the learned array.
        axis: of the array, which counts the components; None in a latent of one name.
    """

    array: Array
    axis: int | None = None


class AbstractLatent(AbstractCoefficient):
    """A learned coefficient.

    Attributes:
        names: one name for each component, as in data files (`("advection_x", "advection_y")`).
            A latent of one name has no component axis.
    """

    names: eqx.AbstractVar[tuple[str, ...]]

    is_number: ClassVar[bool] = False
    """Whether it is one number, the same in every cell."""

    @property
    def label(self) -> str:
        """How messages call it: its names, and its arguments if it is a closure."""
        arguments = ", ".join(getattr(self, "arguments", ()))
        return ", ".join(self.names) + (f"({arguments})" if arguments else "")

    @property
    def input_ranges(self) -> Mapping[str, tuple[float, float]]:
        """The range in which each argument is expected; empty where it has none, or any is fine.

        Training refuses data beyond the ranges, and forecasts hold a table over them.
        """
        return {}

    def to_cover(self, first: float, last: float) -> str:
        """What to write, for messages, so that it is wanted from one time to another."""
        return span_to_write(first, last)

    def outside_span(self, first: float, last: float, what: str) -> str:
        """See `AbstractCoefficient.outside_span`."""
        span = self.time_span or (first, last)
        return outside_span_of(self.names, span, (first, last), what, self.to_cover)

    @property
    def in_unit_of_values(self) -> tuple[Proportional, ...]:
        """The learned arrays that its values are proportional to, and so have their unit.

        Others are numbers near 1, whatever the unit: weights of hidden layers, logarithms.
        Each component has a unit of its own.
        """
        return ()

    @property
    def lower_bound(self) -> float:
        """What its values are never below; minus infinity where nothing keeps them above."""
        return -float("inf")

    @property
    def kept_inside(self) -> tuple[Interval, Array | np.ndarray | None] | None:
        """The interval that values are kept in, and the learned numbers that they are made of.

        None where the numbers do not stand for a value each, as the weights of a network. The
        numbers are None in a system from which what is learned is taken out.
        """
        return None


def is_latent(node: object) -> bool:
    """Whether a node of a PyTree is a learned coefficient."""
    return isinstance(node, AbstractLatent)


def latents_of(tree: PyTree) -> list[AbstractLatent]:
    """Every latent in a PyTree, in order, those inside other coefficients included."""
    return [node for node in jax.tree.leaves(tree, is_leaf=is_latent) if is_latent(node)]


def latent_values(
    tree: PyTree, grid: Grid | None, time: Scalar | Instant | None = None
) -> dict[str, Array]:
    """The values of every latent component on the grid, by name.

    A closure has no values without a state, and is left out: see `tabulate`. So is what varies in
    time, where no time is given.
    """
    values: dict[str, Array] = {}
    for latent in latents_of(tree):
        if isinstance(latent, AbstractClosure) or (time is None and not latent.is_steady):
            continue
        value = value_at(latent, grid, time)
        parts = [value] if len(latent.names) == 1 else list(value)
        shape = () if grid is None else grid.shape
        values |= {
            name: jnp.broadcast_to(part, jnp.broadcast_shapes(shape, jnp.shape(part)))
            for name, part in zip(latent.names, parts, strict=True)
        }
    return values


def learned(tree: T) -> T:
    """A PyTree of booleans: true for the arrays that training may change.

    These are the real arrays inside latents, wherever those stand. An array given as a known
    coefficient is not learned, nor are those inside a network that is given as a known function.
    """

    def mark(node):
        if is_latent(node):
            return jax.tree.map(eqx.is_inexact_array, node)
        return False

    return jax.tree.map(mark, tree, is_leaf=is_latent)


def span_to_write(first: float, last: float) -> str:
    """What to write, for messages, so that a field is wanted from one time to another."""
    return f"Build it with span=({first:.10g}, {last:.10g})"


def outside_span_of(
    names: Sequence[str],
    span: tuple[float, float],
    wanted: tuple[float, float],
    what: str,
    to_cover: Callable[[float, float], str] = span_to_write,
) -> str:
    """What `AbstractCoefficient.outside_span` says of a latent, or of what is prepared of one.

    Beyond its span a polynomial grows without bounds, and what a network gives is nothing learned.
    """
    (begin, end), (first, last) = span, wanted
    return (
        f"the field {', '.join(names)} has the time span ({begin:.10g}, {end:.10g}), but {what} "
        f"goes from t = {first:.10g} to {last:.10g}, and beyond its span it means nothing. "
        f"{to_cover(min(first, begin), max(last, end))}, forecasts included, or keep {what} within "
        "its span."
    )


def as_function(
    kind: str, names: Any, inputs: Any
) -> tuple[tuple[str, ...], dict[str, tuple[float, float]]]:
    """The names of a learned function's components, and the range of each of its inputs.

    Args:
        kind: of function, for messages.
        names: a name for each component; one may be given as it is.
        inputs: for each input the range in which it is expected.

    Raises: InputError for no names, the same twice, no inputs, or an empty range.
    """
    found = as_names(names, f"what names the components of a {kind}")
    if not all(found) or len(set(found)) != len(found) or not found:
        raise InputError(
            f"the names of a {kind} are {names!r:.60}: give a name of its own for each component."
        )
    whose = f"{kind} {', '.join(found)}"
    if not isinstance(inputs, Mapping) or not inputs:
        raise InputError(
            f"{whose} has the inputs {inputs!r:.60}: give at least one input with the range in "
            "which it is expected, {'u': (0.0, 1.0)}."
        )
    ranges, whose = {}, f"{whose}({', '.join(map(str, inputs))})"
    for name, ends in inputs.items():
        try:
            low, high = ends = tuple(float(end) for end in ends)
        except (TypeError, ValueError):
            low = high = np.nan
        if not 0 < high - low < np.inf:
            raise InputError(
                f"{whose}: {name!r} is expected in {ends!r:.60}; give finite (low, high) with "
                "high > low."
            )
        ranges[as_text(name, f"an input of {whose}")] = low, high
    return found, ranges
