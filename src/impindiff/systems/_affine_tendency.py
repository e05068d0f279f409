"""Right-hand sides whose coefficients do not depend on the state.

They are affine in it, one stencil for each field; but for fluxes with a limiter, whose corrections
are added to the affine part.
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, NamedTuple, final

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from impindiff._errors import InputError, blamed_on
from impindiff._types import AbstractTendency, State
from impindiff.grid import Grid
from impindiff.linear import Stencil
from impindiff.systems._outer_faces import (
    Ends,
    add_boundary_fluxes,
    end_face,
    mode_kinds,
    select_fluxes,
)
from impindiff.terms import (
    AbstractCorrectedFlux,
    AbstractSource,
    AbstractTerm,
    AbstractTwoPointFlux,
    FaceFluxes,
    OuterFace,
    cells_at,
)


class OwnRate(NamedTuple):
    r"""A rate $a\,u + s$, cell by cell.

    Where a field has an offset, as a temperature in kelvin, $a\,u$ is large beside the rate. It is
    then counted from the $r$ at which nothing happens: $a\,(u - r) + s_r$, where $s_r$ is what
    rounding $r$ leaves of the rate. So wherever $u$ is nearer to $r$ than to zero; else $r$ would
    be the large number itself, as of a slow decay beside a source.

    Attributes:
        slope: $a$.
        at_zero: $s$.
        reference: $r$; it has no derivative, since the sum does not depend on it.
        at_reference: $s_r$.
    """

    slope: Float[Array, "..."]
    at_zero: Float[Array, "..."]
    reference: Float[Array, "..."]
    at_reference: Float[Array, "..."]

    def __call__(self, value: Float[Array, "..."]) -> Float[Array, "..."]:
        """The rate at a value of the field."""
        is_near = jnp.abs(value - self.reference) < jnp.abs(value)
        origin = jnp.where(is_near, self.reference, 0)
        rest = jnp.where(is_near, self.at_reference, self.at_zero)
        return self.slope * (value - origin) + rest


@final
class AffineTendency(AbstractTendency):
    """$F(u)_i = S_i u_i + s_i$: fluxes and a source for each field, where there are any.

    Attributes:
        fluxes: of each field through the faces.
        sources: what does not depend on the state, but for what ends draw it to: see `fluxes`.
        grid: where.
        kinds: what the axes end in, see `mode_kinds`.
        own: of the fields with sources affine in their own field the rate of these. Its slope is
            part of $S$.
    """

    fluxes: dict[str, FaceFluxes | None]
    sources: dict[str, Float[Array, "..."] | None]
    grid: Grid = eqx.field()
    kinds: tuple[tuple[str, tuple[str, ...]], ...] = eqx.field(static=True)
    own: dict[str, OwnRate] = eqx.field(default_factory=dict)

    def with_own(self, field: str, rate: OwnRate) -> "AffineTendency":
        """With such a rate besides in the equation of a field that has none yet."""
        return replace(self, own=self.own | {field: rate})

    @property
    def mode_kinds(self) -> Mapping[str, tuple[str, ...]]:
        """See `AbstractTendency`."""
        return dict(self.kinds)

    @property
    def stencils(self) -> dict[str, Stencil | None]:
        """$S$, put together from the fluxes: a few operations on arrays that samples share."""
        return {field: self._stencil(field) for field in self.fluxes}

    def _stencil(self, field: str) -> Stencil | None:
        fluxes, own = self.fluxes[field], self.own.get(field)
        if own is None:
            return None if fluxes is None else fluxes.stencil()
        if fluxes is None:
            nothing = jnp.zeros((), own.slope.dtype)
            return Stencil(own.slope, ((nothing, nothing),) * self.grid.num_axes)
        moving = fluxes.stencil()
        return Stencil(moving.centre + own.slope, moving.sides)

    def __call__(self, state: State) -> State:
        """The rate of change of every field.

        Raises: InputError for a state of other fields or shapes. A batch of states has another
            shape: it would not fail, but mix its samples.
        """
        found = {field: jnp.shape(value) for field, value in state.items()}
        wanted = dict.fromkeys(self.fluxes, self.grid.shape)
        if found != wanted:
            raise InputError(
                f"the state has the fields {found}, the system {wanted}: give each field of the "
                "system, and no other, as one value for each cell. For many samples use jax.vmap."
            )
        rates = {}
        for field, value in state.items():
            fluxes, source = self.fluxes[field], self.sources[field]
            rate = jnp.zeros_like(value) if fluxes is None else flux_rate(fluxes, value)
            if field in self.own:
                rate = rate + self.own[field](value)
            rates[field] = rate if source is None else rate + source
        return rates


@eqx.filter_custom_jvp
def flux_rate(fluxes: FaceFluxes, field: Float[Array, "..."]) -> Float[Array, "..."]:
    """What fluxes do to a field: of its differences, and its derivative by a stencil.

    A large constant in the field leaves no trace in the rate, nor in its derivative in the
    coefficients, which is by faces. Products with the derivative in the field, of which a solver
    forms many, are of increments without one, and read each array once.
    """
    return fluxes.rate(field)


@flux_rate.def_jvp
def _(primals, tangents):
    (fluxes, field), (fluxes_tangent, field_tangent) = primals, tangents
    parts = []
    # What is not differentiated has None for a tangent: nothing is multiplied by zeros.
    if field_tangent is not None:
        by_field = eqx.filter_jvp(fluxes.by_stencil, (field,), (field_tangent,))
        parts.append(by_field[1])
    if jax.tree.leaves(fluxes_tangent):
        by_fluxes = eqx.filter_jvp(lambda each: each.by_faces(field), (fluxes,), (fluxes_tangent,))
        parts.append(by_fluxes[1])
    return flux_rate(*primals), sum(parts[1:], start=parts[0]) if parts else None


def assemble(
    grid: Grid, equations: Mapping[str, tuple[AbstractTerm, ...]], boundaries: Mapping[str, Ends]
) -> AffineTendency:
    """Put terms and boundary conditions together whose coefficients are evaluated.

    The conditions of a field of which no flux is among the terms are left out.
    Raises: InputError for a term that is neither a two-point flux nor a source.
    """
    parts = {
        field: _assemble(grid, field, terms, boundaries[field])
        for field, terms in equations.items()
    }
    return AffineTendency(
        {field: fluxes for field, (fluxes, _) in parts.items()},
        {field: source for field, (_, source) in parts.items()},
        grid,
        tuple((field, mode_kinds(grid, boundaries[field])) for field in equations),
    )


def _assemble(
    grid: Grid, field: str, terms: tuple[AbstractTerm, ...], ends: Ends
) -> tuple[FaceFluxes | None, Float[Array, "..."] | None]:
    fluxes, sources = [], []
    for term in terms:
        if not isinstance(term, AbstractTwoPointFlux | AbstractSource):
            raise InputError(
                f"{type(term).__name__} is neither a two-point flux nor a source: a system cannot "
                "assemble it. Derive the term from AbstractTwoPointFlux, AbstractSource or "
                "AbstractStateTerm."
            )
        with blamed_on(f"{type(term).__name__} in the equation of {field!r}"):
            if isinstance(term, AbstractTwoPointFlux):
                fluxes.append(term.fluxes(grid))
            else:
                sources.append(term.rate(grid))
    if grid.solid is not None:
        sources = [jnp.where(grid.solid, 0, source) for source in sources]
    flux = sum(fluxes[1:], start=fluxes[0]) if fluxes else None
    if flux is not None:
        flux, through_ends = add_boundary_fluxes(grid, field, select_fluxes(terms), ends, flux)
        sources += [] if through_ends is None else [through_ends]
    source = sum(sources[1:], start=sources[0]) if sources else None
    return flux, source


Outer = tuple[tuple[tuple[OuterFace | None, OuterFace | None], ...], ...]
"""For each term with a correction, and each axis, what is at its ends; values affine in the cells.
"""


@final
class CorrectedTendency(AbstractTendency):
    """A linear right-hand side, and what its fluxes add to it that is not linear.

    Attributes:
        linear_part: what preconditioners see of it.
        corrected: for each field the terms with a correction.
        grid: where.
        outer: of the same fields what is in the outer faces, see `evaluate_outer_faces`.
    """

    linear_part: AbstractTendency = eqx.field()
    corrected: dict[str, tuple[AbstractCorrectedFlux, ...]]
    grid: Grid = eqx.field()
    outer: dict[str, Outer]

    @property
    def is_oblique(self) -> bool:
        """Whether gradients along faces move something through them."""
        return any(map(any_oblique, self.corrected.values()))

    @property
    def mode_kinds(self) -> Mapping[str, tuple[str, ...] | None]:
        """See `AbstractTendency`."""
        return self.linear_part.mode_kinds

    def __call__(self, state: State) -> State:
        """The rate of change of every field."""
        rates = self.linear_part(state)
        return add_corrections(rates, self.corrected, self.grid, state, self.outer)


def add_corrections(
    rates: State,
    terms: Mapping[str, Sequence[AbstractCorrectedFlux]],
    grid: Grid,
    state: State,
    outer: Mapping[str, Outer],
) -> State:
    """Rates of change with what the terms' corrections add."""
    rates = dict(rates)
    for field, group in terms.items():
        if not group:
            continue
        value = state[field]
        for term, ends in zip(group, outer[field], strict=True):
            known = faces_at(grid, value, ends)
            rates[field] = rates[field] + term.corrected_rate(grid, value, known)
    return rates


