"""Where a state lies outside of what is allowed for it, as data."""

from typing import NamedTuple, final

import equinox as eqx
import numpy as np
from jaxtyping import Array, Bool, Float, Int

from impindiff._errors import InputError


class Limit(NamedTuple):
    """The closed interval in which every value of one field must lie."""

    name: str
    lower: float
    upper: float

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
        limits: one for each field that has any.
        shapes: of these fields.
    """

    is_outside: Bool[Array, "..."]
    number: Int[Array, "..."]
    cell: Int[Array, "..."]
    value: Float[Array, "..."]
    limits: tuple[Limit, ...] = eqx.field(static=True)
    shapes: tuple[tuple[int, ...], ...] = eqx.field(static=True)

    def check(self) -> None:
        """Refuse one state that is outside. Not under `jit`.

        Raises: InputError.
        """
        if self.is_outside:
            raise InputError(
                f"the state is outside of what the system allows: {self.told()}. Correct it, or "
                "widen System(limits=...)."
            )

    def told(self, at: int = 0) -> str:
        """What is wrong with one of them, by its position among all. Not under `jit`."""
        number, cell, value = (np.ravel(a)[at] for a in (self.number, self.cell, self.value))
        limit = self.limits[number]
        place = np.unravel_index(int(cell), self.shapes[number])
        return limit.told(float(value), tuple(int(k) for k in place))
