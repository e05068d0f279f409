"""Names for the things that travel between the floors: states, and the equations that move them."""

from typing import Protocol, runtime_checkable

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
