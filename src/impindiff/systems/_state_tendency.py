r"""Right-hand sides and storages that depend on the state, evaluated at the state.

$\frac{d}{dt}\,q(u) = F(t, u)$: what stands for a field's storage decides what it means. A function
of the state is $q$ itself, and what does not depend on the state is a capacity $c$, $q = c\,u$. The
number 0 is no capacity at all: the field is algebraic. A capacity that does depend on the state,
$c(u)\,\dot u = F$, makes no $q$: the right-hand side is divided by it.
"""

from collections.abc import Collection, Mapping
from dataclasses import replace
from typing import Any, ClassVar, final

import equinox as eqx
import jax.numpy as jnp
from jaxtyping import Array, Float

from impindiff._errors import InputError, blamed_on
from impindiff._types import AbstractTendency, State
from impindiff.coefficients import depends_on
from impindiff.grid import Grid
from impindiff.systems._affine_tendency import (
    AffineTendency,
    CorrectedTendency,
    add_corrections,
    any_oblique,
    assemble,
    evaluate_outer_faces,
    select_corrected,
)
from impindiff.systems._flux_of import evaluate_fluxes
from impindiff.systems._outer_faces import Ends, mode_kinds, select_fluxes
from impindiff.systems._scope import Scope
from impindiff.systems._state_at_ends import FaceValues, evaluate_ends
from impindiff.terms import AbstractSource, AbstractStateTerm, AbstractTerm, AbstractTwoPointFlux

Equations = dict[str, tuple[AbstractTerm, ...]]

Place = tuple[str, int]
"""A term, by its field and its number in the equation of that."""


@final
class StateTendency(AbstractTendency):
    r"""$F(u) = S u + s + \sum_k T_k(u)$: the affine part is assembled, the rest remains in terms.

    At a state the closures of these terms are evaluated. From there on they are terms as any other,
    with arrays for coefficients: one code makes face fluxes and stencils of both.

    Attributes:
        assembled: what does not depend on the state; None without a grid.
        terms: for each field those that do, their other coefficients evaluated.
        boundaries: of all fields, the same.
        carriers: the equations of fields whose flux is a velocity in others, the same.
        face_values: at the ends, of fields whose fluxes do not depend on the state.
        scope: what closures may name.
        is_two_point: whether corrections of fluxes are left out.
    """

    assembled: AffineTendency | CorrectedTendency | None
    terms: Equations
    boundaries: dict[str, Ends]
    carriers: Equations
    face_values: dict[str, FaceValues]
    scope: Scope
    is_two_point: bool = eqx.field(static=True, default=False)

    @property
    def grid(self) -> Grid | None:
        """See `AbstractTendency`."""
        return self.scope.grid

    @property
    def is_oblique(self) -> bool:
        """Whether gradients along faces move something through them."""
        known = isinstance(self.assembled, CorrectedTendency) and self.assembled.is_oblique
        return known or any(map(any_oblique, self.terms.values()))

    @property
    def linear_part(self) -> "StateTendency | None":
        """See `AbstractTendency`: where there is something oblique, without any correction."""
        if self.is_two_point or not self.is_oblique:
            return None
        known = self.assembled
        inner = known.linear_part if isinstance(known, CorrectedTendency) else known
        return replace(self, assembled=inner, is_two_point=True)

    @property
    def mode_kinds(self) -> Mapping[str, tuple[str, ...] | None]:
        """See `AbstractTendency`."""
        grid = self.scope.grid
        if grid is None:
            return {}

        def is_still(ends: Ends) -> bool:
            pairs = zip(grid.axes, ends, strict=True)
            return any(pair == (None, None) and not axis.periodic for axis, pair in pairs)

        return {
            field: None if is_still(ends) else mode_kinds(grid, ends)
            for field, ends in self.boundaries.items()
        }

    def __call__(self, state: State) -> State:
        """The rate of change of every field.

        Raises: InputError for a state of other fields or shapes.
        """
        if self.assembled is None:
            check_fields(state, tuple(self.terms))
        grid = self.scope.grid
        terms, ends = self._evaluated(state)
        parts = [{field: jnp.zeros_like(value) for field, value in state.items()}]
        if self.assembled is not None:
            parts.append(self.assembled(state))
        if grid is not None:
            moving = {field: tuple(select_fluxes(group)) for field, group in terms.items()}
            limited = {field: select_corrected(group) for field, group in moving.items()}
            linear = assemble(grid, moving, ends)(state)
            if not self.is_two_point:
                outer = evaluate_outer_faces(grid, moving, ends)
                linear = add_corrections(linear, limited, grid, state, outer)
            parts.append(linear)
        for field, group in terms.items():
            for term in group:
                with blamed_on(f"{type(term).__name__} in the equation of {field!r}"):
                    if isinstance(term, AbstractSource):
                        parts.append({field: mask_solid(grid, term.rate(grid))})
                    elif isinstance(term, AbstractStateTerm):
                        parts.append({field: mask_solid(grid, term.rate(grid, state, field))})
        return {
            field: sum_rates([part[field] for part in parts if field in part], field)
            for field in state
        }

    def ends(self, state: State) -> dict[str, Ends]:
        """The conditions of the fields whose fluxes depend on the state, evaluated at one."""
        return self._evaluated(state)[1]

    def _evaluated(self, state: State) -> tuple[Equations, dict[str, Ends]]:
        """The terms and the conditions, evaluated."""
        grid = self.scope.grid
        known: dict[str, Any] = dict(state)
        ends: dict[str, Ends] = {}
        carrying: Equations = {}
        if grid is not None and self.carriers:
            carrying, others = self.scope.evaluate((self.carriers, self.terms), state)
            ends = self._ends(others | carrying, state, self.carriers)
            known |= evaluate_fluxes(grid, carrying, ends, state)
        terms = self.scope.evaluate(self.terms, known)
        if grid is not None:
            rest = [field for field in terms if field not in ends]
            ends |= self._ends(terms | carrying, state, rest)
        return terms, ends

    def _ends(self, in_cells: Equations, state: State, wanted: Collection[str]) -> dict[str, Ends]:
        """The conditions of some fields, evaluated: those of a carrier once, for one flux."""
        equations = self.terms | self.carriers
        arguments = self.scope, self.boundaries, equations, in_cells, state, self.face_values
        return evaluate_ends(*arguments, wanted)


