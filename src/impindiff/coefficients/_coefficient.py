"""What stands for numbers in an equation, and how it is replaced by its values once known.

What does not vary is known before a rollout, what varies in time at the times of a step, and what
depends on the state wherever the right-hand side is evaluated. The mechanism is one: a coefficient
is replaced when all that it is a function of is known, and what stands inside it first.

JAX computes in single precision unless `jax_enable_x64` is set. What is learned follows that unless
another precision is asked for; fits and forecasts follow the data within it.
"""

import abc
from collections.abc import Mapping
from typing import Any, ClassVar, TypeVar

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import DTypeLike, PyTree

from impindiff._errors import InputError
from impindiff._types import Scalar, as_real
from impindiff.coefficients._instant import Instant, as_number, refusals_name
from impindiff.grid import Grid

# Of a span.
_ROUND_OFF = 1e-5

Values = Mapping[str, Any]
"""What has a name and is known: fields, axes' coordinates, the time `t`, other coefficients."""


class AbstractCoefficient(eqx.Module):
    """A coefficient that has to be evaluated.

    Before anything is computed each is replaced by its values, so that equations see numbers and
    arrays and cannot tell where they came from.
    """

    is_local: ClassVar[bool] = False
    """Whether `evaluate` works without a grid, from the values at any place, a face included."""

    @property
    @abc.abstractmethod
    def is_steady(self) -> bool:
        """Whether it is the same at all times, and so evaluated once for a whole rollout."""

    @property
    def takes_instants(self) -> bool:
        """Whether `evaluate` may be given an `Instant`, to count the time from where it likes.

        By default it is given one number, in the precision of the fields: too coarse for times that
        are counted from long ago, which are then refused.
        """
        return False

    @property
    def time_span(self) -> tuple[float, float] | None:
        """The first and the last time that it is known or wanted for; None where any is fine."""
        return None

    def outside_span(self, first: float, last: float, what: str) -> str:
        """What to say where it has a span, and is to be used at other times.

        Args:
            first: the first time.
            last: the last time.
            what: what happens at these times: "training".
        """
        begin, end = self.time_span or (first, last)
        return (
            f"a coefficient is known from t = {begin:.10g} to {end:.10g}, but {what} goes from "
            f"t = {first:.10g} to {last:.10g}."
        )

    def prepared(self, grid: Grid | None) -> "AbstractCoefficient":
        """The same with all evaluated that does not depend on time.

        Once for a whole rollout, where the coefficient itself is not steady. By default nothing is.
        """
        return self

    def extrema_within(self, time: Instant, dt: Scalar, values: Values) -> list[Scalar]:
        """Where in a step it may have extrema: the times from the start of the step to each.

        Controlled steps evaluate the right-hand side there, so that none passes over a pulse,
        however short it is. By default a coefficient does not know.

        Args:
            time: at the start of the step.
            dt: its length; what lies outside the step does not matter.
            values: what has a name and is known then, the fields not among it.
        """
        return []

    @abc.abstractmethod
    def evaluate(self, grid: Grid | None, time: Scalar | None = None) -> Any:
        """Values at the cell centres: of the grid's shape, or with components along a leading axis.

        Args:
            grid: where; None in a system without.
            time: when; None is for steady ones.
        """


class AbstractClosure(AbstractCoefficient):
    """A coefficient that is a function of things with a name, the fields above all.

    Attributes:
        arguments: their names, in the order in which the function takes them.
    """

    arguments: eqx.AbstractVar[tuple[str, ...]]
    is_local: ClassVar[bool] = True

    @property
    def is_steady(self) -> bool:
        """Whether the time is not among the arguments."""
        return "t" not in self.arguments

    @property
    def defaults(self) -> dict[str, Any]:
        """The parameters that have a default and are not among the arguments; none by default."""
        return {}

    @property
    @abc.abstractmethod
    def label(self) -> str:
        """How messages call it."""

    @abc.abstractmethod
    def evaluate(
        self, grid: Grid | None, time: Scalar | None = None, values: Values | None = None
    ) -> Any:
        """Values at the cells: of the grid's shape, or with components along a leading axis.

        Args:
            grid: where.
            time: when; not used, since a closure that varies in time has `t` for an argument.
            values: at least its arguments.
        """


def is_coefficient(node: object) -> bool:
    """Whether a node of a PyTree has to be evaluated."""
    return isinstance(node, AbstractCoefficient)


T = TypeVar("T")


def coefficients_of(tree: PyTree) -> list[AbstractCoefficient]:
    """Every coefficient in a PyTree that is still to be evaluated, those inside others included."""
    found: list[AbstractCoefficient] = []
    for node in jax.tree.leaves(tree, is_leaf=is_coefficient):
        if isinstance(node, AbstractCoefficient):
            found += [node, *coefficients_of(_children(node))]
    return found


def slack_of(first: float, last: float) -> float:
    """By how much a time may lie beyond the ends of a span: it may have been through float32."""
    most = np.float32(max(abs(first), abs(last)))
    return max(_ROUND_OFF * (last - first), 2 * float(np.spacing(most)))


def check_spans(tree: PyTree, first: float, last: float, what: str) -> None:
    """Refuse coefficients whose span leaves out times that they are to be used at.

    Args:
        tree: holds coefficients, prepared or not.
        first: the first time.
        last: the last time.
        what: what happens at these times, for messages: "training".

    Raises: InputError for the first such coefficient.
    """
    for node in coefficients_of(tree):
        if node.time_span is None:
            continue
        begin, end = node.time_span
        slack = slack_of(begin, end)
        if first < begin - slack or last > end + slack:
            raise InputError(node.outside_span(first, last, what))


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


def real_precision(dtype: DTypeLike | None = None) -> jnp.dtype:
    """The precision asked for, if it can be computed in; JAX's default where none is.

    Raises: InputError for float64 where JAX would take float32 instead, or what is not real.
    """
    if dtype is None:
        return jnp.dtype(jnp.result_type(float))
    try:
        found = jnp.dtype(dtype)
    except TypeError:
        raise InputError(
            f"dtype is {dtype!r}: computations are in float32 or float64, such as "
            "dtype=jnp.float32. Leave it out for JAX's default."
        ) from None
    if found not in (np.float32, np.float64):
        raise InputError(f"dtype is {found}: computations are in float32 or float64.")
    if jax.dtypes.canonicalize_dtype(found) != found:
        raise InputError(
            f"dtype is {found}, but JAX computes in single precision unless this is set "
            'before any array is made: jax.config.update("jax_enable_x64", True). Or leave dtype '
            "out, for float32."
        )
    return found
