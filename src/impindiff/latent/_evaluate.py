"""How coefficients are replaced by their values, as soon as these are known.

What does not vary is known before a rollout, what varies in time at the times of a step, and what
depends on the state wherever the right-hand side is evaluated. The mechanism is one: a coefficient
is replaced when all that it is a function of has been given, and what stands inside it first.
"""

import abc
from collections.abc import Mapping
from typing import Any, TypeVar

import equinox as eqx
import jax
from jaxtyping import Array, PyTree

from impindiff._types import Scalar
from impindiff.grid import AbstractCoefficient, Grid, is_coefficient

T = TypeVar("T")

Values = Mapping[str, Any]
"""What has a name and is known: fields, axes' coordinates, the time `t`, other coefficients."""


class AbstractClosure(AbstractCoefficient):
    """A coefficient that is a function of things with a name, the fields above all.

    Attributes:
        arguments: their names, in the order in which the function takes them.
    """

    arguments: eqx.AbstractVar[tuple[str, ...]]

    @property
    @abc.abstractmethod
    def label(self) -> str:
        """How messages call it."""

    @abc.abstractmethod
    def evaluate(
        self, grid: Grid | None, time: Scalar | None = None, values: Values | None = None
    ) -> Array:
        """Values at the cells: of the grid's shape, or with components along a leading axis.

        Args:
            grid: where.
            time: when; not used, since a closure that varies in time has `t` for an argument.
            values: at least its arguments.
        """


def coefficients_of(tree: PyTree) -> list[AbstractCoefficient]:
    """Every coefficient in a PyTree that is still to be evaluated, those inside others included."""
    found: list[AbstractCoefficient] = []
    for node in jax.tree.leaves(tree, is_leaf=is_coefficient):
        if isinstance(node, AbstractCoefficient):
            found += [node, *coefficients_of(_children(node))]
    return found


def depends_on(tree: PyTree, names: frozenset[str] | set[str]) -> bool:
    """Whether anything in a PyTree of coefficients is a function of one of the names."""
    closures = [node for node in coefficients_of(tree) if isinstance(node, AbstractClosure)]
    return any(name in names for closure in closures for name in closure.arguments)


def evaluate_coefficients(
    tree: T, grid: Grid | None, time: Scalar | None = None, values: Values | None = None
) -> T:
    """The PyTree with coefficients replaced by their values, as far as these are known.

    Args:
        tree: terms, or anything else with coefficients in it.
        grid: where.
        time: when; without, only what is steady is evaluated.
        values: what closures may be functions of.
    """
    known: Values = {} if values is None else values

    def visit(node):
        if not is_coefficient(node):
            return node
        node = jax.tree.map(visit, node, is_leaf=_is_inside(node))
        if not node.is_steady and time is None:
            return node
        if any(is_coefficient(part) for part in _children(node)):
            return node
        if not isinstance(node, AbstractClosure):
            return node.evaluate(grid, time)
        if any(name not in known for name in node.arguments):
            return node
        return node.evaluate(grid, time, known)

    return jax.tree.map(visit, tree, is_leaf=is_coefficient)


def _is_inside(node: object):
    return lambda part: part is not node and is_coefficient(part)


def _children(node: AbstractCoefficient) -> list[Any]:
    return jax.tree.leaves(node, is_leaf=_is_inside(node))
