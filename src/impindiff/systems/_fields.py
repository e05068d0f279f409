"""One field of a system: all that is said about it stands in one place."""

from collections.abc import Mapping, Sequence
from typing import Any, final

import equinox as eqx
import jax
import numpy as np
from jax.core import Tracer

from impindiff._errors import InputError
from impindiff.grid import SIDES, Grid
from impindiff.integrate import Bounds
from impindiff.systems._outer_faces import Ends, Given, select_fluxes
from impindiff.systems._shapes import check_shape
from impindiff.terms import AbstractBoundary, AbstractSource, AbstractStateTerm, AbstractTerm


@final
class Field(eqx.Module):
    r"""A field $u$ of a `System`, with all about it: $\frac{d}{dt}\,q(u) = \sum_k T_k(t, u)$.

    Args:
        terms: $T_k$, whose sum is the rate of change.
        boundaries: for each axis by name that is not periodic, the conditions at its ends, where a
            term moves the field through faces: `{"x": (Inflow(1.0), Outflow()), "y": NoFlux()}`.
            One condition stands for both ends.
        storage: $q$, where it is not the field itself: a function of the state, `lambda porosity,
            gas: porosity * gas`; a capacity $c$ that does not depend on it, for $q = c\,u$; or 0
            for an algebraic field, whose terms always add up to zero.
        capacity: $c$ of $c(u)\,\dot u = \sum_k T_k$ where it depends on the state, so that no $q$
            is conserved: `lambda T, porosity: ...`, the heat capacity of what the pores fill with.
            Otherwise as a coefficient; not 0 anywhere.
        initial: the initial values, where no data hold them: a coefficient that does not depend on
            the state, known or learned. The same for all samples.
        scale: a typical magnitude in the field's unit, where fields differ by orders of magnitude:
            for the norms by which solvers measure.
        bounds: what the field can be at all, in its unit, `(0.0, 1.0)` or `(0.0, jnp.inf)`, both
            ends allowed. A start or a reading beyond is refused, a step that leads there fails.
        unit: such as "mol/m3": compared with that of the data, and written to forecasts.

    Functions may stand wherever a coefficient may, see `System`.
    Raises: InputError, in `System`, which knows its name: for no term, an entry that is not a term,
        a boundary condition that is missing or superfluous, both a storage and a capacity, or a
        storage, capacity, scale, unit or bounds that cannot be.
    """

    terms: Sequence[AbstractTerm]
    boundaries: Given | None = None
    storage: Any = eqx.field(default=None, kw_only=True)
    capacity: Any = eqx.field(default=None, kw_only=True)
    initial: Any = eqx.field(default=None, kw_only=True)
    scale: float | None = eqx.field(default=None, kw_only=True, static=True)
    bounds: tuple[float, float] | None = eqx.field(default=None, kw_only=True, static=True)
    unit: str | None = eqx.field(default=None, kw_only=True, static=True)

    @property
    def is_algebraic(self) -> bool:
        """Whether its storage is the number zero."""
        storage = self.storage
        is_number = isinstance(storage, int | float | np.integer) and not isinstance(storage, bool)
        return is_number and bool(storage == 0)

    def ends(self, grid: Grid | None, name: str) -> Ends:
        """The boundary conditions at both ends of each axis.

        Raises: InputError for one that is missing, superfluous or no condition, or without effect.
        """
        known = self.boundaries or {}
        if not isinstance(known, Mapping):
            raise InputError(
                f"the boundaries of {name!r} are given by axis, {{'x': (lower, upper), 'y': "
                f"NoFlux()}}; found {known!r:.80}."
            )
        if grid is None:
            if known:
                raise InputError(
                    f"{name!r} has boundaries, but a system without a grid has none: leave them "
                    "out."
                )
            return ()
        if strange := [axis for axis in known if axis not in grid.names]:
            raise InputError(
                f"boundaries of {name!r} name the axis {strange[0]!r}; the grid has "
                f"{', '.join(map(repr, grid.names))}."
            )
        if fluxes := select_fluxes(self.terms):
            pairs = [_pair(grid, name, k, known.get(axis)) for k, axis in enumerate(grid.names)]
            if all(term.is_exchange for term in fluxes):
                _check_no_flow_is_needed(grid, name, pairs)
            return tuple(pairs)
        if known:
            raise InputError(
                f"{name!r} has boundary conditions, but no term that moves it through faces: leave "
                "them out."
            )
        return ((None, None),) * grid.num_axes

    def limit(self, name: str) -> Bounds | None:
        """Its bounds, for the checks of states; None without.

        Raises: InputError for what is no interval.
        """
        if self.bounds is None:
            return None
        try:
            lower, upper = (float(end) for end in self.bounds)
        except (TypeError, ValueError):
            lower = upper = np.nan
        if not lower < upper:
            raise InputError(
                f"the bounds of {name!r} are {self.bounds!r:.80}: give two numbers, the lower "
                "first, such as (0.0, 1.0), or (0.0, float('inf')) for what has no upper bound."
            )
        return Bounds(name, lower, upper)

    def check(self, grid: Grid | None, name: str) -> None:
        """Refuse what cannot be said of a field of that name.

        Raises: InputError.
        """
        check_terms(self.terms, f"the equation of {name!r}")
        for term in self.terms:
            if grid is None and not isinstance(term, AbstractSource | AbstractStateTerm):
                raise InputError(
                    f"the equation of {name!r} has the term {type(term).__name__}, which needs a "
                    "grid: without one, System(None, ...), terms are Reaction and Source."
                )
        if self.scale is not None:
            _check_scale(name, self.scale)
        if self.unit is not None and not isinstance(self.unit, str):
            raise InputError(f"the unit of {name!r} is {self.unit!r}: give text, such as 'mol/m3'.")
        if self.storage is not None and self.capacity is not None:
            raise InputError(
                f"{name!r} has a storage and a capacity: give a storage where something is "
                "conserved, and a capacity that depends on the state where it is not."
            )
        check_shape(grid, f"the storage of {name!r}", self.storage)
        check_shape(grid, f"the capacity of {name!r}", self.capacity)
        check_shape(grid, f"the initial values of {name!r}", self.initial)
        if self.capacity is not None:
            _check_capacity(name, self.capacity)
        if not self.is_algebraic:
            _check_storage(name, self.storage)


