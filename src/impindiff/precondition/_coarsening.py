r"""A coarser grid for a stencil: pairs of cells along one axis become one.

A stencil is taken for what it is in a finite-volume scheme: faces that exchange, and what a cell
keeps for itself. At each face the smaller of the two exchange coefficients is a conductance $g$,
what remains of the larger one is carried by the flow. Between the centres of two coarse cells lie
one fine face and half of the way through either pair, in series,

$$ \frac1G = \frac1{g_\text{between}} + \frac1{2\,g_\text{left}} + \frac1{2\,g_\text{right}}, $$

which halves a uniform conductance and respects one that jumps. Parallel faces, flow, and what cells
keep are summed. Coarse equations are sums of fine ones, so what is conserved stays conserved.
"""

from typing import final

import equinox as eqx
import jax.numpy as jnp
from jaxtyping import Array, Float

from impindiff.linear import Coefficient, Stencil, neighbour

Field = Float[Array, "..."]


@final
class Faces(eqx.Module):
    """A stencil taken apart.

    Attributes:
        kept: column sums, what a cell does not exchange.
        conductance: for each axis $g$ at the upper face of every cell.
        flows: for each axis what goes beyond it: from above to below a face, and from below.
    """

    kept: Field
    conductance: tuple[Field, ...]
    flows: tuple[tuple[Field, Field], ...]

    @classmethod
    def of(cls, stencil: Stencil, shape: tuple[int, ...]) -> "Faces":
        """Take a stencil apart."""

        def whole(coefficient: Coefficient) -> Field:
            return jnp.broadcast_to(coefficient, shape)

        kept, conductance, flows = whole(stencil.centre), [], []
        for axis, (lower, upper) in enumerate(stencil.sides):
            from_above, from_below = -whole(upper), -neighbour(whole(lower), axis, +1)
            kept = kept - from_below - neighbour(from_above, axis, -1)
            both = jnp.maximum(jnp.minimum(from_above, from_below), 0)
            conductance.append(both)
            flows.append((from_above - both, from_below - both))
        return cls(kept, tuple(conductance), tuple(flows))

    def stencil(self) -> Stencil:
        """Put it together again."""
        centre, sides = self.kept, []
        for axis, (both, (from_above, from_below)) in enumerate(
            zip(self.conductance, self.flows, strict=True)
        ):
            above, below = both + from_above, both + from_below
            centre = centre + below + neighbour(above, axis, -1)
            sides.append((-neighbour(below, axis, -1), -above))
        return Stencil(centre, tuple(sides))


@final
class Transfer(eqx.Module):
    """Between a grid and one with half as many cells along an axis; an odd cell stays alone.

    Attributes:
        to_lower: share of the coarse neighbour below in the lower cell of each pair.
        to_upper: share of the coarse neighbour above in the upper cell.
        axis: along which cells were paired.
        cells: how many there were.
    """

    to_lower: Field
    to_upper: Field
    axis: int = eqx.field(static=True)
    cells: int = eqx.field(static=True)

    def prolong(self, coarse: Field) -> Field:
        """Interpolation: linear in the resistance between two coarse centres."""
        lower = coarse + self.to_lower * (neighbour(coarse, self.axis, -1) - coarse)
        upper = coarse + self.to_upper * (neighbour(coarse, self.axis, +1) - coarse)
        pairs = jnp.stack([lower, upper], self.axis + 1)
        shape = list(coarse.shape)
        shape[self.axis] *= 2
        return _take(pairs.reshape(shape), self.axis, slice(self.cells))

    def restrict(self, fine: Field) -> Field:
        """The transpose of `prolong`."""
        lower, upper = _pairs(fine, self.axis, 0.0)
        down, up = self.to_lower * lower, self.to_upper * upper
        stay = lower - down + upper - up
        return stay + neighbour(down, self.axis, +1) + neighbour(up, self.axis, -1)


def coarsen(faces: Faces, axis: int) -> tuple[Faces, Transfer]:
    """Pair the cells of an axis."""
    cells = faces.kept.shape[axis]

    def summed(field: Field) -> Field:
        lower, upper = _pairs(field, axis, 0.0)
        return lower + upper

    def between(field: Field) -> Field:
        """At the upper face of every pair: that of its last cell."""
        lower, upper = _pairs(field, axis, 0.0)
        if cells % 2 == 0:
            return upper
        alone = _take(lower, axis, slice(-1, None))
        return jnp.concatenate([_take(upper, axis, slice(-1)), alone], axis)

    inside = _take(faces.conductance[axis], axis, slice(None, None, 2))
    # Half of the way through a pair; a cell that stays alone is met at its centre.
    half = 0.5 / inside
    if cells % 2:
        half = half.at[_index(axis, slice(-1, None))].set(0)
    resistance = 1 / between(faces.conductance[axis]) + half + neighbour(half, axis, +1)
    joint = 1 / resistance
    # No conductance within a pair: half the way is infinitely far, and each cell keeps to its own.
    reached = jnp.where(jnp.isfinite(half), half, 0)
    transfer = Transfer(reached * neighbour(joint, axis, -1), reached * joint, axis, cells)
    conductance, flows = [], []
    for a, (both, pair) in enumerate(zip(faces.conductance, faces.flows, strict=True)):
        conductance.append(joint if a == axis else summed(both))
        flows.append(tuple(between(f) if a == axis else summed(f) for f in pair))
    return Faces(summed(faces.kept), tuple(conductance), tuple(flows)), transfer


def _pairs(field: Field, axis: int, missing: float) -> tuple[Field, Field]:
    """The lower and the upper cells of all pairs; an odd last one is paired with `missing`."""
    if field.shape[axis] % 2:
        widths = [(0, int(a == axis)) for a in range(field.ndim)]
        field = jnp.pad(field, widths, constant_values=missing)
    return _take(field, axis, slice(0, None, 2)), _take(field, axis, slice(1, None, 2))


def _take(field: Field, axis: int, part: slice) -> Field:
    return field[_index(axis, part)]


def _index(axis: int, part: slice) -> tuple[slice, ...]:
    return (slice(None),) * axis + (part,)
