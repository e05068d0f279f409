"""What travels between the floors: states, the equations that move them, and real numbers.

Where a real number may stand, so may a whole number or a truth value, see `as_real`.
"""

from collections.abc import Mapping
from typing import Any, Protocol, runtime_checkable

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, PyTree

Scalar = Float[Array, ""]
"""A real number that may be traced."""

State = dict[str, Float[Array, "..."]]
"""Named fields at one instant; each an array of the grid's shape."""

GivenState = Mapping[str, Any]
"""Named fields as users give them: arrays or numbers of any type, see `real_state`."""

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


def as_real(value: Any) -> Any:
    """Whole numbers and truth values as real ones; everything else as it is.

    Here, before whole-number arithmetic, which overflows and has no fractions, or the sum of two
    truth values, 1 + 1 = 1, could make something else of them.

    Arrays, of JAX and of numpy, become real in JAX's default precision, and so do numpy's scalars
    and lists of numbers; a truth value of Python becomes 0.0 or 1.0. A whole number of Python
    stays: it takes the precision of whatever it meets, and as an exponent it is exact.
    """
    if isinstance(value, bool):
        return float(value)
    if isinstance(value, np.ndarray) and value.ndim == 0 and value.dtype.kind in "iufb":
        value = value[()]
    if isinstance(value, np.generic):
        # Python's own numbers leave the precision to what they meet.
        return value.item() if value.dtype.kind in "iuf" else as_real(value.item())
    if isinstance(value, list | tuple) and is_list_of_numbers(value):
        value = np.asarray(value)
    if isinstance(value, jax.Array | np.ndarray) and value.dtype.kind in "iub":
        return value.astype(jnp.result_type(float))
    return value


def is_list_of_numbers(value: Any) -> bool:
    """Whether something is a list, or lists of equal length, of nothing but numbers."""
    if not isinstance(value, list | tuple) or not value:
        return False
    if all(isinstance(part, list | tuple) for part in value):
        lengths = {len(part) for part in value}
        return len(lengths) == 1 and all(map(is_list_of_numbers, value))
    return all(isinstance(part, bool | int | float | np.generic) for part in value)


def as_array(value: Any) -> Array:
    """Numbers of any type as a real array; Python's own take the precision of what they meet."""
    value = as_real(value)
    return jnp.asarray(float(value) if isinstance(value, int) else value)


def real_state(state: GivenState) -> dict[str, Array]:
    """Fields as arrays, those of whole numbers and truth values in the precision of the others.

    In JAX's default precision where there are no others.
    """
    fields = {name: jnp.asarray(value) for name, value in state.items()}
    real = [u.dtype for u in fields.values() if u.dtype.kind not in "iub"]
    dtype = jnp.result_type(*real) if real else jnp.result_type(float)
    return {n: u.astype(dtype) if u.dtype.kind in "iub" else u for n, u in fields.items()}