def faces_at(
    grid: Grid, value: Float[Array, "..."], ends: Sequence[tuple[OuterFace | None, ...]]
) -> list[tuple[OuterFace | None, OuterFace | None]]:
    """What is in the outer faces of each axis, evaluated at a field."""

    def at(face: OuterFace | None, axis: int, side: int) -> OuterFace | None:
        if face is None:
            return None
        const, slope = face.value
        found = const + slope * value[cells_at(grid, axis, side)]
        return face._replace(value=jnp.asarray(found, value.dtype))

    return [(at(lower, axis, 0), at(upper, axis, 1)) for axis, (lower, upper) in enumerate(ends)]


def evaluate_outer_faces(
    grid: Grid,
    equations: Mapping[str, Sequence[AbstractTerm]],
    boundaries: Mapping[str, Ends],
) -> dict[str, Outer]:
    """Of the fields with a corrected flux what its terms need to know of the outer faces.

    Args:
        grid: where.
        equations: evaluated, all the terms that move a field among them.
        boundaries: the same.
    """

    def of(term: AbstractCorrectedFlux, field: str) -> tuple[Any, ...]:
        moving = select_fluxes(equations[field])
        return tuple(
            (
                end_face(grid, field, moving, term, lower, axis, 0),
                end_face(grid, field, moving, term, upper, axis, 1),
            )
            for axis, (lower, upper) in enumerate(boundaries[field])
        )

    return {
        field: tuple(of(term, field) for term in corrected)
        for field, terms in equations.items()
        if (corrected := select_corrected(terms))
    }


def select_corrected(terms: Sequence[AbstractTerm]) -> tuple[AbstractCorrectedFlux, ...]:
    """The terms with a part that no stencil holds."""
    fluxes = [term for term in terms if isinstance(term, AbstractCorrectedFlux)]
    return tuple(term for term in fluxes if not term.is_linear)


def any_oblique(terms: Sequence[AbstractTerm]) -> bool:
    """Whether gradients along faces move something through them."""
    return any(term.is_oblique for term in select_fluxes(terms))
