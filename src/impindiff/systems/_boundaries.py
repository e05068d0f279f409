"""Boundary conditions of a system: that there is one wherever it is needed, and what they do."""

from collections.abc import Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from impindiff._errors import InputError, blamed_on
from impindiff._types import Scalar, State
from impindiff.coefficients import Instant, coefficients_of, evaluate_coefficients
from impindiff.grid import SIDES, Grid
from impindiff.latent import latent_values
from impindiff.systems._scope import Scope
from impindiff.terms import (
    AbstractBoundary,
    AbstractTerm,
    AbstractTwoPointFlux,
    Affine,
    FaceFluxes,
    FluxParts,
)

Ends = tuple[tuple[AbstractBoundary | None, AbstractBoundary | None], ...]
"""For each axis the conditions at its lower and its upper end; None where the domain has no end."""

Given = Mapping[str, AbstractBoundary | Sequence[AbstractBoundary]]
"""As users write them: for an axis by name one condition for all its ends, or one for each."""


def fluxes_among(terms: Sequence[AbstractTerm]) -> list[AbstractTwoPointFlux]:
    """The terms that move something through faces."""
    return [term for term in terms if isinstance(term, AbstractTwoPointFlux)]


def check_boundaries(
    grid: Grid | None,
    equations: Mapping[str, Sequence[AbstractTerm]],
    given: Mapping[str, Given] | None,
) -> dict[str, Ends]:
    """The conditions of each field, at both ends of each axis.

    Raises: InputError for a condition that is missing, superfluous or none at all.
    """
    given = given or {}
    mappings = [given, *given.values()] if isinstance(given, Mapping) else [given]
    if strange := [each for each in mappings if not isinstance(each, Mapping)]:
        raise InputError(
            "boundaries are given by field and axis, {'c': {'x': (lower, upper), 'y': NoFlux()}}; "
            f"found {strange[0]!r:.80}."
        )
    if grid is None:
        if given:
            raise InputError("a system without a grid has no boundaries: leave them out.")
        return dict.fromkeys(equations, ())
    if strange := [field for field in given if field not in equations]:
        raise InputError(
            f"boundaries name the field {strange[0]!r}, which has no equation; there are "
            f"{', '.join(map(repr, equations))}."
        )
    return {
        field: _ends(grid, field, bool(fluxes_among(terms)), given.get(field, {}))
        for field, terms in equations.items()
    }


def _ends(grid: Grid, field: str, moves: bool, given: Given) -> Ends:
    if strange := [name for name in given if name not in grid.names]:
        raise InputError(
            f"boundaries of {field!r} name the axis {strange[0]!r}; the grid has "
            f"{', '.join(map(repr, grid.names))}."
        )
    if given and not moves:
        raise InputError(
            f"{field!r} has boundary conditions, but no term that moves it through faces: leave "
            "them out."
        )
    if not moves:
        return ((None, None),) * grid.num_axes
    return tuple(_pair(grid, field, axis, given.get(name)) for axis, name in enumerate(grid.names))


def _pair(grid: Grid, field: str, axis: int, given: Any) -> Any:
    name, needed = grid.names[axis], [grid.has_end(axis, side) for side in (0, 1)]
    if given is None:
        listed = []
    elif isinstance(given, AbstractBoundary):
        listed = [given] * max(sum(needed), 1)
    else:
        listed = list(given) if isinstance(given, Sequence) else [given]
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
        raise InputError(
            f"{field!r} has {len(found)} boundary conditions on axis {name!r}, which has "
            f"{sum(needed)} end(s): give one condition for each end, the lower first"
            f"{', and none at the axis of symmetry' * (not needed[0])}."
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
            f"{name!r}: give boundaries={{{field!r}: {{{name!r}: (lower, upper)}}}}, or one "
            "condition for both ends, or build the axis with periodic=True."
        )
    rest = iter(found)
    return tuple(next(rest) if need else None for need in needed)


def evaluate_boundaries(
    scope: Scope, boundaries: Mapping[str, Ends], state: State | None = None
) -> dict[str, Ends]:
    """The conditions with their coefficients evaluated, as far as is known: see `Scope`."""

    def at_end(condition: AbstractBoundary | None, axis: int, side: int) -> Any:
        if scope.grid is None or not coefficients_of(condition):
            return condition
        known = scope.values_beside(axis, side, state)
        return evaluate_coefficients(condition, scope.grid.across(axis), scope.time, known)

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


def with_boundaries(
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
            if isinstance(parts.given, float) and parts.given == 0:
                continue
            rate = fluxes.end_rate(axis, side, parts.given)
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
    where = f"{field!r} at the {SIDES[side]} end"
    first, *others = (term.boundary_face(grid, axis, side) for term in terms)
    with blamed_on(f"{type(condition).__name__} of {where} of axis {grid.names[axis]!r}"):
        flux = placed(condition, grid, field, axis, side).flux(sum(others, start=first))
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
    return placed(condition, grid, field, axis, side).value_at_face(sum(others, start=first))


def mode_kinds(grid: Grid, ends: Ends) -> tuple[str, ...]:
    """For each axis which modes fulfil conditions like these, see `SpectralInverse`."""

    def kind(axis: int) -> str:
        if grid.axes[axis].periodic:
            return "periodic"
        held = [condition is not None and condition.holds_value for condition in ends[axis]]
        lower, upper = ("dirichlet" if one else "neumann" for one in held)
        return lower if lower == upper else f"{lower}-{upper}"

    return tuple(kind(axis) for axis in range(grid.num_axes))


def placed(
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
