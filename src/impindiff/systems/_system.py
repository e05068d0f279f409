"""Equations put together: fields, the terms that move them, and the grid they live on."""

from collections.abc import Mapping, Sequence
from typing import final

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from impindiff._errors import InputError
from impindiff._types import Scalar, State
from impindiff.grid import Grid, as_coefficients
from impindiff.latent import evaluate_latents, is_evaluated, latent_values, latents_of
from impindiff.systems._boundaries import (
    Ends,
    Given,
    boundary_latents,
    check_boundaries,
    evaluate_boundaries,
    fluxes_among,
    mode_kinds,
    with_boundaries,
)
from impindiff.systems._corrected import CorrectedTendency, corrected_among
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
        boundaries: for each field that moves through faces, and each axis by name that is not
            periodic, the conditions at its ends: `{"c": {"x": (Inflow(1.0), Outflow()), "y":
            NoFlux()}}`. One condition stands for both ends.

    One PyTree, its learned coefficients included.
    Raises: InputError for no field, an entry that is not a term, a boundary condition that is
        missing or superfluous, or two learned coefficients of one name.
    """

    grid: Grid
    equations: dict[str, tuple[AbstractTerm, ...]]
    boundaries: dict[str, Ends]

    def __init__(
        self,
        grid: Grid,
        equations: Mapping[str, Sequence[AbstractTerm]],
        boundaries: Mapping[str, Given] | None = None,
    ) -> None:
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
        ends = check_boundaries(grid, equations, boundaries)
        names = [name for latent in latents_of((equations, ends)) for name in latent.names]
        if repeated := {name for name in names if names.count(name) > 1}:
            raise InputError(
                f"{', '.join(sorted(repeated))} stand for more than one learned coefficient: each "
                "is learned apart from the others, so give each a name of its own."
            )
        self.grid = grid
        self.equations = as_coefficients({field: tuple(ts) for field, ts in equations.items()})
        self.boundaries = as_coefficients(ends)

    @property
    def fields(self) -> tuple[str, ...]:
        """Names of the fields."""
        return tuple(self.equations)

    def latents(self, time: Scalar | None = None) -> dict[str, Array]:
        """Values of the learned coefficients on the grid, by name."""
        inside = latent_values(self.equations, self.grid, time)
        return inside | boundary_latents(self.boundaries, self.grid, time)

    def prepare(self, dtype: jnp.dtype) -> "PreparedSystem":
        """Evaluate what is steady; assemble it, if that is everything."""
        equations = evaluate_latents(self.equations, self.grid)
        boundaries = evaluate_boundaries(self.boundaries, self.grid)
        prepared = PreparedSystem(self.grid, equations, boundaries, None, dtype)
        if not is_evaluated((equations, boundaries)):
            return prepared
        # Nothing depends on time, so the tendency at any instant serves them all.
        assembled = prepared.at(jnp.zeros(()))
        return PreparedSystem(self.grid, equations, boundaries, assembled, dtype)


@final
class PreparedSystem(eqx.Module):
    """A system whose steady coefficients are arrays."""

    grid: Grid
    equations: dict[str, tuple[AbstractTerm, ...]]
    boundaries: dict[str, Ends]
    assembled: "AffineTendency | CorrectedTendency | None"
    dtype: jnp.dtype = eqx.field(static=True)

    @property
    def is_affine(self) -> bool:
        """Whether every term is linear or a source."""
        terms = [term for group in self.equations.values() for term in group]
        linear = all(isinstance(term, AbstractTwoPointFlux | AbstractSource) for term in terms)
        return linear and not corrected_among(terms)

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

    def at(self, time: Scalar) -> "AffineTendency | CorrectedTendency":
        """See `impindiff._types.Dynamics.at`."""
        if self.assembled is not None:
            return self.assembled
        equations = evaluate_latents(self.equations, self.grid, time)
        boundaries = evaluate_boundaries(self.boundaries, self.grid, time)
        parts = {
            field: _assemble(self.grid, field, terms, boundaries[field])
            for field, terms in equations.items()
        }
        tendency = AffineTendency(
            {field: fluxes for field, (fluxes, _) in parts.items()},
            {field: source for field, (_, source) in parts.items()},
            self.grid,
            tuple((field, mode_kinds(self.grid, ends)) for field, ends in boundaries.items()),
        )
        corrected = {field: corrected_among(terms) for field, terms in equations.items()}
        if any(corrected.values()):
            tendency = CorrectedTendency(tendency, corrected, self.grid)
        return jax.tree.map(lambda leaf: jnp.asarray(leaf, self.dtype), tendency)


@final
class AffineTendency(eqx.Module):
    """$F(u)_i = S_i u_i + s_i$: fluxes and a source for each field, where there are any."""

    fluxes: dict[str, FaceFluxes | None]
    sources: dict[str, Float[Array, "..."] | None]
    grid: Grid
    kinds: tuple[tuple[str, tuple[str, ...]], ...] = eqx.field(static=True)

    @property
    def shape(self) -> tuple[int, ...]:
        """See `impindiff.terms.Assembled`."""
        return self.grid.shape

    @property
    def spacing(self) -> tuple[float, ...]:
        """See `impindiff.terms.Assembled`."""
        return self.grid.cell_widths

    @property
    def volumes(self) -> np.ndarray | None:
        """See `impindiff.terms.Assembled`."""
        even = all(map(self.grid.is_even, range(self.grid.num_axes)))
        return None if even else self.grid.cell_volumes()

    @property
    def mode_kinds(self) -> Mapping[str, tuple[str, ...]]:
        """See `impindiff.terms.Assembled`."""
        return dict(self.kinds)

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
    grid: Grid, field: str, terms: tuple[AbstractTerm, ...], ends: Ends
) -> tuple[FaceFluxes | None, Float[Array, "..."] | None]:
    for term in terms:
        if not isinstance(term, AbstractTwoPointFlux | AbstractSource):
            raise InputError(
                f"{type(term).__name__} is neither a two-point flux nor a source: a system cannot "
                "assemble it. Derive the term from AbstractTwoPointFlux or AbstractSource."
            )
    moving = fluxes_among(terms)
    fluxes = [term.fluxes(grid) for term in moving]
    sources = [term.rate(grid) for term in terms if isinstance(term, AbstractSource)]
    if grid.solid is not None:
        sources = [jnp.where(grid.solid, 0, source) for source in sources]
    flux = sum(fluxes[1:], start=fluxes[0]) if fluxes else None
    if flux is not None:
        flux, through_ends = with_boundaries(grid, field, moving, ends, flux)
        sources += [] if through_ends is None else [through_ends]
    source = sum(sources[1:], start=sources[0]) if sources else None
    return flux, source
