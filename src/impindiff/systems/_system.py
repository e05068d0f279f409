"""Equations put together: fields, the terms that move them, and the grid they live on."""

from collections.abc import Mapping, Sequence
from typing import final

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from impindiff._errors import InputError
from impindiff._types import Scalar, State
from impindiff.grid import Grid
from impindiff.latent import evaluate_latents, latent_values, latents_of
from impindiff.terms import (
    AbstractSource,
    AbstractTerm,
    AbstractTwoPointFlux,
    FaceFluxes,
    Stencil,
)


@final
class System(eqx.Module):
    r"""A semi-discrete system $\dot u_i = \sum_k T_{ik}(u_i)$ of named fields on one grid.

    Args:
        grid: where the fields live.
        equations: for each field, the terms whose sum is its rate of change.

    One PyTree, its learned coefficients included.
    Raises: InputError for no field, an entry that is not a term, or two learned coefficients of
        one name.
    """

    grid: Grid
    equations: dict[str, tuple[AbstractTerm, ...]]

    def __init__(self, grid: Grid, equations: Mapping[str, Sequence[AbstractTerm]]) -> None:
        if not equations:
            raise InputError("a system needs at least one field with its terms.")
        for field, terms in equations.items():
            listed = terms if isinstance(terms, Sequence) else [terms]
            strange = [term for term in listed if not isinstance(term, AbstractTerm)]
            if strange or not listed or listed is not terms:
                raise InputError(
                    f"the equation of {field!r} must be a list of at least one term; found "
                    f"{strange or terms}."
                )
        names = [name for latent in latents_of(equations) for name in latent.names]
        if repeated := {name for name in names if names.count(name) > 1}:
            raise InputError(
                f"{', '.join(sorted(repeated))} stand for more than one learned coefficient: each "
                "is learned apart from the others, so give each a name of its own."
            )
        self.grid = grid
        self.equations = {field: tuple(terms) for field, terms in equations.items()}

    @property
    def fields(self) -> tuple[str, ...]:
        """Names of the fields."""
        return tuple(self.equations)

    def latents(self, time: Scalar | None = None) -> dict[str, Array]:
        """Values of the learned coefficients on the grid, by name."""
        return latent_values(self.equations, self.grid, time)

    def prepare(self, dtype: jnp.dtype) -> "PreparedSystem":
        """Evaluate what is steady; assemble it, if that is everything."""
        equations = evaluate_latents(self.equations, self.grid)
        prepared = PreparedSystem(self.grid, equations, None, dtype)
        if latents_of(equations):
            return prepared
        # Nothing depends on time, so the tendency at any instant serves them all.
        return PreparedSystem(self.grid, equations, prepared.at(jnp.zeros(())), dtype)


@final
class PreparedSystem(eqx.Module):
    """A system whose steady coefficients are arrays."""

    grid: Grid
    equations: dict[str, tuple[AbstractTerm, ...]]
    assembled: "AffineTendency | None"
    dtype: jnp.dtype = eqx.field(static=True)

    @property
    def is_affine(self) -> bool:
        """Whether every term is linear or a source."""
        terms = [term for group in self.equations.values() for term in group]
        return all(isinstance(term, AbstractTwoPointFlux | AbstractSource) for term in terms)

    @property
    def is_steady(self) -> bool:
        """Whether no coefficient depends on time."""
        return self.assembled is not None

    def prepare(self, dtype: jnp.dtype) -> "PreparedSystem":
        """Itself: what is prepared once can stand wherever a system can.

        Raises: InputError for another precision than it was prepared in.
        """
        if dtype != self.dtype:
            raise InputError(f"the system was prepared in {self.dtype}, but is used in {dtype}.")
        return self

    def at(self, time: Scalar) -> "AffineTendency":
        """See `impindiff._types.Dynamics.at`."""
        if self.assembled is not None:
            return self.assembled
        equations = evaluate_latents(self.equations, self.grid, time)
        parts = {field: _assemble(self.grid, terms) for field, terms in equations.items()}
        tendency = AffineTendency(
            {field: fluxes for field, (fluxes, _) in parts.items()},
            {field: source for field, (_, source) in parts.items()},
            self.grid.shape,
            tuple(axis.cell_width for axis in self.grid.axes),
        )
        return jax.tree.map(lambda leaf: jnp.asarray(leaf, self.dtype), tendency)


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


def _assemble(
    grid: Grid, terms: tuple[AbstractTerm, ...]
) -> tuple[FaceFluxes | None, Float[Array, "..."] | None]:
    for term in terms:
        if not isinstance(term, AbstractTwoPointFlux | AbstractSource):
            raise InputError(
                f"{type(term).__name__} is neither a two-point flux nor a source: a system cannot "
                "assemble it. Derive the term from AbstractTwoPointFlux or AbstractSource."
            )
    fluxes = [term.fluxes(grid) for term in terms if isinstance(term, AbstractTwoPointFlux)]
    sources = [term.rate(grid) for term in terms if isinstance(term, AbstractSource)]
    flux = sum(fluxes[1:], start=fluxes[0]) if fluxes else None
    source = sum(sources[1:], start=sources[0]) if sources else None
    return flux, source