def mask_solid(grid: Grid | None, rate: Float[Array, "..."]) -> Float[Array, "..."]:
    """A rate with nothing in solid cells."""
    return rate if grid is None or grid.solid is None else jnp.where(grid.solid, 0, rate)


def split_terms(
    equations: Equations,
    boundaries: Mapping[str, Ends],
    varying: frozenset[str],
    own: frozenset[Place] = frozenset(),
) -> tuple[Equations, Equations]:
    """The terms that do not depend on the state, and those that do.

    The fluxes of a field stay together: what passes the boundary is a matter of all of them.

    Args:
        equations: evaluated as far as they can be without a state.
        boundaries: the same.
        varying: names of what depends on the state.
        own: terms that are in neither part.
    """
    known: Equations = {}
    others: Equations = {}
    for field, terms in equations.items():
        rest = [term for number, term in enumerate(terms) if (field, number) not in own]
        moving = select_fluxes(rest)
        together = depends_on((moving, boundaries.get(field)), varying)

        def is_other(term: AbstractTerm, together: bool = together) -> bool:
            if isinstance(term, AbstractTwoPointFlux):
                return together
            return isinstance(term, AbstractStateTerm) or depends_on(term, varying)

        known[field] = tuple(term for term in rest if not is_other(term))
        others[field] = tuple(term for term in rest if is_other(term))
    return known, others


def check_fields(state: State, fields: tuple[str, ...]) -> None:
    """Refuse a state of other fields.

    Raises: InputError.
    """
    if set(state) != set(fields):
        raise InputError(
            f"the state has the fields {', '.join(sorted(state)) or 'none'}, the system "
            f"{', '.join(sorted(fields))}: give each field of the system, and no other."
        )


def sum_rates(parts: list[Float[Array, "..."]], field: str) -> Array:
    """The sum of rates of one field, the first of which has its shape.

    Raises: InputError for a rate of another shape.
    """
    value, *rates = parts
    for rate in rates:
        if jnp.shape(rate) not in ((), value.shape):
            raise InputError(
                f"a term of {field!r} gives a rate of shape {jnp.shape(rate)}, the field has "
                f"{value.shape}: a rate must be one number, or one for each of the field's."
            )
    return sum(rates, start=value).astype(value.dtype)


@final
class StoredTendency(AbstractTendency):
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
    def linear_part(self) -> "StoredTendency | None":
        """See `AbstractTendency`; see `StateTendency.linear_part`."""
        is_oblique = not isinstance(self.rates, AffineTendency) and self.rates.is_oblique
        inner = self.rates.linear_part if is_oblique else None
        return None if inner is None else replace(self, rates=inner)

    def ends(self, state: State) -> dict[str, Ends]:
        """See `StateTendency.ends`; none where nothing depends on the state."""
        return self.rates.ends(state) if isinstance(self.rates, StateTendency) else {}

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
            value, part = state[field], jnp.asarray(part)
            is_function = field in self.functions
            # A capacity of another shape may broadcast to that of the field along any axis.
            if part.shape != value.shape and (is_function or part.ndim):
                raise InputError(
                    f"the storage of {field!r} has the shape {part.shape}, the field "
                    f"{value.shape}: it must give one number for each of the field's."
                )
            found[field] = (part if is_function else part * value).astype(value.dtype)
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