def as_fields(grid: Grid | None, fields: Mapping[str, Any]) -> dict[str, Field]:
    """The fields of a system, a list of terms having become one.

    Raises: InputError for no field, what is neither a list of terms nor a `Field`, fields that
        cannot be, and fields of which none has a storage.
    """
    if not fields or not isinstance(fields, Mapping):
        raise InputError(
            "a system needs at least one field with its terms, System(grid, {'c': [term, ...]}); "
            f"found {fields!r:.80}."
        )
    found = {}
    for name, one in fields.items():
        if isinstance(one, Mapping):
            raise InputError(
                f"the field {name!r} is a mapping, {one!r:.80}: give its terms in a list, and with "
                "more to be said of it Field([term, ...], {'x': conditions}, storage=..., ...)."
            )
        found[name] = one if isinstance(one, Field) else Field(one)
        found[name].check(grid, name)
    return found


def check_terms(terms: Sequence[AbstractTerm], whose: str) -> None:
    """What stands for the rate of something must be a list of terms.

    Raises: InputError.
    """
    listed = terms if isinstance(terms, Sequence) else [terms]
    strange = [term for term in listed if not isinstance(term, AbstractTerm)]
    if strange or not listed or listed is not terms:
        raise InputError(f"{whose} must be a list of at least one term; found {strange or terms}.")


def _check_scale(name: str, scale: Any) -> None:
    if isinstance(scale, Tracer):
        raise InputError(
            f"the scale of {name!r} is traced by jit, grad or vmap: tolerances are relative to it, "
            "so that it must be known. Give a number of Python."
        )
    number = np.asarray(scale)
    if number.ndim or number.dtype.kind not in "fiu" or not 0 < number < np.inf:
        raise InputError(
            f"the scale of {name!r} is {scale!r}: it must be a positive number, the field's "
            "typical magnitude."
        )


