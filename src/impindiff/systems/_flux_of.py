"""The flux of one field as a velocity that carries others: Darcy's law, drift in a potential."""

from collections.abc import Mapping, Sequence
from typing import ClassVar, final

import equinox as eqx
import jax.numpy as jnp
from jaxtyping import Array, Float

from impindiff._errors import InputError
from impindiff._types import Scalar, State
from impindiff.coefficients import AbstractClosure, Values, coefficients_of
from impindiff.grid import Grid
from impindiff.linear import neighbour
from impindiff.systems._affine_tendency import (
    evaluate_outer_faces,
    faces_at,
    select_corrected,
)
from impindiff.systems._outer_faces import Ends, end_flux, select_fluxes
from impindiff.systems._scope import flux_name
from impindiff.terms import (
    AbstractTerm,
    AbstractTwoPointFlux,
    Correction,
    cells_at,
    open_faces,
)

FaceFlux = tuple[Float[Array, "..."], ...]


@final
class FluxOf(AbstractClosure):
    r"""What the equation of a field sends through the faces, as the velocity of `Advection`.

    With `"p": [Diffusion(k)]` the velocity $-k\,\nabla p$: `Advection(FluxOf("p"))` in the equation
    of what is carried. It is the very flux of the field's balance, outer faces included: where the
    pressure is quasi-steady it has no divergence, and what is carried evenly stays even.

    Args:
        field: whose flux; its equation must have one.

    Limited advection of the field itself is taken without its correction.
    Raises: InputError, in `System`, for a field whose equation moves nothing, or has a term that is
        not conservative.
    """

    field: str = eqx.field(static=True)
    arguments: tuple[str, ...] = eqx.field(static=True)
    is_local: ClassVar[bool] = False

    def __init__(self, field: str) -> None:
        self.field, self.arguments = field, (flux_name(field),)

    @property
    def label(self) -> str:
        """See `AbstractClosure.label`."""
        return f"FluxOf({self.field!r})"

    def evaluate(
        self, grid: Grid | None, time: Scalar | None = None, values: Values | None = None
    ) -> FaceFlux:
        """For each axis the flux through all faces across it, see `FaceVelocity`."""
        return (values or {})[flux_name(self.field)]


def carriers(tree: object) -> tuple[str, ...]:
    """The fields whose flux is asked for anywhere in a PyTree."""
    fluxes = [node for node in coefficients_of(tree) if isinstance(node, FluxOf)]
    return tuple(dict.fromkeys(node.field for node in fluxes))


def face_fluxes(
    grid: Grid, field: str, terms: tuple[AbstractTerm, ...], ends: Ends, state: State
) -> FaceFlux:
    """The flux of a field through all faces, per unit of area, for each axis.

    Args:
        grid: where.
        field: whose.
        terms: of its equation, evaluated.
        ends: its boundary conditions, evaluated.
        state: all fields.
    """
    moving, value = select_fluxes(terms), state[field]
    outer = evaluate_outer_faces(grid, {field: moving}, {field: ends}).get(field, ())
    added = [
        term.corrections(grid, value, faces_at(grid, value, faces))
        for term, faces in zip(select_corrected(moving), outer, strict=True)
        if term.is_affine
    ]

    def along(axis: int) -> Float[Array, "..."]:
        corrections = [each[axis] for each in added]
        return _along(grid, axis, field, moving, ends, value, corrections)

    return tuple(along(axis) for axis in range(grid.num_axes))


def _along(
    grid: Grid,
    axis: int,
    field: str,
    moving: list[AbstractTwoPointFlux],
    ends: Ends,
    value: Float[Array, "..."],
    corrections: Sequence[Correction],
) -> Float[Array, "..."]:
    upper = jnp.zeros_like(value)
    for term in moving:
        below, above = term.face_coefficients(grid, axis)
        # Of the difference: with diffusion's own, below = -above, an offset leaves no round-off.
        difference = neighbour(value, axis, +1) - value
        upper += above * difference + (below + above) * value
    upper = sum((each.upper for each in corrections), start=upper)
    passable = open_faces(grid, axis)
    if passable is not None:
        upper = jnp.where(passable, upper, 0)
    if grid.axes[axis].periodic:
        return neighbour(upper, axis, -1)
    inner = upper[tuple(slice(-1) if k == axis else slice(None) for k in range(grid.num_axes))]

    def outer(side: int) -> Float[Array, "..."]:
        place = cells_at(grid, axis, side)
        beside = value[place]
        condition = ends[axis][side]
        if condition is None:  # the axis of symmetry, or the centre
            return jnp.zeros_like(beside)
        outward = end_flux(grid, field, moving, condition, axis, side).outward(beside)
        for each in corrections:
            part = each.ends[side]
            outward = outward if part is None else outward + part
        if grid.solid is not None:
            outward = jnp.where(grid.solid[place], 0, outward)
        return outward if side else -outward

    return jnp.concatenate([outer(0), inner, outer(1)], axis)


def evaluate_fluxes(
    grid: Grid,
    equations: Mapping[str, tuple[AbstractTerm, ...]],
    boundaries: Mapping[str, Ends],
    state: State,
) -> dict[str, FaceFlux]:
    """The fluxes of some fields, by the names that `FluxOf` asks for."""
    return {
        flux_name(field): face_fluxes(grid, field, terms, boundaries[field], state)
        for field, terms in equations.items()
    }


def check_carriers(
    terms: Sequence[AbstractTerm], what: str, equations: Mapping[str, Sequence[AbstractTerm]]
) -> None:
    """Refuse terms that follow from a flux which is not there, or follows from another itself.

    Args:
        terms: of an equation or integral.
        what: it does with such a flux, for messages.
        equations: of the system.

    Raises: InputError.
    """
    for carrier in carriers(terms):
        if nested := carriers(equations[carrier]):
            raise InputError(
                f"{what} the flux of {carrier!r}, which is itself carried by that of "
                f"{nested[0]!r}: only one may follow from another."
            )
        if not all(term.is_conservative for term in select_fluxes(equations[carrier])):
            raise InputError(
                f"{what} the flux of {carrier!r}, which has none: a term there is not "
                "conservative. Write it in the conservative form, "
                "Advection(..., form='conservative')."
            )
