"""Where a state lies outside of what is allowed for it, as data."""

from typing import NamedTuple, Self, final

import equinox as eqx
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int

from impindiff._errors import InputError


class Limit(NamedTuple):
    """The closed interval in which every value of one field must lie, or of what follows from it.

    Attributes:
        name: of the field.
        lower: lower end.
        upper: upper end.
        quantity: what follows from it; empty for the field itself.
    """

    name: str
    lower: float
    upper: float
    quantity: str = ""

    def told(self, value: float, place: tuple[int, ...], kind: str = "cell") -> str:
        """What is wrong with a value, for messages: 'c' is -0.1 at cell 3, below ..."""
        where = f" at {kind} {place[0] if len(place) == 1 else place}" if place else ""
        side = "below" if value < self.lower else "above"
        return (
            f"{self.name!r} is {value:.7g}{where}, {side} its limits "
            f"[{self.lower:g}, {self.upper:g}]"
        )


@final
class Excess(eqx.Module):
    """How one state leaves its limits, or each of many (leading axes).

    Attributes:
        is_outside: whether it does. Nothing else counts where it does not.
        number: of the first of the limits that is left.
        cell: where it is left farthest, in the flattened field.
        value: there.
        field_value: of the field there; the same unless a limit is of what follows from it.
        limits: one for each field that has any.
        shapes: of these fields.
    """

    is_outside: Bool[Array, "..."]
    number: Int[Array, "..."]
    cell: Int[Array, "..."]
    value: Float[Array, "..."]
    field_value: Float[Array, "..."]
    limits: tuple[Limit, ...] = eqx.field(static=True)
    shapes: tuple[tuple[int, ...], ...] = eqx.field(static=True)

    def check(self) -> None:
        """Refuse one state that is outside. Not under `jit`.

        Raises: InputError.
        """
        if self.is_outside:
            raise InputError(
                f"the state is outside of what the system allows: {self.told()}. Correct it, or "
                "widen Field(..., bounds=...)."
            )

    def told(self, at: int = 0) -> str:
        """What is wrong with one of them, by its position among all. Not under `jit`."""
        arrays = self.number, self.cell, self.value, self.field_value
        number, cell, value, field_value = (np.ravel(array)[at] for array in arrays)
        limit = self.limits[number]
        place = tuple(int(k) for k in np.unravel_index(int(cell), self.shapes[number]))
        if not limit.quantity:
            return limit.told(float(value), place)
        where = f" at cell {place[0] if len(place) == 1 else place}"
        return (
            f"{limit.quantity} of {limit.name!r} is {value:.7g}{where}, where {limit.name!r} is "
            f"{field_value:.7g}"
        )

    @classmethod
    def first_of(cls, first: Self, second: Self) -> Self:
        """The first of two where that is outside, else the second."""

        def either(one, other):
            return jnp.where(first.is_outside, one, other)

        return cls(
            first.is_outside | second.is_outside,
            either(first.number, second.number + len(first.limits)),
            either(first.cell, second.cell),
            either(first.value, second.value),
            either(first.field_value, second.field_value),
            first.limits + second.limits,
            first.shapes + second.shapes,
        )
