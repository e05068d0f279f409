"""A right-hand side with fluxes that are not linear in the field."""

from collections.abc import Mapping, Sequence
from typing import final

import equinox as eqx
import jax.numpy as jnp
from jaxtyping import Array

from impindiff._types import AbstractTendency, State
from impindiff.grid import Grid
from impindiff.systems._boundaries import Ends, end_value, fluxes_among
from impindiff.terms import AbstractCorrectedFlux, AbstractTerm, Affine, cells_at

Outer = tuple[tuple[Affine | None, ...], ...]


@final
class CorrectedTendency(AbstractTendency):
    """A linear right-hand side, and what its fluxes add to it that is not linear.

    Attributes:
        linear_part: what preconditioners see of it.
        corrected: for each field the terms with a correction.
        grid: where.
        outer: of the same fields the values in the outer faces, see `outer_values_of`.
    """

    linear_part: AbstractTendency = eqx.field()
    corrected: dict[str, tuple[AbstractCorrectedFlux, ...]]
    grid: Grid = eqx.field()
    outer: dict[str, Outer]

    @property
    def mode_kinds(self) -> Mapping[str, tuple[str, ...] | None]:
        """See `AbstractTendency`."""
        return self.linear_part.mode_kinds

    def __call__(self, state: State) -> State:
        """The rate of change of every field."""
        rates = self.linear_part(state)
        return corrected(rates, self.corrected, self.grid, state, self.outer)


def corrected(
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

        def at_end(affine: Affine | None, axis: int, side: int, value=value) -> Array | None:
            if affine is None:
                return None
            const, slope = affine
            beside = value[cells_at(grid, axis, side)]
            return jnp.asarray(const + slope * beside, value.dtype)

        known = [
            (at_end(lower, axis, 0), at_end(upper, axis, 1))
            for axis, (lower, upper) in enumerate(outer[field])
        ]
        for term in group:
            rates[field] = rates[field] + term.corrected_rate(grid, value, known)
    return rates


def outer_values_of(
    grid: Grid,
    equations: Mapping[str, Sequence[AbstractTerm]],
    boundaries: Mapping[str, Ends],
) -> dict[str, Outer]:
    """Of the fields with a corrected flux the values in the outer faces, affine in the cells.

    Args:
        grid: where.
        equations: evaluated, all the terms that move a field among them.
        boundaries: the same.
    """

    def at(field: str, axis: int, side: int) -> Affine | None:
        condition = boundaries[field][axis][side]
        if condition is None:  # the domain has no end there
            return None
        return end_value(grid, field, fluxes_among(equations[field]), condition, axis, side)

    return {
        field: tuple((at(field, axis, 0), at(field, axis, 1)) for axis in range(grid.num_axes))
        for field, terms in equations.items()
        if corrected_among(terms)
    }


def corrected_among(terms: Sequence[AbstractTerm]) -> tuple[AbstractCorrectedFlux, ...]:
    """The terms with a part that no stencil holds."""
    fluxes = [term for term in terms if isinstance(term, AbstractCorrectedFlux)]
    return tuple(term for term in fluxes if not term.is_linear)
