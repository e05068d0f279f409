r"""Fluxes that are linear in the two cells of each face, and their divergence as one stencil."""

from collections.abc import Sequence
from dataclasses import replace
from typing import NamedTuple, Self, final

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from impindiff.grid import Grid
from impindiff.linear import Stencil, neighbour
from impindiff.terms._boundary_face import FluxParts
from impindiff.terms._metric import (
    as_metric,
    cells_at,
    cells_but,
    end_factor,
    flux_factor,
    open_faces,
    volume_factor,
)

FaceCoefficients = tuple[Float[Array, "..."], Float[Array, "..."]]


class EndExchange(NamedTuple):
    """What passes the outer faces of an end, see `FluxParts`; with one cell along the axis."""

    carried: Float[Array, "..."]
    exchange: Float[Array, "..."]
    reference: Float[Array, "..."]


class Correction(NamedTuple):
    """What is added to the linear fluxes across one axis, per unit of area.

    Attributes:
        upper: along the axis, at the upper face of every cell.
        ends: outward through the outer faces of its lower and its upper end; None for nothing.
    """

    upper: Float[Array, "..."]
    ends: tuple[Float[Array, "..."] | None, Float[Array, "..."] | None] = (None, None)

    def rate(self, grid: Grid, axis: int) -> Float[Array, "..."]:
        """The rate of change by it."""
        rate = rate_of(grid, axis, self.upper)
        for side, outward in enumerate(self.ends):
            if outward is not None:
                rate = rate + end_rate(grid, axis, side, outward)
        return rate


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
        carried: for each axis $a + b$, what a flow takes along, exactly zero for diffusion: summed
            from $a$ and $b$ of all fluxes it would be their round-off. Without what is not
            conserved.
        ends: for each axis the `EndExchange` at its lower and its upper end, if any, in the units
            of `along`. Their slopes are part of that.

    On an axis that has ends no face lies between the last cell and the first. Its place is taken by
    the two outer faces: $a\,u_\mathrm{last}$ passes the upper one, $b\,u_\mathrm{first}$ the lower.

    What a step is differentiated with respect to: the gradient for a coefficient is the difference
    of the field times the *difference* of the adjoint between the two cells, see `by_faces`. In
    terms of the stencil's coefficients that would be a difference of two gradients, each summed
    over steps and samples beforehand; where the adjoint is smooth, single precision has nothing
    left of it.
    """

    along: tuple[FaceCoefficients, ...]
    grid: Grid
    carried: tuple[Float[Array, "..."], ...]
    advective: tuple[FaceCoefficients, ...] | None = None
    ends: tuple[tuple["EndExchange | None", "EndExchange | None"], ...] | None = None

    @classmethod
    def inside(
        cls,
        grid: Grid,
        coefficients: Sequence[FaceCoefficients],
        *,
        conservative: bool = True,
        exchange: bool = False,
    ) -> Self:
        """From $(a, b)$ per unit of area on each axis; solid cells and ends let nothing pass.

        Args:
            grid: where.
            coefficients: the pair at the upper face of every cell, for each axis.
            conservative: whether it is the flux that counts, see `advective`.
            exchange: whether $b = -a$. Compilers contract products and sums, so that of $a + b$
                something is left.
        """
        pairs = tuple(
            (through_faces(grid, axis, below), through_faces(grid, axis, above))
            for axis, (below, above) in enumerate(coefficients)
        )
        if conservative:
            carried = [jnp.zeros_like(a) if exchange else a + b for a, b in pairs]
            return cls(pairs, grid, tuple(carried))
        # Zeros rather than nothing: what passes the ends is kept in them.
        nothing = jax.tree.map(jnp.zeros_like, pairs)
        return cls(nothing, grid, tuple(below for below, _ in nothing), pairs)

    def with_end(self, axis: int, side: int, parts: FluxParts) -> Self:
        """With an outward flux per unit of area through the outer faces of one end.

        The part that does not depend on the field is a source and not in it, see `end_rate`.
        """
        factor = end_factor(self.grid, axis, side)
        last, (below, above) = cells_at(self.grid, axis, 1), self.along[axis]
        dtype = below.dtype

        def through(slope: Float[Array, "..."] | float) -> Float[Array, "..."]:
            whole = jnp.broadcast_to(self._beside_free_cells(slope, axis, side), below[last].shape)
            return jnp.asarray(whole * factor, dtype)

        carried, exchange = through(parts.carried), through(parts.exchange)
        if side:
            below = below.at[last].add(carried + exchange)
        else:
            above = above.at[last].add(-(carried + exchange))
        reference = jnp.broadcast_to(jnp.asarray(parts.reference, dtype), exchange.shape)
        nothing = ((None, None),) * self.grid.num_axes
        ends = [list(pair) for pair in (nothing if self.ends is None else self.ends)]
        ends[axis][side] = EndExchange(carried, exchange, reference)
        along = (*self.along[:axis], (below, above), *self.along[axis + 1 :])
        return replace(self, along=along, ends=tuple((lower, upper) for lower, upper in ends))

    def end_rate(
        self, axis: int, side: int, outward: Float[Array, "..."] | float
    ) -> Float[Array, "..."]:
        """The rate of change by a given outward flux through the outer faces of one end."""
        outward = self._beside_free_cells(outward, axis, side)
        return end_rate(self.grid, axis, side, outward)

    def stencil(self) -> Stencil:
        r"""The rate of change $-\sum (f_\mathrm{out} - f_\mathrm{in}) / V$ as one map."""
        centre = jnp.asarray(0.0)  # weakly typed: the coefficients keep their precision
        sides = []
        for axis, (below, above) in enumerate(self.along):
            # The upper face of cell i is the lower face of cell i + 1, with the same flux.
            own = neighbour(above, axis, -1) - below
            if self.advective is not None:
                lower, upper = self.advective[axis]
                own = own + (upper - neighbour(lower, axis, -1))
            factor = volume_factor(self.grid, axis)
            centre = centre + (own if factor is None else as_metric(factor, own) * own)
            sides.append(self._sides(axis))
        return Stencil(centre, tuple(sides))

    def by_stencil(self, field: Float[Array, "..."]) -> Float[Array, "..."]:
        """`rate` as the product with the stencil, and what the ends draw the field to."""
        rate = self.stencil()(field)
        for axis in range(field.ndim):
            for side, end in self._ends_of(axis):
                drawn = end.exchange * end.reference * self._beside(axis, side)
                rate = rate.at[cells_at(self.grid, axis, side)].add(drawn)
        return rate

    def rate(self, field: Float[Array, "..."]) -> Float[Array, "..."]:
        r"""The rate of change of a field, of the differences between neighbours.

        The same map as `by_stencil`, in the order in which round-off is that of differences and not
        of the field. With the stencil's coefficients $l, r$ of the neighbours, for each axis

        $$ l\,(u_\mathrm{below} - u) + r\,(u_\mathrm{above} - u)
           - (c_\mathrm{out} - c_\mathrm{in})\,u, $$

        where $c$ is what a flow carries through the faces. An end takes the neighbour's place:
        there $u_\mathrm{below}$ is the value that the cell is drawn to.
        """
        total, growth = jnp.zeros_like(field), jnp.zeros_like(field)
        for axis, (lower, upper) in enumerate(self._sides(axis) for axis in range(field.ndim)):
            carried = self.carried[axis]
            gained = neighbour(carried, axis, -1) - carried
            beside = [neighbour(field, axis, -1), neighbour(field, axis, +1)]
            slopes = [lower, upper]
            for side, end in self._ends_of(axis):
                place = cells_at(self.grid, axis, side)
                gained = gained.at[place].add(-end.carried)
                slopes[side] = slopes[side].at[place].set(end.exchange * self._beside(axis, side))
                inner = cells_but(self.grid, axis, 1 - side)
                beside[side] = jnp.concatenate(
                    [field[inner], end.reference] if side else [end.reference, field[inner]], axis
                )
            factor = volume_factor(self.grid, axis)
            growth += gained if factor is None else as_metric(factor, gained) * gained
            total += slopes[0] * (beside[0] - field) + slopes[1] * (beside[1] - field)
        return total + growth * field

    def by_faces(self, field: Float[Array, "..."]) -> Float[Array, "..."]:
        r"""The same rate as the divergence of $(a + b)\,u + b\,(u_\mathrm{upper} - u)$.

        For derivatives in the coefficients: that in $b$ is the difference of the field times that
        of the adjoint, so that neither a constant in the field nor a smooth adjoint costs digits.
        """
        total = jnp.zeros_like(field)
        for axis, (_, above) in enumerate(self.along):
            step_up = neighbour(field, axis, +1) - field
            if not self.grid.axes[axis].periodic:
                above = self._without_ends(above, axis)
            flux = self.carried[axis] * field + above * step_up
            own = neighbour(flux, axis, -1) - flux
            if self.advective is not None:
                lower, upper = self.advective[axis]
                own = own - neighbour(lower * step_up, axis, -1) - upper * step_up
            for side, end in self._ends_of(axis):
                place = cells_at(self.grid, axis, side)
                inner = field[place]
                lost = end.carried * inner + end.exchange * (inner - end.reference)
                own = own.at[place].add(-lost)
            factor = volume_factor(self.grid, axis)
            total += own if factor is None else as_metric(factor, own) * own
        return total

    def _sides(self, axis: int) -> FaceCoefficients:
        """The stencil's coefficients of the lower and the upper neighbour; none across ends."""
        below, above = self.along[axis]
        if not self.grid.axes[axis].periodic:
            below, above = (self._without_ends(flux, axis) for flux in (below, above))
        if self.advective is not None:
            lower, upper = self.advective[axis]
            below, above = below + lower, above + upper
        pair = neighbour(below, axis, -1), -above
        factor = volume_factor(self.grid, axis)
        if factor is None:
            return pair
        lower, upper = (as_metric(factor, part) * part for part in pair)
        return lower, upper

    def _ends_of(self, axis: int) -> list[tuple[int, "EndExchange"]]:
        """The ends of an axis at which there is something, each with its side."""
        pair = (None, None) if self.ends is None else self.ends[axis]
        return [(side, end) for side, end in enumerate(pair) if end is not None]

    def _beside(self, axis: int, side: int) -> float:
        """The factor of volume in the cells at an end."""
        measures = self.grid.cell_measures(axis)
        return 1.0 if self.grid.is_even(axis) else float(measures.mean() / measures[-side])

    def __add__(self, other: Self) -> Self:
        """The sum of two fluxes."""
        along = jax.tree.map(jnp.add, self.along, other.along)
        advective = self.advective
        if advective is None or other.advective is None:
            advective = other.advective if advective is None else advective
        else:
            advective = jax.tree.map(jnp.add, advective, other.advective)
        carried = jax.tree.map(jnp.add, self.carried, other.carried)
        return replace(self, along=along, carried=carried, advective=advective)

    def _beside_free_cells(
        self, flux: Float[Array, "..."] | float, axis: int, side: int
    ) -> Float[Array, "..."]:
        solid, flux = self.grid.solid, jnp.asarray(flux)
        return flux if solid is None else jnp.where(solid[cells_at(self.grid, axis, side)], 0, flux)

    def _without_ends(self, flux: Float[Array, "..."], axis: int) -> Float[Array, "..."]:
        inside = flux[cells_but(self.grid, axis, 1)]
        nothing = jnp.zeros_like(flux[cells_at(self.grid, axis, 1)])
        return jnp.concatenate([inside, nothing], axis)


def through_faces(grid: Grid, axis: int, flux: Float[Array, "..."]) -> Float[Array, "..."]:
    """A flux per unit of area, times the area and over the mean volume; zero at closed faces."""
    whole = jnp.broadcast_to(flux * as_metric(flux_factor(grid, axis), flux), grid.shape)
    passable = open_faces(grid, axis)
    return whole if passable is None else jnp.where(passable, whole, 0)


def rate_of(grid: Grid, axis: int, flux: Float[Array, "..."]) -> Float[Array, "..."]:
    """The rate of change by a flux per unit of area through the inner faces across an axis."""
    through = through_faces(grid, axis, flux)
    rate, factor = neighbour(through, axis, -1) - through, volume_factor(grid, axis)
    return rate if factor is None else as_metric(factor, rate) * rate


def end_rate(grid: Grid, axis: int, side: int, outward: Float[Array, "..."]) -> Float[Array, "..."]:
    """The rate of change by a flux per unit of area through the outer faces of one end."""
    area, volume = grid.face_measures(axis)[-side], grid.cell_measures(axis)[-side]
    lost = outward * float(area) / float(volume)
    return jnp.zeros(grid.shape, lost.dtype).at[cells_at(grid, axis, side)].set(-lost)
