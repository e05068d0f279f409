r"""Systems that store something other than their fields, $\frac{d}{dt}\,q(u) = F(t, u)$.

What stands for a field's storage decides what it means: a function of the state is $q$ itself, and
what does not depend on the state is a capacity $c$, $q = c\,u$. The number 0 is no capacity at all:
the field is algebraic. A capacity that does depend on the state, $c(u)\,\dot u = F$, makes no $q$:
the right-hand side is divided by it.
"""

from collections.abc import Mapping
from typing import Any, ClassVar, final

import equinox as eqx
import jax.numpy as jnp
import numpy as np
from jax.core import Tracer
from jaxtyping import Array, Float

from impindiff._errors import InputError
from impindiff._types import AbstractTendency, State
from impindiff.grid import Grid
from impindiff.systems._affine_tendency import AffineTendency
from impindiff.systems._corrected import CorrectedTendency
from impindiff.systems._scope import Scope
from impindiff.systems._state_tendency import StateTendency, check_fields


@final
class Balance(AbstractTendency):
    """A right-hand side with its storage, at one instant.

    Attributes:
        rates: $F$.
        storage: for fields with one: capacities, and functions that are still to be evaluated.
        capacities: by which right-hand sides are divided.
        scope: what these may name.
        fields: all of them.
        functions: the fields whose storage is a function of the state.
        algebraic: the fields without storage.
        known_scales: typical magnitudes, by field.
    """

    rates: AffineTendency | CorrectedTendency | StateTendency
    storage: dict[str, Any]
    capacities: dict[str, Any]
    scope: Scope
    fields: tuple[str, ...] = eqx.field(static=True)
    functions: tuple[str, ...] = eqx.field(static=True)
    algebraic: tuple[str, ...] = eqx.field(static=True)
    known_scales: tuple[tuple[str, float], ...] = eqx.field(static=True)

    has_storage: ClassVar[bool] = True

    @property
    def scales(self) -> Mapping[str, float]:
        """See `AbstractTendency`."""
        return dict(self.known_scales)

    def __call__(self, state: State) -> State:
        """The right-hand side.

        Raises: InputError for a capacity that is neither a number nor one for each cell.
        """
        rates = dict(self.rates(state))
        for field, capacity in self.scope.evaluate(self.capacities, state).items():
            rate, capacity = rates[field], jnp.asarray(capacity)
            if capacity.shape not in ((), rate.shape):
                raise InputError(
                    f"the capacity of {field!r} has the shape {capacity.shape}, the field "
                    f"{rate.shape}: it must be one number, or one for each of the field's."
                )
            rates[field] = self._unless_solid(rate / capacity, 0).astype(rate.dtype)
        return rates

    def stored(self, state: State) -> State:
        """What is stored of every field.

        Raises: InputError for a state of other fields, or a storage of another shape than its
            field.
        """
        check_fields(state, self.fields)
        found = dict(state)
        for field, part in self.scope.evaluate(self.storage, state).items():
            value = state[field]
            stored = jnp.asarray(part if field in self.functions else part * value)
            if stored.shape != value.shape:
                raise InputError(
                    f"the storage of {field!r} has the shape {stored.shape}, the field "
                    f"{value.shape}: it must give one number for each of the field's."
                )
            found[field] = stored.astype(value.dtype)
        return found | {field: self._in_solid_cells(state[field]) for field in self.algebraic}

    def _in_solid_cells(self, value: Float[Array, "..."]) -> Float[Array, "..."]:
        # Nothing is in balance in there: what an algebraic field is, it stays.
        return self._unless_solid(jnp.zeros_like(value), value)

    def _unless_solid(self, free: Float[Array, "..."], solid: Any) -> Float[Array, "..."]:
        grid = self.scope.grid
        return free if grid is None or grid.solid is None else jnp.where(grid.solid, solid, free)

    @property
    def grid(self) -> Grid | None:
        """See `AbstractTendency`."""
        return self.scope.grid

    @property
    def mode_kinds(self) -> Mapping[str, tuple[str, ...] | None]:
        """See `AbstractTendency`."""
        return self.rates.mode_kinds


def is_algebraic(storage: Any) -> bool:
    """Whether a storage is the number zero."""
    return isinstance(storage, int | float | np.integer) and bool(storage == 0)


def check_balance(
    fields: tuple[str, ...],
    storage: Mapping[str, Any],
    capacities: Mapping[str, Any],
    scales: Mapping[str, float],
) -> None:
    """Refuse storages, capacities and scales of what is no field, or that cannot be.

    Raises: InputError.
    """
    for what, given in (("storage", storage), ("capacities", capacities), ("scales", scales)):
        if strange := sorted(set(given) - set(fields)):
            raise InputError(
                f"{what} names {', '.join(strange)}, of which the system has no equation: its "
                f"fields are {', '.join(fields)}. Every field needs an equation."
            )
    for field, scale in scales.items():
        given = np.asarray(scale)
        if given.ndim or given.dtype.kind not in "fiu" or not 0 < given < np.inf:
            raise InputError(
                f"the scale of {field!r} is {scale!r}: it must be a positive number, the field's "
                "typical magnitude."
            )
    for field, part in capacities.items():
        if field in storage:
            raise InputError(
                f"{field!r} has a storage and a capacity: give a storage where something is "
                "conserved, and a capacity that depends on the state where it is not."
            )
        if (
            isinstance(part, bool | np.bool | str)
            or part is None
            or (np.ndim(part) == 0 and part == 0)
        ):
            raise InputError(
                f"the capacity of {field!r} is {part!r}: give a function of the fields, a latent "
                "or a number other than 0."
            )
    for field, part in storage.items():
        if isinstance(part, bool | np.bool | str) or part is None:
            raise InputError(
                f"the storage of {field!r} is {part!r}: give a function of the fields, a capacity "
                "(a number, an array, a latent), or 0 for a field without."
            )
        known = np.asarray(part) if isinstance(part, int | float | np.ndarray | Array) else None
        if known is not None and not isinstance(part, Tracer) and not is_algebraic(part):
            wrong = known[~((known > 0) & (known < np.inf))]
            if wrong.size:
                raise InputError(
                    f"the storage of {field!r} is {wrong.flat[0]}: a capacity must be positive and "
                    "finite in every cell, or the number 0 for a field without."
                )
    if all(is_algebraic(storage.get(field, 1)) for field in fields):
        raise InputError(
            "no field of the system has a storage, so that nothing changes in time: solve such "
            "equations by `impindiff.root`."
        )
