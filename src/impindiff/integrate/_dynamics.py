"""What steps advance: a system, prepared for many steps, and the bounds of its fields."""

import abc
from typing import NamedTuple, Self, cast, final

import equinox as eqx
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int

from impindiff._errors import InputError
from impindiff._types import AbstractTendency, GivenState, Scalar, State
from impindiff.coefficients import Coarse
from impindiff.grid import Grid


class AbstractSystem(eqx.Module):
    """Equations whose steady parts can be evaluated once for many steps.

    Attributes:
        grid: where the fields live; None for fields that are numbers or small arrays.
    """

    # Without annotations: annotated, they would stand in the order of a subclass's fields.
    grid = cast(Grid | None, None)

    @abc.abstractmethod
    def prepare(self, dtype: jnp.dtype) -> "AbstractDynamics":
        """The system with every steady coefficient evaluated, in the given precision."""

    def check(self, state: State, time: Scalar | float = 0.0) -> None:
        """Raise InputError for the first function that is not finite at a state."""


class AbstractDynamics(AbstractSystem):
    r"""A semi-discrete system $\frac{d}{dt}\,q(u) = F(t, u)$ with its steady parts evaluated.

    Only `at` has to be written. Where the other members are left as they are, a system is taken for
    nonlinear and unsteady, its cells for equal, and its fields may have any value. A subclass
    overrides attributes by properties, or by fields with `eqx.field()`.

    Attributes:
        is_affine: whether $F$ is affine in $u$, so that an implicit step is one linear solve.
        is_steady: whether the right-hand side is the same at all times.
        has_storage: whether $q$ is another function than $u$.
        volume_shares: volumes of the cells over their mean; None where all are equal.
        integrals: names of fields with $\dot s = r(t, u)$, of which neither $F$ nor $r$ is a
            function. A state may hold them or not; `at` gives the right-hand side of the others.
        has_clock: whether times may be counted from any moment, see `counted_from`.
    """

    # Without annotations: annotated, they would stand in the order of a subclass's fields.
    is_affine = False
    is_steady = False
    has_storage = False
    volume_shares = cast(np.ndarray | None, None)
    integrals = cast(tuple[str, ...], ())
    has_clock = False

    @abc.abstractmethod
    def at(self, time: Scalar) -> AbstractTendency:
        """The right-hand side at one instant."""

    def integrands(self, time: Scalar, names: tuple[str, ...]) -> AbstractTendency:
        """$r$ of some integrals at one instant, as a function of the other fields."""
        raise InputError(f"{type(self).__name__} has no integrals, but {names} are asked for.")

    def implicit_part(self) -> "AbstractDynamics":
        """What implicit-explicit methods solve for: the same without its explicit terms.

        Its storage, its integrals and the equations of its algebraic fields are the same.
        """
        return self

    def prepare(self, dtype: jnp.dtype) -> "AbstractDynamics":
        """Itself: what is prepared can stand wherever a system can."""
        return self

    @property
    def rounding_times(self) -> tuple[str, ...]:
        """What takes the time as one number, as messages call it."""
        return () if self.is_steady else (f"the system {type(self).__name__}",)

    def counted_from(
        self, origin: Float[Array, " 3"], coarse: Coarse | None = None
    ) -> "AbstractDynamics":
        """The same, with times counted from an origin: see `impindiff.coefficients.Instant`."""
        return self

    def extrema_within(self, time: Scalar, dt: Scalar) -> Float[Array, " moments"]:
        """Where in a step its coefficients are known to have extrema, as time since its start.

        What lies outside the step does not matter. None by default.
        """
        return jnp.zeros(0, dt.dtype)

    def first_guess(self, time: Scalar) -> tuple[State, tuple[str, ...]]:
        """Where a steady state is looked for if nobody says where, and the fields to be moved.

        The values of these are no more than allowed; they are moved, each as a whole, to where the
        rates are small. Empty where a system cannot say.
        """
        return {}, ()

    def check_derivatives(self) -> None:
        """Raise InputError for what is being differentiated and none of the system's leaves."""

    def bounds_violation(self, state: State) -> "BoundsViolation | None":
        """How a state violates the bounds of its fields; None where none has any."""
        return None

    def negative_diffusivity(
        self, state: State, time: Scalar, dt: Scalar
    ) -> "BoundsViolation | None":
        """Where a coefficient has the wrong sign at the end of a step.

        Looked at are those that depend on the state, and those that `check_coefficients` left. None
        where none can have it.
        """
        return None

    def check_coefficients(self, elapsed: np.ndarray, origin: np.ndarray) -> "AbstractDynamics":
        """Raise InputError for a coefficient of the wrong sign that is known before a rollout.

        Args:
            elapsed: the start, and times at which steps end, from an origin.
            origin: three numbers whose sum it is, see `impindiff.coefficients.Instant`.

        Returns: itself, knowing which are left to be looked at where steps end.
        """
        return self

    def ill_posed(self, state: State) -> "BoundsViolation | None":
        """Where a coefficient has the wrong sign that is steady, but traced; None where none is."""
        return None

    def advice(
        self, initial: State, states: GivenState, saved: np.ndarray, ends: np.ndarray
    ) -> tuple[str, ...]:
        """Warnings about a rollout that is done.

        Args:
            initial: where it starts.
            states: the saved ones, along a leading axis.
            saved: their times.
            ends: the start, and times at which steps end.
        """
        return ()


