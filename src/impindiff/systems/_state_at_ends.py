r"""Outer fluxes that depend on the state: closures evaluated with the values at the faces.

The value at a face follows from its condition; that of `Robin` and `Inflow` from the diffusivity
and the speed there as well, which may themselves depend on it. It is found in passes: from values
in the cells a first value at the face, from this a better one. A value that is wrong by $O(h)$ is
off by $O(h^2)$ after a pass, $h$ the cell width.
"""

from collections.abc import Mapping
from typing import Any, NamedTuple, final

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from impindiff._types import State
from impindiff.coefficients import coefficients_of, evaluate_coefficients, is_coefficient
from impindiff.systems._boundaries import Ends, fluxes_among, placed
from impindiff.systems._end import End, evaluate_at
from impindiff.systems._scope import Scope
from impindiff.terms import (
    AbstractBoundary,
    AbstractTerm,
    AbstractTwoPointFlux,
    Affine,
    BoundaryFace,
)

NUM_PASSES = 2

Equations = Mapping[str, tuple[AbstractTerm, ...]]

FaceValues = tuple[tuple[Affine | None, Affine | None], ...]
"""For each axis the values at its lower and its upper end, affine in the cells; None if unknown."""


@final
class _KnownFlux(AbstractBoundary):
    """A condition whose flux is evaluated."""

    const: Any
    slope: Any

    def flux(self, face: BoundaryFace) -> Affine:
        """See `AbstractBoundary.flux`."""
        return self.const, self.slope


class _Moved(NamedTuple):
    """A field at one end: its condition, its fluxes, and the same evaluated in the cells."""

    condition: AbstractBoundary
    terms: list[AbstractTwoPointFlux]
    in_cells: list[AbstractTwoPointFlux]

    @property
    def is_fixed(self) -> bool:
        """Whether the condition holds a value that does not depend on the state."""
        return self.condition.holds_value and not coefficients_of(self.condition)


def evaluate_ends(
    scope: Scope,
    boundaries: Mapping[str, Ends],
    equations: Equations,
    in_cells: Equations,
    state: State,
    face_values: Mapping[str, FaceValues],
) -> dict[str, Ends]:
    """The conditions of the fields whose terms are given, with fluxes evaluated at a state.

    Args:
        scope: at a time.
        boundaries: of all fields, evaluated as far as they can be without a state.
        equations: terms of some fields, the same.
        in_cells: these terms evaluated in the cells.
        state: all fields.
        face_values: of fields whose fluxes do not depend on the state, as far as wanted.
    """
    grid, found = scope.grid, {}
    if grid is None:
        return found
    moving = {field: fluxes_among(terms) for field, terms in equations.items()}
    for field in moving:
        found[field] = [[None, None] for _ in range(grid.num_axes)]
    for end in (End(grid, axis, side) for axis in range(grid.num_axes) for side in (0, 1)):
        moved = {
            field: _Moved(condition, terms, fluxes_among(in_cells[field]))
            for field, terms in moving.items()
            if terms and (condition := boundaries[field][end.axis][end.side]) is not None
        }
        known = {
            field: value
            for field, ends in face_values.items()
            if (value := ends[end.axis][end.side]) is not None
        }
        for field, condition in _at_one(scope, end, moved, state, known).items():
            found[field][end.axis][end.side] = condition
    return {field: tuple(tuple(pair) for pair in ends) for field, ends in found.items()}


def _at_one(
    scope: Scope, end: End, moved: Mapping[str, _Moved], state: State, known: Mapping[str, Affine]
) -> dict[str, AbstractBoundary]:
    if not coefficients_of([(one.condition, one.terms) for one in moved.values()]):
        return {field: one.condition for field, one in moved.items()}
    cells = {field: end.beside(value) for field, value in state.items()}

    def at_faces(given: Mapping[str, Affine]) -> dict[str, Any]:
        """All that has a name, with given values of fields."""
        fields: dict[str, Float[Array, "..."]] = {}
        for field, (const, slope) in given.items():
            value = jnp.broadcast_to(const + slope * cells[field], end.shape)
            fields[field] = value.astype(cells[field].dtype)
        return scope.values_at(end, state, fields)

    def conditions(values: Mapping[str, Any]) -> dict[str, AbstractBoundary]:
        values = {name: end.without_axis(value) for name, value in values.items()}
        across = end.grid.across(end.axis)
        found = {
            field: evaluate_coefficients(one.condition, across, scope.time, values)
            for field, one in moved.items()
        }
        return {field: placed(one, end.grid, field, *end[1:]) for field, one in found.items()}

    def given(
        conditions: Mapping[str, AbstractBoundary], faces: Mapping[str, BoundaryFace]
    ) -> dict[str, Affine]:
        """The values that conditions give."""
        found = {field: one.face_value(faces[field]) for field, one in conditions.items()}
        return {field: value for field, value in found.items() if value is not None}

    values = at_faces(known)
    in_cells = {field: _in_cells(end, one) for field, one in moved.items()}
    found = conditions(values)
    held = given(found, in_cells)
    for field in held:
        if (entering := found[field].entering_value) is not None:
            held[field] = entering, 0.0
    values = at_faces({**known, **held})
    for _ in range(0 if all(moved[field].is_fixed for field in held) else NUM_PASSES):
        faces = {f: _at_values(scope, end, one, values, f in held) for f, one in moved.items()}
        held = given(conditions(values), faces)
        values = at_faces({**known, **held})

    def known_flux(field: str, condition: AbstractBoundary) -> AbstractBoundary:
        one, face = moved[field], in_cells[field]
        # A gradient that does not depend on the state takes its diffusivity from the cells before
        # the face, which lead there in second order. One that does would not fit to that.
        if field in held or coefficients_of(one.condition):
            face = _at_values(scope, end, one, values, field in held)
        const, slope = condition.flux(face)
        return _KnownFlux(end.without_axis(const), end.without_axis(slope))

    return {field: known_flux(field, one) for field, one in conditions(values).items()}


def _in_cells(end: End, one: _Moved) -> BoundaryFace:
    """What passes the faces, with closures evaluated in the cells."""
    first, *others = (term.boundary_face(*end) for term in one.in_cells)
    return sum(others, start=first)


def _at_values(
    scope: Scope, end: End, one: _Moved, values: Mapping[str, Any], is_held: bool
) -> BoundaryFace:
    """What passes the faces, with closures evaluated at values there."""

    def visit(node: Any) -> Any:
        if not is_coefficient(node):
            return None
        value = evaluate_at(end, node, scope.time, values)
        return None if coefficients_of(value) else value

    first, *others = (
        in_cells.boundary_face_at(
            jax.tree.map(visit, term, is_leaf=is_coefficient), *end, is_held
        )
        for term, in_cells in zip(one.terms, one.in_cells, strict=True)
    )
    return sum(others, start=first)
