r"""Outer fluxes that depend on the state: closures evaluated with the values at the faces.

The value at a face follows from its condition; that of `Robin` and `Inflow` from the diffusivity
and the speed there as well, which may themselves depend on it. It is found with these as they are
at the value of the cell (of what enters, where that is given), and they are then evaluated at it.
The first value is wrong by $O(h)$, $h$ the cell width, what is found by $O(h^2)$, and so the flux.
"""

from collections.abc import Collection, Mapping
from typing import Any, NamedTuple, final

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from impindiff._types import State
from impindiff.coefficients import coefficients_of, evaluate_coefficients, is_coefficient
from impindiff.systems._outer_faces import (
    End,
    Ends,
    evaluate_at,
    place_values,
    select_fluxes,
    values_at,
)
from impindiff.systems._scope import Scope, names_of_arguments
from impindiff.terms import (
    AbstractBoundary,
    AbstractCorrectedFlux,
    AbstractTerm,
    AbstractTwoPointFlux,
    Affine,
    BoundaryFace,
    OuterFace,
)

Equations = Mapping[str, tuple[AbstractTerm, ...]]

FaceValues = tuple[tuple[Affine | None, Affine | None], ...]
"""For each axis the values at its lower and its upper end, affine in the cells; None if unknown."""


@final
class _KnownFlux(AbstractBoundary):
    """A condition whose flux is evaluated, and what of it must not be negative."""

    const: Any
    slope: Any
    transfers: tuple[Any, ...] = ()  # pyright: ignore[reportIncompatibleMethodOverride]
    outer: OuterFace | None = None

    def flux(self, face: BoundaryFace) -> Affine:
        """See `AbstractBoundary.flux`."""
        return self.const, self.slope

    def face_value(self, face: BoundaryFace) -> Affine | None:
        """See `AbstractBoundary.face_value`; known where an oblique flux asks for it."""
        return None if self.outer is None else self.outer.value

    def made_up(self, face: BoundaryFace) -> Any:
        """See `AbstractBoundary.made_up`."""
        return 1.0 if self.outer is None else self.outer.share


class _Moved(NamedTuple):
    """A field at one end: its condition, its fluxes, and the same evaluated in the cells."""

    condition: AbstractBoundary
    terms: list[AbstractTwoPointFlux]
    in_cells: list[AbstractTwoPointFlux]

    @property
    def is_known(self) -> bool:
        """Whether its fluxes can be computed."""
        return not coefficients_of(self.in_cells)


def evaluate_ends(
    scope: Scope,
    boundaries: Mapping[str, Ends],
    equations: Equations,
    in_cells: Equations,
    state: State,
    face_values: Mapping[str, FaceValues],
    wanted: Collection[str],
) -> dict[str, Ends]:
    """The conditions of some fields with their fluxes evaluated at a state.

    Args:
        scope: at a time.
        boundaries: of all fields, evaluated as far as they can be without a state.
        equations: terms of all fields whose fluxes depend on the state, and of those wanted; the
            same.
        in_cells: these terms evaluated in the cells; all of those wanted. Of the others what the
            flux of a field carries may still be unknown: then their values at faces are, too,
            unless held. The flux that carries does not depend on them but by values in cells.
        state: all fields.
        face_values: of fields whose fluxes do not depend on the state, as far as asked for.
        wanted: the fields.
    """
    grid = scope.grid
    if grid is None:
        return {}
    moving = {field: select_fluxes(terms) for field, terms in equations.items()}
    found: dict[str, list[list[Any]]] = {
        field: [[None, None] for _ in range(grid.num_axes)] for field in wanted
    }
    for end in (End(grid, axis, side) for axis in range(grid.num_axes) for side in (0, 1)):
        moved = {
            field: _Moved(condition, terms, select_fluxes(in_cells[field]))
            for field, terms in moving.items()
            if terms and (condition := boundaries[field][end.axis][end.side]) is not None
        }
        known = {
            field: value
            for field, ends in face_values.items()
            if (value := ends[end.axis][end.side]) is not None
        }
        for field, condition in _at_one(scope, end, moved, state, known, wanted).items():
            found[field][end.axis][end.side] = condition
    return {field: tuple((a, b) for a, b in ends) for field, ends in found.items()}


def evaluate_face_values(
    scope: Scope, boundaries: Mapping[str, Ends], known: Equations, wanted_by: Equations
) -> dict[str, FaceValues]:
    """The values at faces of fields whose fluxes do not depend on the state, where they are wanted.

    Args:
        scope: at a time.
        boundaries: of all fields, evaluated.
        known: terms of such fields, evaluated.
        wanted_by: terms of all fields, whose functions want them.
    """
    grid = scope.grid
    if grid is None:
        return {}
    moving = {field: select_fluxes(terms) for field, terms in wanted_by.items()}
    moving = {field: terms for field, terms in moving.items() if terms}
    of_moving = {field: boundaries[field] for field in moving}
    names = names_of_arguments((moving, of_moving), scope.coefficients)

    def value_at(field: str, terms: list[AbstractTwoPointFlux], axis: int, side: int) -> Any:
        condition = boundaries[field][axis][side]
        if condition is None:
            return None
        there = place_values(condition, grid, field, axis, side)
        return there.face_value(_in_cells(End(grid, axis, side), _Moved(condition, [], terms)))

    found: dict[str, FaceValues] = {}
    for field, terms in known.items():
        if field in names and (fluxes := select_fluxes(terms)):
            found[field] = tuple(
                (value_at(field, fluxes, axis, 0), value_at(field, fluxes, axis, 1))
                for axis in range(grid.num_axes)
            )
    return found


