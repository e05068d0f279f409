"""A preconditioner of modes along all axes but one, and of lines along that one."""

from typing import final

import equinox as eqx
import jax.numpy as jnp
from jaxtyping import Array, Inexact

from impindiff._types import Vector
from impindiff.implicit._block_line import LineFactors, check_blocks, stack_fields
from impindiff.implicit._block_stencil import BlockStencil
from impindiff.implicit._exchange import clear_of_ends, exchange_symbol
from impindiff.implicit._preconditioner import AbstractPreconditioner, Transposed
from impindiff.implicit._spectral import (
    PERIODIC,
    check_kinds,
    for_axes,
    from_modes,
    to_modes,
)

Blocks = Inexact[Array, "..."]


@final
class TransformLine(AbstractPreconditioner):
    r"""The inverse of an operator whose coefficients vary along one axis only, for all fields.

    Along the other axes a transform takes each field into its modes, waves, sines or cosines; each
    mode is a line of cells with a small matrix for what their fields do to each other, and is
    solved exactly. Of coefficients that also vary along the other axes the mean is taken: the
    iteration is left with the deviation from it, and its count does not grow with step or grid.

    Args:
        stencil: the operator. What a cell exchanges with its neighbours across the lines is a
            multiple of the second difference in each mode; flow along an axis that is not periodic
            is left out.
        axis: number of the lines' axis.
        kinds: what each axis ends in, see `Spectral`; the lines' own is not used. The same for all
            fields that move along an axis, for a mode of one is to be a mode of the others.

    The number of transforms in an application is that of the other axes, twice. Factorised once,
    here, with memory for six matrices in each cell.

    Useful where several fields are coupled strongly, and coefficients vary by orders of magnitude,
    but mainly along one axis: layers, fronts, boundary layers.

    Raises: InputError for another word, another number of them than of axes, an axis that is not
        there, and for an unknown of another number of leaves.
    """

    factors: LineFactors
    kinds: tuple[str, ...] = eqx.field(static=True)
    axis: int = eqx.field(static=True)

    def __init__(self, stencil: BlockStencil, axis: int, kinds: tuple[str, ...]) -> None:
        centre = stencil.centre
        check_blocks("TransformLine", (centre,), axis)
        shape = centre.shape[2:]
        check_kinds(kinds)
        self.kinds, self.axis = for_axes(tuple(kinds), len(shape)), axis
        across = tuple(a + 2 for a in range(len(shape)) if a != axis)

        def mean(blocks: Blocks) -> Blocks:
            return jnp.mean(blocks, across, keepdims=True)

        rows = centre + sum(below + above for below, above in stencil.sides)
        clear = clear_of_ends(self.kinds, shape)
        clear = tuple(slice(None) if a == axis else clear[a] for a in range(len(shape)))
        # The row sums and not the centres are averaged: a cell and its neighbours on the line then
        # still take from each other what they give.
        lower, upper = (mean(side) for side in stencil.sides[axis])
        own = mean(rows[(slice(None), slice(None), *clear)]) - lower - upper
        last = max((a - 2 for a in across if kinds[a - 2] == PERIODIC), default=None)
        for number in (a - 2 for a in across):
            below, above = (mean(side) for side in stencil.sides[number])
            modes = tuple(-1 if a == number + 2 else 1 for a in range(centre.ndim))
            own = own + exchange_symbol(
                below, above, kinds[number], modes, shape[number], half=number == last
            )
        first = [
            jnp.moveaxis(jnp.broadcast_to(part, own.shape).astype(own.dtype), axis + 2, 0)
            for part in (lower, own, upper)
        ]
        self.factors = LineFactors.of(*first)

    def apply(self, vector: Vector) -> Vector:
        """Into modes, along each line, and back."""
        stacked, structure = stack_fields(vector, self.factors.last.shape[0], "TransformLine")
        # Nothing is transformed along the fields and along the lines.
        kinds = (None, *(k if a != self.axis else None for a, k in enumerate(self.kinds)))
        modes = to_modes(stacked, kinds)
        found = self.factors.solve(jnp.moveaxis(modes, self.axis + 1, 0))
        found = from_modes(jnp.moveaxis(found, 0, self.axis + 1), kinds, stacked.shape)
        return structure.unflatten(list(found.astype(stacked.dtype)))

    def transpose(self) -> AbstractPreconditioner:
        """The same operations backwards."""
        return Transposed(self)
