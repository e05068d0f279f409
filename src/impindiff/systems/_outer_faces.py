"""The outer faces at the ends of axes: conditions there, values there, what passes them."""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple, TypeVar

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from impindiff._errors import InputError, blamed_on
from impindiff._types import Scalar, State
from impindiff.coefficients import (
    AbstractCoefficient,
    Instant,
    coefficients_of,
    evaluate_coefficients,
)
from impindiff.grid import SIDES, Grid
from impindiff.latent import latent_values
from impindiff.systems._scope import TIME, Scope
from impindiff.terms import (
    AbstractBoundary,
    AbstractCorrectedFlux,
    AbstractTerm,
    AbstractTwoPointFlux,
    Affine,
    FaceFluxes,
    FluxParts,
    OuterFace,
    cells_at,
)

T = TypeVar("T")


class End(NamedTuple):
    """One end of an axis; arrays of its faces have the grid's shape, with one cell along the axis.

    Attributes:
        grid: of the domain.
        axis: its number.
        side: 0 is the lower end, 1 the upper.
    """

    grid: Grid
    axis: int
    side: int

    @property
    def shape(self) -> tuple[int, ...]:
        """Of arrays of its faces."""
        return tuple(1 if k == self.axis else n for k, n in enumerate(self.grid.shape))

    def beside(self, value: Any) -> Any:
        """The values of the cells that the faces belong to; what is uniform stays as it is."""
        if not self._ends_in(value, self.grid.shape):
            return value
        return jnp.asarray(value)[(..., *cells_at(self.grid, self.axis, self.side))]

    def without_axis(self, value: Any) -> Any:
        """Values at the faces in the shape of the boundary; what is uniform stays as it is."""
        if not self._ends_in(value, self.shape):
            return value
        return jnp.squeeze(value, self.axis - self.grid.num_axes)

    def places(self, dtype: jnp.dtype) -> dict[str, Array]:
        """The coordinates of the faces' centres."""
        faces = self.grid.face_centres(self.axis)
        last = faces[0].shape[self.axis] - 1
        place = [slice(None)] * self.grid.num_axes
        place[self.axis] = slice(last, last + 1) if self.side else slice(0, 1)
        pairs = zip(self.grid.names, faces, strict=True)
        return {name: jnp.asarray(at[tuple(place)], dtype) for name, at in pairs}

    def _ends_in(self, value: Any, shape: tuple[int, ...]) -> bool:
        # The time may be more than a number.
        found = jnp.shape(value) if eqx.is_array_like(value) else ()
        return len(found) >= len(shape) and found[-len(shape) :] == shape


def evaluate_at(
    end: End,
    coefficient: AbstractCoefficient,
    time: Scalar | Instant | None,
    known: Mapping[str, Any],
) -> Any:
    """A coefficient that depends on the state at the faces of an end.

    None where it is uniform, or a function of whole fields: it has no values of the faces' own. As
    it is where something is not known that it depends on.

    Args:
        end: where.
        coefficient: all that does not depend on the state evaluated in it.
        time: when.
        known: values at the faces.
    """
    if not all(part.is_local for part in coefficients_of(coefficient)):
        return None
    value = evaluate_coefficients(coefficient, None, time, known)
    if coefficients_of(value):
        return value
    # Arrays of all cells may stand in a function. They broadcast along the axis.
    value = end.beside(value)
    count = end.grid.num_axes
    return value if jnp.shape(value)[-count:] == end.shape else None


def values_beside(scope: Scope, end: End, state: State | None = None) -> dict[str, Any]:
    """All that is known at one end of an axis: where its faces lie, and what is beside them.

    Fields and coefficients have the values of the cells that the faces belong to.
    """
    known = {name: end.beside(value) for name, value in scope.values(state).items()}
    known |= end.places(scope.dtype)
    return {name: end.without_axis(value) for name, value in known.items()}


