"""A right-hand side with fluxes that are not linear in the field."""

from collections.abc import Mapping, Sequence
from typing import final

import equinox as eqx

from impindiff._types import State, Tendency
from impindiff.grid import Grid
from impindiff.terms import AbstractCorrectedFlux, AbstractTerm, Ended


@final
class CorrectedTendency(eqx.Module):
    """A linear right-hand side, and what its fluxes add to it that is not linear.

    Attributes:
        linear_part: what preconditioners see of it.
        corrected: for each field the terms with a correction.
        grid: where.
    """

    linear_part: Tendency
    corrected: dict[str, tuple[AbstractCorrectedFlux, ...]]
    grid: Grid

    @property
    def mode_kinds(self) -> Mapping[str, tuple[str, ...] | None]:
        """See `impindiff.terms.Ended`."""
        return self.linear_part.mode_kinds if isinstance(self.linear_part, Ended) else {}

    def __call__(self, state: State) -> State:
        """The rate of change of every field."""
        return corrected(self.linear_part(state), self.corrected, self.grid, state)


def corrected(
    rates: State,
    terms: Mapping[str, Sequence[AbstractCorrectedFlux]],
    grid: Grid,
    state: State,
) -> State:
    """Rates of change with what the terms' corrections add."""
    rates = dict(rates)
    for field, group in terms.items():
        for term in group:
            rates[field] = rates[field] + term.corrected_rate(grid, state[field])
    return rates


def corrected_among(terms: Sequence[AbstractTerm]) -> tuple[AbstractCorrectedFlux, ...]:
    """The terms with a part that no stencil holds."""
    fluxes = [term for term in terms if isinstance(term, AbstractCorrectedFlux)]
    return tuple(term for term in fluxes if not term.is_linear)