def _at_one(
    scope: Scope,
    end: End,
    moved: Mapping[str, _Moved],
    state: State,
    known: Mapping[str, Affine],
    wanted: Collection[str],
) -> dict[str, AbstractBoundary]:
    if not coefficients_of([(one.condition, one.terms) for one in moved.values()]):
        return {field: one.condition for field, one in moved.items() if field in wanted}
    cells = {field: end.beside(value) for field, value in state.items()}

    def at_faces(values_of_fields: Mapping[str, Affine]) -> dict[str, Any]:
        """All that has a name, with given values of fields."""
        fields: dict[str, Float[Array, "..."]] = {}
        for field, (const, slope) in values_of_fields.items():
            value = jnp.broadcast_to(const + slope * cells[field], end.shape)
            fields[field] = value.astype(cells[field].dtype)
        return values_at(scope, end, state, fields)

    def conditions(values: Mapping[str, Any]) -> dict[str, AbstractBoundary]:
        values = {name: end.without_axis(value) for name, value in values.items()}
        across = end.grid.across(end.axis)
        found = {
            field: evaluate_coefficients(one.condition, across, scope.time, values)
            for field, one in moved.items()
        }
        return {field: place_values(one, end.grid, field, *end[1:]) for field, one in found.items()}

    # Where it is given what enters, the first value is that, else that of the cell.
    entering = {f: one.entering_value for f, one in conditions(at_faces(known)).items()}
    first = {f: (value, 0.0) for f, value in entering.items() if value is not None}
    values = at_faces({**known, **first})
    faces = {
        field: _at_values(scope, end, one, values, True)
        for field, one in moved.items()
        if one.is_known or one.condition.holds_value
    }
    evaluated = conditions(values)
    found = {field: evaluated[field].face_value(face) for field, face in faces.items()}
    held = {field: value for field, value in found.items() if value is not None}
    values = at_faces({**known, **held})

    def known_flux(field: str, condition: AbstractBoundary) -> AbstractBoundary:
        one, seen = moved[field], values
        if field in first and field in held and not one.condition.holds_value:
            # What enters does so at its own speed, which in an empty cell may be zero.
            enters = jnp.asarray(faces[field].speed) < 0
            pairs = zip(first[field], held[field], strict=True)
            const, slope = (jnp.where(enters, *pair) for pair in pairs)
            seen = at_faces({**known, **held, field: (const, slope)})
        # A gradient that does not depend on the state takes its diffusivity from the cells before
        # the face, which lead there in second order. One that does would not fit to that.
        if field in held or coefficients_of(one.condition):
            face = _at_values(scope, end, one, seen, field in held)
        else:
            face = _in_cells(end, one)
        const, slope = condition.flux(face)
        transfers = tuple(end.without_axis(each) for each in condition.transfers)
        oblique = [term for term in moved[field].in_cells if term.is_oblique]
        outer = None
        if oblique and isinstance(term := oblique[0], AbstractCorrectedFlux):
            outer = jax.tree.map(end.without_axis, term.outer_face(condition, face))
        return _KnownFlux(end.without_axis(const), end.without_axis(slope), transfers, outer)

    evaluated = conditions(values)
    return {field: known_flux(field, evaluated[field]) for field in moved if field in wanted}


def _in_cells(end: End, one: _Moved) -> BoundaryFace:
    """What passes the faces, with closures evaluated in the cells."""
    first, *others = (term.boundary_face(*end) for term in one.in_cells)
    return sum(others, start=first)


def _at_values(
    scope: Scope, end: End, one: _Moved, values: Mapping[str, Any], is_held: bool
) -> BoundaryFace:
    """What passes the faces, with closures evaluated at values there."""
    if not one.is_known:  # only asked for the value that a condition holds, whatever passes
        return BoundaryFace(0.0, 0.0, 0.0, 0.0)

    def visit(node: Any) -> Any:
        if not is_coefficient(node):
            return None
        value = evaluate_at(end, node, scope.time, values)
        return None if coefficients_of(value) else value

    first, *others = (
        in_cells.boundary_face_at(jax.tree.map(visit, term, is_leaf=is_coefficient), *end, is_held)
        for term, in_cells in zip(one.terms, one.in_cells, strict=True)
    )
    return sum(others, start=first)
