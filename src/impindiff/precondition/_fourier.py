"""Inverses in the space of modes: of mean coefficients, or of those that vary along one axis."""

from collections.abc import Mapping
from functools import partial
from typing import Any, Self, final

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Inexact, PyTree

from impindiff._errors import InputError, as_count
from impindiff._types import Vector
from impindiff.linear import AbstractInverse, BlockStencil, LineFactors, Stencil, TransposedInverse
from impindiff.precondition._balanced import BalancedInverse, balanced_blocks, balanced_fields
from impindiff.precondition._lines import check_axis, check_blocks, stack_fields
from impindiff.precondition._modes import (
    PERIODIC,
    check_kinds,
    clear_of_ends,
    exchange_symbol,
    for_axes,
    from_modes,
    to_modes,
)
from impindiff.precondition._preconditioner import AbstractPreconditioner, LinearisedStep


@final
class SpectralInverse(AbstractInverse):
    r"""Exact inverse of an operator with constant coefficients on a uniform grid.

    $P^{-1} v = \mathcal T^{-1}(\mathcal T v / \hat a)$ with the operator's symbol $\hat a$ and the
    transform $\mathcal T$ into modes. Where coefficients vary, the inverse for their mean leaves
    what varies for the iteration, whose count then does not grow as the grid is refined.

    Args:
        symbol: for each leaf of the unknown the eigenvalues of the operator, in the layout of
            `jnp.fft.rfftn` over the periodic axes, of full length along the others; see
            `laplacian_symbol`. Complex where the operator is not symmetric along a periodic axis.
            Where one is zero, that component is left as it is.
        kinds: what each axis ends in, one word for all axes or a tuple of a word an axis; a PyTree
            of those, of the unknown's structure, where leaves differ. `periodic`; `neumann`, no
            flux at both ends; `dirichlet`, zero on both outer faces, half a cell from the first
            and last centres; `dirichlet-neumann` and `neumann-dirichlet`, one at the lower and the
            other at the upper end.

    Raises: InputError for another word, for a number of words that is not the number of axes, and
        for a complex symbol without a periodic axis.
    Reference: G. Strang, SIAM Review 41 (1999) 135, for the transforms.
    """

    symbol: PyTree[Inexact[Array, "..."]]
    kinds: tuple[str | tuple[str, ...], ...] = eqx.field(static=True)

    def __init__(self, symbol: PyTree[Inexact[Array, "..."]], kinds: Any = PERIODIC) -> None:
        leaves, structure = jax.tree.flatten(symbol)
        for_all = isinstance(kinds, str) or (
            isinstance(kinds, tuple) and all(isinstance(kind, str) for kind in kinds)
        )
        each = [kinds] * len(leaves) if for_all else structure.flatten_up_to(kinds)
        self.symbol = symbol
        self.kinds = tuple(kind if isinstance(kind, str) else tuple(kind) for kind in each)
        for leaf, kind in zip(leaves, self.kinds, strict=True):
            words = (kind,) if isinstance(kind, str) else kind
            check_kinds(words)
            if PERIODIC not in words and jnp.iscomplexobj(leaf):
                raise InputError(
                    f"SpectralInverse(kinds={kind!r}) with a complex symbol: without a periodic "
                    "axis the modes are real, and so are the eigenvalues. Give the real part, or "
                    "'periodic' for the axes that are."
                )

    def apply(self, vector: Vector) -> Vector:
        """Divide by the symbol in the space of modes."""
        leaves, structure = jax.tree.flatten(vector)
        symbols = structure.flatten_up_to(self.symbol)
        applied = map(_divide, leaves, symbols, self.kinds)
        return structure.unflatten(applied)

    def transpose(self) -> Self:
        """The symbol of a real operator's transpose is the complex conjugate."""
        return eqx.tree_at(lambda p: p.symbol, self, jax.tree.map(jnp.conj, self.symbol))


def _divide(v: Array, symbol: Array, kind: str | tuple[str, ...]) -> Array:
    kinds = for_axes(kind, v.ndim)
    modes = to_modes(v, kinds) / jnp.where(symbol == 0, 1, symbol)
    return from_modes(modes, kinds, v.shape).astype(v.dtype)


Blocks = Inexact[Array, "..."]


@final
class TransformLineInverse(AbstractInverse):
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
        kinds: what each axis ends in, see `SpectralInverse`; the lines' own is not used. The same
            for all fields that move along an axis, for a mode of one is to be a mode of the others.

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
        check_blocks("TransformLineInverse", (centre,), axis)
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
        stacked, structure = stack_fields(
            vector, self.factors.last.shape[0], "TransformLineInverse"
        )
        # Nothing is transformed along the fields and along the lines.
        kinds = (None, *(k if a != self.axis else None for a, k in enumerate(self.kinds)))
        modes = to_modes(stacked, kinds)
        found = self.factors.solve(jnp.moveaxis(modes, self.axis + 1, 0))
        found = from_modes(jnp.moveaxis(found, 0, self.axis + 1), kinds, stacked.shape)
        return structure.unflatten(list(found.astype(stacked.dtype)))

    def transpose(self) -> AbstractInverse:
        """The same operations backwards."""
        return TransposedInverse(self)


