"""What stands for numbers in an equation until it is known where and when they are wanted."""

import abc
from collections.abc import Mapping
from typing import Any, ClassVar

import equinox as eqx

from impindiff._types import Scalar
from impindiff.grid import Grid

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

    def prepared(self, grid: Grid | None) -> "AbstractCoefficient":
        """The same with all evaluated that does not depend on time.

        Once for a whole rollout, where the coefficient itself is not steady. By default nothing is.
        """
        return self

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
