"""Right-hand sides that are not affine: what depends on the state is evaluated at the state."""

from collections.abc import Collection, Mapping
from typing import Any, final

import jax.numpy as jnp
from jaxtyping import Array, Float

from impindiff._errors import InputError, blamed_on
from impindiff._types import AbstractTendency, State
from impindiff.coefficients import depends_on
from impindiff.grid import Grid
from impindiff.systems._affine_tendency import AffineTendency, assemble
from impindiff.systems._boundaries import Ends, fluxes_among, mode_kinds
from impindiff.systems._corrected import (
    CorrectedTendency,
    corrected,
    corrected_among,
    outer_values_of,
)
from impindiff.systems._flux_of import known_fluxes
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
    """

    assembled: AffineTendency | CorrectedTendency | None
    terms: Equations
    boundaries: dict[str, Ends]
    carriers: Equations
    face_values: dict[str, FaceValues]
    scope: Scope

    @property
    def grid(self) -> Grid | None:
        """See `AbstractTendency`."""
        return self.scope.grid

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
        known: dict[str, Any] = dict(state)
        ends: dict[str, Ends] = {}
        carrying: Equations = {}
        if grid is not None and self.carriers:
            carrying, others = self.scope.evaluate((self.carriers, self.terms), state)
            ends = self._ends(others | carrying, state, self.carriers)
            known |= known_fluxes(grid, carrying, ends, state)
        terms = self.scope.evaluate(self.terms, known)
        parts = [{field: jnp.zeros_like(value) for field, value in state.items()}]
        if self.assembled is not None:
            parts.append(self.assembled(state))
        if grid is not None:
            moving = {field: tuple(fluxes_among(group)) for field, group in terms.items()}
            limited = {field: corrected_among(group) for field, group in moving.items()}
            rest = [field for field in terms if field not in ends]
            ends |= self._ends(terms | carrying, state, rest)
            linear = assemble(grid, moving, ends)(state)
            outer = outer_values_of(grid, moving, ends)
            parts.append(corrected(linear, limited, grid, state, outer))
        for field, group in terms.items():
            for term in group:
                with blamed_on(f"{type(term).__name__} in the equation of {field!r}"):
                    if isinstance(term, AbstractSource):
                        parts.append({field: in_free_cells(grid, term.rate(grid))})
                    elif isinstance(term, AbstractStateTerm):
                        parts.append({field: in_free_cells(grid, term.rate(grid, state, field))})
        return {
            field: add_up([part[field] for part in parts if field in part], field)
            for field in state
        }

    def _ends(self, in_cells: Equations, state: State, wanted: Collection[str]) -> dict[str, Ends]:
        """The conditions of some fields, evaluated: those of a carrier once, for one flux."""
        equations = self.terms | self.carriers
        given = self.scope, self.boundaries, equations, in_cells, state, self.face_values
        return evaluate_ends(*given, wanted)


def in_free_cells(grid: Grid | None, rate: Float[Array, "..."]) -> Float[Array, "..."]:
    """A rate with nothing in solid cells."""
    return rate if grid is None or grid.solid is None else jnp.where(grid.solid, 0, rate)


def split(
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
        moving = fluxes_among(terms)
        together = depends_on((moving, boundaries.get(field)), varying)

        def is_other(term: AbstractTerm, together: bool = together) -> bool:
            if isinstance(term, AbstractTwoPointFlux):
                return together
            return isinstance(term, AbstractStateTerm) or depends_on(term, varying)

        rest = [term for number, term in enumerate(terms) if (field, number) not in own]
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


def add_up(parts: list[Float[Array, "..."]], field: str) -> Array:
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
