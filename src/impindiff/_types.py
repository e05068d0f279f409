"""Names for the things that travel between the floors: states, and the equations that move them."""

from collections.abc import Mapping
from typing import Protocol, runtime_checkable

import numpy as np
from jaxtyping import Array, Float, PyTree

Scalar = Float[Array, ""]
"""A real number that may be traced."""

State = dict[str, Float[Array, "..."]]
"""Named fields at one instant; each an array of the grid's shape."""

Vector = PyTree[Float[Array, "..."]]
"""Anything a solver can treat as one long vector: a PyTree of real arrays."""


@runtime_checkable
class Tendency(Protocol):
    """The right-hand side $F(u)$ at one instant, with every coefficient evaluated. A PyTree."""

    def __call__(self, state: State) -> State:
        """The rate of change of every field."""
        ...


@runtime_checkable
class BalanceTendency(Tendency, Protocol):
    r"""The right-hand side of $\frac{d}{dt}\,q(u) = F(u)$ at one instant, with a storage $q$."""

    def stored(self, state: State) -> State:
        """$q(u)$, what is stored of every field; zero where that is algebraic."""
        ...

    @property
    def algebraic(self) -> tuple[str, ...]:
        """The fields without storage, whose equation is $F(u) = 0$."""
        ...

    @property
    def scales(self) -> Mapping[str, float]:
        """Typical magnitudes of fields, as far as known."""
        ...


@runtime_checkable
class Dynamics(Protocol):
    r"""A semi-discrete system $\dot u = F(t, u)$ with its steady parts evaluated. A PyTree."""

    @property
    def is_affine(self) -> bool:
        """Whether $F$ is affine in $u$, so that an implicit step is exactly one linear solve."""
        ...

    @property
    def is_steady(self) -> bool:
        """Whether the right-hand side is the same at all times."""
        ...

    def at(self, time: Scalar) -> Tendency:
        """The right-hand side at one instant."""
        ...


@runtime_checkable
class StoredDynamics(Dynamics, Protocol):
    r"""A system that may be $\frac{d}{dt}\,q(u) = F(t, u)$ with a storage $q$ other than $u$."""

    @property
    def has_storage(self) -> bool:
        """Whether it is; the right-hand side then is a `BalanceTendency`."""
        ...


@runtime_checkable
class MeasuredDynamics(Dynamics, Protocol):
    """A system whose cells differ in volume."""

    @property
    def volume_shares(self) -> np.ndarray | None:
        """Volumes of the cells over their mean; None where all are equal."""
        ...


@runtime_checkable
class IntegratingDynamics(Dynamics, Protocol):
    r"""A system with integrals: $\dot s = r(t, u)$, of which neither $F$ nor $r$ is a function.

    A state may hold them or not; `at` gives the right-hand side of the other fields, as a function
    of these alone.
    """

    @property
    def integrals(self) -> tuple[str, ...]:
        """Their names."""
        ...

    def integrands(self, time: Scalar, names: tuple[str, ...]) -> Tendency:
        """$r$ of some of them at one instant."""
        ...