def values_at(scope: Scope, end: End, state: State, at_faces: Mapping[str, Any]) -> dict[str, Any]:
    """All that is known at the outer faces of an end, as arrays with one cell along its axis.

    Coefficients that depend on the state are evaluated there; the others have the values of the
    cells.

    Args:
        scope: at a time.
        end: where.
        state: the fields; those whose value at the faces is not known have that of the cells.
        at_faces: values of fields at the faces, as far as known.
    """
    known: dict[str, Any] = {name: end.beside(value) for name, value in state.items()}
    known |= {**at_faces, **end.places(scope.dtype)}
    if scope.time is not None:
        known[TIME] = scope.time.named
    unevaluated = {n: c for n, c in scope.coefficients.items() if coefficients_of(c)}
    fixed = {n: c for n, c in scope.coefficients.items() if n not in unevaluated}
    known |= {name: end.beside(value) for name, value in fixed.items()}
    whole = scope.values(state) if unevaluated else {}
    for _ in unevaluated:
        for name, coefficient in unevaluated.items():
            if name in known or name not in whole:
                continue
            value = evaluate_at(end, coefficient, scope.time, known)
            if not coefficients_of(value):
                # Where it has no values of its own it is uniform, or of whole fields.
                known[name] = end.beside(whole[name]) if value is None else value
    return known


Ends = tuple[tuple[AbstractBoundary | None, AbstractBoundary | None], ...]
"""For each axis the conditions at its lower and its upper end; None where the domain has no end."""

Given = Mapping[str, AbstractBoundary | Sequence[AbstractBoundary]]
"""Of one field, as users write them: for each axis one condition for its ends, or one for each."""


def select_fluxes(terms: Sequence[AbstractTerm]) -> list[AbstractTwoPointFlux]:
    """The terms that move something through faces."""
    return [term for term in terms if isinstance(term, AbstractTwoPointFlux)]


def evaluate_beside(scope: Scope, end: End, tree: T, state: State | None = None) -> T:
    """What stands in a condition at an end, evaluated as far as is known: see `Scope`."""
    known = values_beside(scope, end, state)
    return evaluate_coefficients(tree, end.grid.across(end.axis), scope.time, known)


def evaluate_boundaries(
    scope: Scope, boundaries: Mapping[str, Ends], state: State | None = None
) -> dict[str, Ends]:
    """The conditions with their coefficients evaluated, as far as is known: see `Scope`."""

    def at_end(condition: AbstractBoundary | None, axis: int, side: int) -> Any:
        if scope.grid is None or not coefficients_of(condition):
            return condition
        return evaluate_beside(scope, End(scope.grid, axis, side), condition, state)

    return {
        field: tuple(
            (at_end(lower, axis, 0), at_end(upper, axis, 1))
            for axis, (lower, upper) in enumerate(ends)
        )
        for field, ends in boundaries.items()
    }


def check_ends_finite(scope: Scope, boundaries: Mapping[str, Ends], state: State) -> None:
    """Refuse conditions whose values are not finite at a state.

    Raises: InputError.
    """
    names = () if scope.grid is None else scope.grid.names
    for field, ends in evaluate_boundaries(scope, boundaries, state).items():
        for name, pair in zip(names, ends, strict=True):
            for side, condition in zip(SIDES, pair, strict=True):
                for value in jax.tree.leaves(condition):
                    if not isinstance(value, str) and not np.all(np.isfinite(value)):
                        raise InputError(
                            f"{type(condition).__name__} of {field!r} at the {side} end of axis "
                            f"{name!r} has a value that is not finite: {np.asarray(value)}. It "
                            "must be finite wherever the state may be."
                        )


def boundary_latents(
    boundaries: Mapping[str, Ends], grid: Grid, time: Scalar | Instant | None = None
) -> dict[str, Array]:
    """Values of the learned coefficients in conditions, the same all along the axis they end."""
    found: dict[str, Array] = {}
    for ends in boundaries.values():
        for axis, pair in enumerate(ends):
            across = grid.across(axis)
            for name, value in latent_values(pair, across, time).items():
                whole = value if across is grid else jnp.expand_dims(value, axis)
                found[name] = jnp.broadcast_to(whole, grid.shape)
    return found


