r"""Fluxes that are linear in the two cells of each face, and their divergence as one stencil."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Self, final

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from impindiff.grid import Grid
from impindiff.implicit import Stencil, neighbour
from impindiff.terms._metric import as_metric, cells_at, flux_length, open_faces, volume_factor

FaceCoefficients = tuple[Float[Array, "..."], Float[Array, "..."]]


@final
class FaceFluxes(eqx.Module):
    r"""The flux $f = a\,u_\mathrm{lower} + b\,u_\mathrm{upper}$ through every face.

    Attributes:
        along: for each axis the pair $(a, b)$ at the upper face of every cell, times the face's
            area and over the mean of the cells' volumes, of the grid's shape.
        grid: where.
        advective: pairs of the same kind for what is not conserved: each cell takes
            $(a + b)\,u$ with its own $u$ from the flux through each of its faces, so that
            $b\,(u_\mathrm{upper} - u_\mathrm{lower})$ remains at its upper face and
            $a\,(u_\mathrm{lower} - u_\mathrm{upper})$ at its lower one. None where there is nothing
            of the kind.

    On an axis that has ends no face lies between the last cell and the first. Its place is taken by
    the two outer faces: $a\,u_\mathrm{last}$ passes the upper one, $b\,u_\mathrm{first}$ the lower.

    What a step is differentiated with respect to: the gradient for a coefficient is $u$ times the
    *difference* of the adjoint between the two cells. In terms of the stencil's coefficients that
    would be a difference of two gradients, each summed over steps and samples beforehand; where
    the adjoint is smooth, single precision has nothing left of it.
    """

    along: tuple[FaceCoefficients, ...]
    grid: Grid
    advective: tuple[FaceCoefficients, ...] | None = None

    @classmethod
    def inside(
        cls, grid: Grid, coefficients: Sequence[FaceCoefficients], conservative: bool = True
    ) -> Self:
        """From $(a, b)$ per unit of area on each axis; solid cells and ends let nothing pass."""
        pairs = tuple(
            (through_faces(grid, axis, below), through_faces(grid, axis, above))
            for axis, (below, above) in enumerate(coefficients)
        )
        if conservative:
            return cls(pairs, grid)
        # Zeros rather than nothing: what passes the ends is told in them.
        return cls(jax.tree.map(jnp.zeros_like, pairs), grid, pairs)

    def with_end(self, axis: int, side: int, slope: Float[Array, "..."] | float) -> Self:
        """With the outward flux `slope * u` per unit of area through the outer faces of one end."""
        factor = self._end_area(axis, side) / float(self.grid.cell_measures(axis).mean())
        last, (below, above) = cells_at(self.grid, axis, 1), self.along[axis]
        through = self._beside_free_cells(slope, axis, side) * factor
        if side:
            below = below.at[last].add(jnp.asarray(through, below.dtype))
        else:
            above = above.at[last].add(jnp.asarray(-through, above.dtype))
        return eqx.tree_at(lambda fluxes: fluxes.along[axis], self, (below, above))

    def end_rate(
        self, axis: int, side: int, outward: Float[Array, "..."] | float
    ) -> Float[Array, "..."]:
        """The rate of change by a given outward flux through the outer faces of one end."""
        measure = float(self.grid.cell_measures(axis)[-side])
        lost = self._beside_free_cells(outward, axis, side) * self._end_area(axis, side) / measure
        return jnp.zeros(self.grid.shape, lost.dtype).at[cells_at(self.grid, axis, side)].set(-lost)

    def stencil(self) -> Stencil:
        r"""The rate of change $-\sum (f_\mathrm{out} - f_\mathrm{in}) / V$ as one map."""
        centre = jnp.asarray(0.0)  # weakly typed: the coefficients keep their precision
        sides = []
        for axis, (below, above) in enumerate(self.along):
            # The upper face of cell i is the lower face of cell i + 1, with the same flux.
            own = neighbour(above, axis, -1) - below
            if not self.grid.axes[axis].periodic:
                below, above = (self._without_ends(flux, axis) for flux in (below, above))
            if self.advective is not None:
                lower, upper = self.advective[axis]
                own = own + (upper - neighbour(lower, axis, -1))
                below, above = below + lower, above + upper
            pair = (neighbour(below, axis, -1), -above)
            factor = volume_factor(self.grid, axis)
            if factor is not None:
                own, *pair = (as_metric(factor, part) * part for part in (own, *pair))
            centre = centre + own
            sides.append(tuple(pair))
        return Stencil(centre, tuple(sides))

    def rate(self, field: Float[Array, "..."]) -> Float[Array, "..."]:
        r"""The rate of change of a field, of the differences between neighbours.

        The same map as `stencil`, in the order in which round-off is that of the differences $d =
        u_\mathrm{upper} - u_\mathrm{lower}$ and not of the field: with $c = a + b$ at each face

        $$ -(b\,d)_\mathrm{out} - (a\,d)_\mathrm{in} - (c_\mathrm{out} - c_\mathrm{in})\,u. $$

        Of diffusion $c$ is exactly zero, and what leaves a cell enters the next; of a uniform wind
        its difference is. A product with the stencil is faster where the field has no offset, as
        the increments of a solver have none.
        """
        total = jnp.zeros_like(field)
        for axis, (below, above) in enumerate(self.along):
            difference = neighbour(field, axis, +1) - field
            inner, at_ends = (below, above), None
            if not self.grid.axes[axis].periodic:
                inner = tuple(self._without_ends(flux, axis) for flux in (below, above))
                difference = self._without_ends(difference, axis)
                at_ends = self._end_slopes(axis)
            carried = inner[0] + inner[1]
            rate = -inner[1] * difference - neighbour(inner[0] * difference, axis, -1)
            # With what passes the ends: what a uniform flow brings in there it takes out elsewhere.
            gained = neighbour(carried, axis, -1) - carried
            rate += (gained if at_ends is None else gained + at_ends) * field
            if self.advective is not None:
                lower, upper = self.advective[axis]
                rate -= upper * difference + neighbour(lower * difference, axis, -1)
            factor = volume_factor(self.grid, axis)
            total += rate if factor is None else as_metric(factor, rate) * rate
        return total

    def _end_slopes(self, axis: int) -> Float[Array, "..."]:
        """What the outer faces of an axis add to the stencil's centre, before volumes."""
        first, last = (cells_at(self.grid, axis, side) for side in (0, 1))
        below, above = self.along[axis]
        # The pair of the last cells is that of the two outer faces.
        slopes = jnp.zeros(self.grid.shape, below.dtype)
        return slopes.at[first].add(above[last]).at[last].add(-below[last])

    def __add__(self, other: Self) -> Self:
        """The sum of two fluxes."""
        along = jax.tree.map(jnp.add, self.along, other.along)
        advective = self.advective
        if advective is None or other.advective is None:
            advective = other.advective if advective is None else advective
        else:
            advective = jax.tree.map(jnp.add, advective, other.advective)
        return replace(self, along=along, advective=advective)

    def _end_area(self, axis: int, side: int) -> float:
        return float(self.grid.face_measures(axis)[-side])

    def _beside_free_cells(
        self, flux: Float[Array, "..."] | float, axis: int, side: int
    ) -> Float[Array, "..."]:
        solid, flux = self.grid.solid, jnp.asarray(flux)
        return flux if solid is None else jnp.where(solid[cells_at(self.grid, axis, side)], 0, flux)

    def _without_ends(self, flux: Float[Array, "..."], axis: int) -> Float[Array, "..."]:
        inside = jax.lax.slice_in_dim(flux, 0, flux.shape[axis] - 1, axis=axis)
        nothing = jnp.zeros_like(flux[cells_at(self.grid, axis, 1)])
        return jnp.concatenate([inside, nothing], axis)


def through_faces(grid: Grid, axis: int, flux: Float[Array, "..."]) -> Float[Array, "..."]:
    """A flux per unit of area, times the area and over the mean volume; zero at closed faces."""
    whole = jnp.broadcast_to(flux / as_metric(flux_length(grid, axis), flux), grid.shape)
    passable = open_faces(grid, axis)
    return whole if passable is None else jnp.where(passable, whole, 0)


def rate_of(grid: Grid, axis: int, flux: Float[Array, "..."]) -> Float[Array, "..."]:
    """The rate of change by a flux per unit of area through the inner faces across an axis."""
    through = through_faces(grid, axis, flux)
    rate, factor = neighbour(through, axis, -1) - through, volume_factor(grid, axis)
    return rate if factor is None else as_metric(factor, rate) * rate