@final
class Fourier(AbstractPreconditioner):
    r"""The inverse of $I - w \bar S$, each coefficient replaced by its mean: for stiff steps.

    Exact where coefficients are constant and the conditions at all ends give values or gradients.
    Where coefficients vary by a factor of a few, as they also do on stretched axes, the number of
    iterations depends on how much they vary and not on the step or the grid; where they jump by
    orders of magnitude it is no help. Of a flow along an axis with ends it sees nothing.
    """

    def make(self, operator: LinearisedStep) -> SpectralInverse | BalancedInverse:
        """See `AbstractPreconditioner.make`."""
        parts, weight = operator.field_stencils(), operator.weight
        periodic = {name: PERIODIC in kinds for name, kinds in parts.mode_kinds.items()}

        def symbol(name: str, stencil: Stencil | None) -> Array:
            if stencil is None:
                dtype = jnp.complex64 if periodic[name] else jnp.float32
                return jnp.ones((), jnp.result_type(weight, dtype))
            return 1 - weight * _mean_symbol(stencil, parts.shape, parts.mode_kinds[name])

        symbols = {name: symbol(name, stencil) for name, stencil in parts.stencils.items()}
        inner = SpectralInverse(jax.lax.stop_gradient(symbols), dict(parts.mode_kinds))
        # With equal cells totals are right by themselves: of the mean nothing is exchanged.
        return inner if operator.is_even else balanced_fields(inner, parts, operator)


@final
class TransformLine(AbstractPreconditioner):
    """Exact solves along one axis for all fields, in the modes of the other axes.

    The inverse for coefficients that do not vary but along the axis: those of the Jacobian, found
    by coloured products, are replaced by their means across it. For coupled fields whose
    coefficients vary by orders of magnitude along the axis, and by a factor of a few across it.

    Args:
        axis: number of the axis, counted from zero: `SDIRK2(preconditioner=TransformLine(0))`.

    Raises: InputError where it is used on a grid without that axis, or with fields of which one
        holds a value at an end across the lines and another does not: they have no modes in common;
        and for fields of different shapes.
    """

    axis: int = eqx.field(
        static=True, converter=partial(as_count, what="the axis of TransformLine")
    )

    def make(self, operator: LinearisedStep) -> BalancedInverse:
        """See `AbstractPreconditioner.make`."""
        blocks = operator.blocks()
        check_axis("TransformLine", self.axis, len(blocks.sides))
        kinds = _common_kinds(operator.mode_kinds, self.axis, len(blocks.sides))
        inner = TransformLineInverse(blocks, self.axis, kinds)
        return balanced_blocks(inner, blocks, operator)


def _mean_symbol(
    stencil: Stencil, shape: tuple[int, ...], kinds: tuple[str, ...]
) -> Inexact[Array, "..."]:
    """Eigenvalues of a stencil with each coefficient's mean, in the layout of `SpectralInverse`.

    Args:
        stencil: the stencil.
        shape: the grid's.
        kinds: what each axis ends in.
    """
    rows = stencil.centre + sum(lower + upper for lower, upper in stencil.sides)
    symbol = jnp.mean(jnp.broadcast_to(rows, shape)[clear_of_ends(kinds, shape)])
    last = max((axis for axis, kind in enumerate(kinds) if kind == PERIODIC), default=None)
    for axis, (lower, upper) in enumerate(stencil.sides):
        modes = tuple(-1 if a == axis else 1 for a in range(len(shape)))
        sides, half = (jnp.mean(lower), jnp.mean(upper)), axis == last
        symbol = symbol + exchange_symbol(*sides, kinds[axis], modes, shape[axis], half=half)
    return symbol


def _common_kinds(
    kinds: Mapping[str, tuple[str, ...] | None], axis: int, num_axes: int
) -> tuple[str, ...]:
    """What each axis ends in for all fields that move; the lines' own axis is of no matter."""
    moving = {field: words for field, words in kinds.items() if words is not None}

    def common(number: int) -> str:
        words = {words[number] for words in moving.values()}
        if number == axis or not words:
            return "neumann"
        if len(words) > 1:
            listed = ", ".join(f"{field!r} in {words[number]}" for field, words in moving.items())
            raise InputError(
                f"TransformLine({axis}): fields end axis {number} in different ways, {listed}, and "
                f"have no modes in common. Use BlockLine({axis}), or lines along axis {number}."
            )
        return words.pop()

    return tuple(map(common, range(num_axes)))
