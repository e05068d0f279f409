"""Right-hand sides that are affine in the state, assembled from terms."""

from collections.abc import Mapping
from typing import final

import equinox as eqx
import jax.numpy as jnp
from jaxtyping import Array, Float

from impindiff._errors import InputError
from impindiff._types import State
from impindiff.grid import Grid
from impindiff.terms import (
    AbstractSource,
    AbstractTerm,
    AbstractTwoPointFlux,
    FaceFluxes,
    Stencil,
)


@final
class AffineTendency(eqx.Module):
    """$F(u)_i = S_i u_i + s_i$: fluxes and a source for each field, where there are any."""

    fluxes: dict[str, FaceFluxes | None]
    sources: dict[str, Float[Array, "..."] | None]
    shape: tuple[int, ...] = eqx.field(static=True)
    spacing: tuple[float, ...] = eqx.field(static=True)

    @property
    def stencils(self) -> dict[str, Stencil | None]:
        """$S$, put together from the fluxes: a few operations on arrays that samples share."""
        return {
            field: None if fluxes is None else fluxes.stencil()
            for field, fluxes in self.fluxes.items()
        }

    def __call__(self, state: State) -> State:
        """The rate of change of every field.

        Raises: InputError for a state of other fields or shapes. A batch of states has another
            shape: it would not fail, but mix its samples.
        """
        found = {field: jnp.shape(value) for field, value in state.items()}
        wanted = dict.fromkeys(self.fluxes, self.shape)
        if found != wanted:
            raise InputError(
                f"the state has the fields {found}, the system {wanted}: give each field of the "
                "system, and no other, as one value for each cell. For many samples use jax.vmap."
            )
        rates, stencils = {}, self.stencils
        for field, value in state.items():
            stencil, source = stencils[field], self.sources[field]
            rate = jnp.zeros_like(value) if stencil is None else stencil(value)
            rates[field] = rate if source is None else rate + source
        return rates


def assemble(grid: Grid, equations: Mapping[str, tuple[AbstractTerm, ...]]) -> AffineTendency:
    """Put terms together whose coefficients are evaluated.

    Raises: InputError for a term that is neither a two-point flux nor a source.
    """
    parts = {field: _assemble(grid, terms) for field, terms in equations.items()}
    return AffineTendency(
        {field: fluxes for field, (fluxes, _) in parts.items()},
        {field: source for field, (_, source) in parts.items()},
        grid.shape,
        tuple(axis.cell_width for axis in grid.axes),
    )


def _assemble(
    grid: Grid, terms: tuple[AbstractTerm, ...]
) -> tuple[FaceFluxes | None, Float[Array, "..."] | None]:
    for term in terms:
        if not isinstance(term, AbstractTwoPointFlux | AbstractSource):
            raise InputError(
                f"{type(term).__name__} is neither a two-point flux nor a source: a system cannot "
                "assemble it. Derive the term from AbstractTwoPointFlux, AbstractSource or "
                "AbstractStateTerm."
            )
    fluxes = [term.fluxes(grid) for term in terms if isinstance(term, AbstractTwoPointFlux)]
    sources = [term.rate(grid) for term in terms if isinstance(term, AbstractSource)]
    flux = sum(fluxes[1:], start=fluxes[0]) if fluxes else None
    source = sum(sources[1:], start=sources[0]) if sources else None
    return flux, source