def add_boundary_fluxes(
    grid: Grid, field: str, terms: Sequence[AbstractTwoPointFlux], ends: Ends, fluxes: FaceFluxes
) -> tuple[FaceFluxes, Float[Array, "..."] | None]:
    """The fluxes with those through outer faces, and what of the latter is given.

    Raises: InputError for a value in a condition that does not have the boundary's shape.
    """
    source = None
    for axis, pair in enumerate(ends):
        for side, condition in enumerate(pair):
            if condition is None:
                continue
            parts = end_flux(grid, field, terms, condition, axis, side)
            fluxes = fluxes.with_end(axis, side, parts)
            if isinstance(parts.fixed, float) and parts.fixed == 0:
                continue
            rate = fluxes.end_rate(axis, side, parts.fixed)
            source = rate if source is None else source + rate
    return fluxes, source


def end_flux(
    grid: Grid,
    field: str,
    terms: Sequence[AbstractTwoPointFlux],
    condition: AbstractBoundary,
    axis: int,
    side: int,
) -> FluxParts:
    """The outward flux through the outer faces of one end, affine in the cells beside them.

    Raises: InputError for a value in the condition that does not have the boundary's shape.
    """
    first, *others = (term.boundary_face(grid, axis, side) for term in terms)
    with blamed_on(_whose(condition, grid, field, axis, side)):
        flux = place_values(condition, grid, field, axis, side).flux(sum(others, start=first))
        return FluxParts.of(flux)


def end_value(
    grid: Grid,
    field: str,
    terms: Sequence[AbstractTwoPointFlux],
    condition: AbstractBoundary,
    axis: int,
    side: int,
) -> Affine:
    """What the field has in the outer faces of one end, see `end_flux`."""
    first, *others = (term.boundary_face(grid, axis, side) for term in terms)
    return place_values(condition, grid, field, axis, side).value_at_face(sum(others, start=first))


def end_face(
    grid: Grid,
    field: str,
    terms: Sequence[AbstractTwoPointFlux],
    term: AbstractCorrectedFlux,
    condition: AbstractBoundary | None,
    axis: int,
    side: int,
) -> OuterFace | None:
    """What a corrected flux needs to know of the outer faces of one end; None where there is none.

    Args:
        grid: where.
        field: that is moved.
        terms: all that move it, evaluated.
        term: the one that asks.
        condition: at the end, evaluated.
        axis: that ends.
        side: 0 is the lower end, 1 the upper.
    """
    if condition is None:
        return None
    first, *others = (each.boundary_face(grid, axis, side) for each in terms)
    with blamed_on(_whose(condition, grid, field, axis, side)):
        placed = place_values(condition, grid, field, axis, side)
        return term.outer_face(placed, sum(others, start=first))


def _whose(condition: AbstractBoundary, grid: Grid, field: str, axis: int, side: int) -> str:
    name = type(condition).__name__
    return f"{name} of {field!r} at the {SIDES[side]} end of axis {grid.names[axis]!r}"


def mode_kinds(grid: Grid, ends: Ends) -> tuple[str, ...]:
    """For each axis which modes fulfil conditions like these, see `SpectralInverse`."""

    def kind(axis: int) -> str:
        if grid.axes[axis].periodic:
            return "periodic"
        held = [condition is not None and condition.holds_value for condition in ends[axis]]
        lower, upper = ("dirichlet" if one else "neumann" for one in held)
        return lower if lower == upper else f"{lower}-{upper}"

    return tuple(kind(axis) for axis in range(grid.num_axes))


def place_values(
    condition: AbstractBoundary, grid: Grid, field: str, axis: int, side: int
) -> AbstractBoundary:
    """The condition with arrays of the boundary's cells in the shape of the cells beside it.

    Raises: InputError for a value that does not have the boundary's shape.
    """
    shape = tuple(count for k, count in enumerate(grid.shape) if k != axis)

    def place(value):
        if jnp.shape(value) not in ((), shape):
            raise InputError(
                f"{type(condition).__name__} of {field!r} at the {SIDES[side]} end of axis "
                f"{grid.names[axis]!r} has a value of shape {jnp.shape(value)}: it must be one "
                f"number or of shape {shape}, a value for each cell of the boundary."
            )
        return jnp.expand_dims(value, axis) if jnp.ndim(value) else value

    return jax.tree.map(place, condition)
