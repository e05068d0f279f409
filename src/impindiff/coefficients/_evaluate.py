"""How coefficients are replaced by their values, as soon as these are known.

What does not vary is known before a rollout, what varies in time at the times of a step, and what
depends on the state wherever the right-hand side is evaluated. The mechanism is one: a coefficient
is replaced when all that it is a function of has been given, and what stands inside it first.
"""

from typing import Any, TypeVar

import jax
from jaxtyping import PyTree

from impindiff._types import Scalar, as_real
from impindiff.coefficients._coefficient import (
    AbstractClosure,
    AbstractCoefficient,
    Values,
    is_coefficient,
)
from impindiff.coefficients._exact_time import refusals_name
from impindiff.coefficients._instant import Instant, as_number
from impindiff.grid import Grid

T = TypeVar("T")


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
    tree: T,
    grid: Grid | None,
    time: Scalar | Instant | None = None,
    values: Values | None = None,
) -> T:
    """The PyTree with coefficients replaced by their values, as far as these are known.

    Args:
        tree: terms, or anything else with coefficients in it.
        grid: where.
        time: when; without, only what is steady is evaluated, and the steady parts of the rest.
        values: what closures may be functions of.
    """
    known: Values = {} if values is None else values

    def visit(node):
        if not is_coefficient(node):
            return node
        node = jax.tree.map(visit, node, is_leaf=_is_inside(node))
        if not node.is_steady and time is None:
            return node.prepared(grid)
        if any(is_coefficient(part) for part in _children(node)):
            return node
        if not isinstance(node, AbstractClosure):
            return _real(value_at(node, grid, time))
        if any(name not in known for name in node.arguments):
            return node
        with refusals_name(node.label, known.get("t")):
            return _real(node.evaluate(grid, as_number(time), known))

    return jax.tree.map(visit, tree, is_leaf=is_coefficient)


def value_at(
    coefficient: AbstractCoefficient, grid: Grid | None, time: Scalar | Instant | None
) -> Any:
    """The values of a coefficient that is no closure at a time, given as it takes it."""
    taken: Any = time if coefficient.takes_instants else as_number(time)
    return coefficient.evaluate(grid, taken)


def rounding_times(tree: PyTree) -> list[str]:
    """What in a PyTree is given the time as one number whatever comes, as messages call it.

    Not closures, which are refused only where they use it as such: see `ExactTime`.
    """
    nodes = [node for node in coefficients_of(tree) if not isinstance(node, AbstractClosure)]
    found = [node for node in nodes if not (node.is_steady or node.takes_instants)]
    return [f"the {type(node).__name__}" for node in found]


def _real(values: Any) -> Any:
    """What a coefficient gives: an array, or of values at faces one for each axis."""
    return jax.tree.map(as_real, values)


def _is_inside(node: object):
    return lambda part: part is not node and is_coefficient(part)


def _children(node: AbstractCoefficient) -> list[Any]:
    return jax.tree.leaves(node, is_leaf=_is_inside(node))