class Bounds(NamedTuple):
    """The closed interval in which each value of a field, or of a quantity derived from it, lies.

    Attributes:
        name: of the field.
        lower: lower end.
        upper: upper end.
        quantity: derived from the field; empty for the field itself.
    """

    name: str
    lower: float
    upper: float
    quantity: str = ""

    def message(self, value: float, place: tuple[int, ...], kind: str = "cell") -> str:
        """What is wrong with a value, for messages: 'c' is -0.1 at cell 3, below ..."""
        where = f" at {kind} {place[0] if len(place) == 1 else place}" if place else ""
        side = "below" if value < self.lower else "above"
        return (
            f"{self.name!r} is {value:.7g}{where}, {side} its limits "
            f"[{self.lower:g}, {self.upper:g}]"
        )


@final
class BoundsViolation(eqx.Module):
    """How one state violates the bounds of its fields, or each of many (leading axes).

    Attributes:
        is_outside: whether it does. Nothing else counts where it does not.
        number: of the first of the bounds that is violated.
        cell: where it is violated most, in the flattened field.
        value: there.
        field_value: of the field there; the same unless bounds are of a derived quantity, and not
            a number where that has no cell of the field.
        bounds: one for each field that has any.
        shapes: of these fields.
    """

    is_outside: Bool[Array, "..."]
    number: Int[Array, "..."]
    cell: Int[Array, "..."]
    value: Float[Array, "..."]
    field_value: Float[Array, "..."]
    bounds: tuple[Bounds, ...] = eqx.field(static=True)
    shapes: tuple[tuple[int, ...], ...] = eqx.field(static=True)

    def check(self) -> None:
        """Refuse one state that is outside. Not under `jit`.

        Raises: InputError.
        """
        if self.is_outside:
            raise InputError(
                f"the state is outside of what the system allows: {self.message()}. Correct it, or "
                "widen Field(..., bounds=...)."
            )

    def message(self, at: int = 0) -> str:
        """What is wrong with one of them, by its position among all. Not under `jit`."""
        arrays = self.number, self.cell, self.value, self.field_value
        number, cell, value, field_value = (np.ravel(array)[at] for array in arrays)
        bounds = self.bounds[number]
        place = tuple(int(k) for k in np.unravel_index(int(cell), self.shapes[number]))
        if not bounds.quantity:
            return bounds.message(float(value), place)
        where = f" at cell {place[0] if len(place) == 1 else place}" if place else ""
        found = f"{bounds.quantity} of {bounds.name!r} is {value:.7g}{where}"
        if np.isnan(field_value):
            return found
        return f"{found}, where {bounds.name!r} is {field_value:.7g}"

    @classmethod
    def first_of(cls, first: Self, second: Self) -> Self:
        """The first of two where that is outside, else the second."""

        def either(one, other):
            return jnp.where(first.is_outside, one, other)

        return cls(
            first.is_outside | second.is_outside,
            either(first.number, second.number + len(first.bounds)),
            either(first.cell, second.cell),
            either(first.value, second.value),
            either(first.field_value, second.field_value),
            first.bounds + second.bounds,
            first.shapes + second.shapes,
        )