def _is_no_coefficient(value: Any) -> bool:
    return isinstance(value, bool | np.bool | str)


def _check_capacity(name: str, capacity: Any) -> None:
    # What is traced shows its sign when steps are taken, see `AbstractDynamics.ill_posed`.
    is_zero = not isinstance(capacity, Tracer) and np.ndim(capacity) == 0 and capacity == 0
    if _is_no_coefficient(capacity) or is_zero:
        raise InputError(
            f"the capacity of {name!r} is {capacity!r}: give a function of the fields, a latent or "
            "a number other than 0."
        )


def _check_storage(name: str, storage: Any) -> None:
    if _is_no_coefficient(storage):
        raise InputError(
            f"the storage of {name!r} is {storage!r}: give a function of the fields, a capacity "
            "(a number, an array, a latent), or 0 for a field without."
        )
    if isinstance(storage, int | float | np.ndarray | jax.Array) and not isinstance(
        storage, Tracer
    ):
        known = np.asarray(storage)
        wrong = known[~((known > 0) & (known < np.inf))]
        if wrong.size:
            raise InputError(
                f"the storage of {name!r} is {wrong.flat[0]}: a capacity must be positive and "
                "finite in every cell, or the number 0 for a field without."
            )


def _check_no_flow_is_needed(grid: Grid, field: str, pairs: Sequence[Any]) -> None:
    for axis, conditions in zip(grid.names, pairs, strict=True):
        for side, condition in zip(SIDES, conditions, strict=True):
            if condition is not None and condition.needs_flow:
                raise InputError(
                    f"{field!r} has {type(condition).__name__} at the {side} end of axis {axis!r}, "
                    "but no term of it flows through: nothing would enter. Add an Advection, or "
                    "give Dirichlet(value), or Flux(outward) for what passes."
                )


def _pair(grid: Grid, field: str, axis: int, conditions: Any) -> Any:
    name, needed = grid.names[axis], [grid.has_end(axis, side) for side in (0, 1)]
    if conditions is None:
        listed = []
    elif isinstance(conditions, AbstractBoundary):
        listed = [conditions] * max(sum(needed), 1)
    else:
        listed = list(conditions) if isinstance(conditions, Sequence) else [conditions]
    if strange := [one for one in listed if not isinstance(one, AbstractBoundary | None)]:
        raise InputError(
            f"{field!r} has {strange[0]!r} for a boundary condition on axis {name!r}: give "
            "Dirichlet(...), Neumann(...), Robin(...), Flux(...), Inflow(...), Outflow(), "
            "NoFlux(), or an AbstractBoundary of your own."
        )
    found = [one for one in listed if one is not None]
    if found and not any(needed):
        raise InputError(
            f"{field!r} has a boundary condition on axis {name!r}, which is periodic and has no "
            "ends: leave it out, or build the axis with periodic=False."
        )
    if len(found) > sum(needed) or len(listed) > 2:
        radius = grid.radius_along(axis)
        origin = "" if radius is None or needed[0] else f", and none at {radius.origin}"
        raise InputError(
            f"{field!r} has {len(found)} boundary conditions on axis {name!r}, which has "
            f"{sum(needed)} end(s): give one condition for each end, the lower first{origin}."
        )
    if len(found) < sum(needed):
        present = [number < len(listed) and listed[number] is not None for number in (0, 1)]
        lacking = [
            side
            for side, need, there in zip(SIDES, needed, present, strict=True)
            if need and not there
        ]
        raise InputError(
            f"{field!r} has no boundary condition at the {' and the '.join(lacking)} end of axis "
            f"{name!r}: give Field([...], {{{name!r}: (lower, upper)}}), or one condition for "
            "both ends, or build the axis with periodic=True."
        )
    rest = iter(found)
    return tuple(next(rest) if need else None for need in needed)
