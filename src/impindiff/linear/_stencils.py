"""Operators that couple a cell of a structured grid with its face neighbours.

One coefficient, or for several fields one small matrix, for a cell and for each of its neighbours.
Indices wrap around: where a grid has a boundary, the coefficients that would reach across it are
zero. A product reads each array once, which no chain of face interpolations and divergences does.

The coefficients of an operator that is known by its products only are found by colouring: a cell
and its face neighbours all differ in colour, so that the product with the indicator of one colour
shows, in each cell, one coefficient. As many products as there are colours show all: five for a
large plane grid, whatever its size.
"""

import itertools
from collections.abc import Callable
from typing import Any, Self, final

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from impindiff._errors import InputError
from impindiff._types import Scalar, Vector
from impindiff.linear import _tree as tree

Coefficient = Float[Array, "..."]


def neighbour(field: Float[Array, "*grid"], axis: int, offset: int) -> Float[Array, "*grid"]:
    """The value `offset` cells further along a periodic axis, at every cell."""
    axis, count = axis % field.ndim, field.shape[axis]
    first = offset % count if count else 0
    if first == 0:
        return field

    nothing = jnp.zeros_like(field, shape=())

    def placed(part: Float[Array, "..."], before: int, after: int) -> Float[Array, "..."]:
        widths = [(before, after, 0) if k == axis else (0, 0, 0) for k in range(field.ndim)]
        return jax.lax.pad(part, nothing, widths)

    # Each part among zeros, and their sum. Compilers make one loop of it and what it is used in,
    # where they would write the array that `roll` joins to memory first: less than half the time.
    ahead = jax.lax.slice_in_dim(field, first, count, axis=axis)
    behind = jax.lax.slice_in_dim(field, 0, first, axis=axis)
    return placed(ahead, 0, first) + placed(behind, count - first, 0)


@final
class Stencil(eqx.Module):
    """A linear map between fields of one grid that couples face neighbours.

    Attributes:
        centre: the cell's own coefficient.
        sides: for each axis, the coefficients of the lower and the upper neighbour.

    Coefficients have the grid's shape, or none where they are the same in every cell.
    """

    centre: Coefficient
    sides: tuple[tuple[Coefficient, Coefficient], ...]

    def __call__(self, field: Float[Array, "*grid"]) -> Float[Array, "*grid"]:
        """The product with a field."""
        total = self.centre * field
        for axis, (lower, upper) in enumerate(self.sides):
            total += lower * neighbour(field, axis, -1) + upper * neighbour(field, axis, +1)
        return total

    def __add__(self, other: Self) -> "Stencil":
        """The stencil of the sum of two maps."""
        sides = tuple(
            (lower + more_lower, upper + more_upper)
            for (lower, upper), (more_lower, more_upper) in zip(
                self.sides, other.sides, strict=True
            )
        )
        return Stencil(self.centre + other.centre, sides)

    def transpose(self) -> "Stencil":
        """The stencil of the transposed map: what a cell gave, it now takes."""

        def shifted(coefficient: Coefficient, axis: int, offset: int) -> Coefficient:
            return neighbour(coefficient, axis, offset) if jnp.ndim(coefficient) else coefficient

        sides = tuple(
            (shifted(upper, axis, -1), shifted(lower, axis, +1))
            for axis, (lower, upper) in enumerate(self.sides)
        )
        return Stencil(self.centre, sides)

    def scaled(self, factor: Coefficient) -> "Stencil":
        """The stencil of the map times a factor for each cell."""
        sides = tuple((factor * lower, factor * upper) for lower, upper in self.sides)
        return Stencil(factor * self.centre, sides)

    def shifted_identity(self, weight: Float[Array, ""] | float) -> "Stencil":
        r"""The stencil of $I - w S$, the operator of an implicit step."""
        sides = tuple((-weight * lower, -weight * upper) for lower, upper in self.sides)
        return Stencil(1 - weight * self.centre, sides)


Block = Float[Array, "..."]


@final
class BlockStencil(eqx.Module):
    r"""A linear map between sets of fields on one grid that couples face neighbours.

    $(S u)_i = C_i u_i + \sum_a (L^a_i\,u_{i-1_a} + R^a_i\,u_{i+1_a})$ with a small matrix in place
    of each coefficient of a `Stencil`; indices wrap around.

    Attributes:
        centre: $C$, blocks [row field, column field] at each cell: shape (fields, fields, *grid).
        sides: for each axis $L$ and $R$, at the row's cell.
        structure: of the PyTrees it is applied to, whose leaves are the fields.
    """

    centre: Block
    sides: tuple[tuple[Block, Block], ...]
    structure: Any = eqx.field(static=True)

    def __call__(self, vector: Vector) -> Vector:
        """The product with a PyTree of fields."""
        fields = jnp.stack(jax.tree.leaves(vector))
        total = _apply(self.centre, fields)
        for axis, (lower, upper) in enumerate(self.sides, 1):
            total += _apply(lower, neighbour(fields, axis, -1))
            total += _apply(upper, neighbour(fields, axis, +1))
        return jax.tree.unflatten(self.structure, list(total))

    def transpose(self) -> Self:
        """The transposed map: blocks are transposed, and what a cell gave, it now takes."""

        def turned(block: Block) -> Block:
            return jnp.swapaxes(block, 0, 1)

        sides = tuple(
            (neighbour(turned(upper), axis, -1), neighbour(turned(lower), axis, +1))
            for axis, (lower, upper) in enumerate(self.sides, 2)
        )
        return type(self)(turned(self.centre), sides, self.structure)

    def stencil(self, field: int) -> Stencil:
        """What one field, counted in the order of the leaves, does to itself."""
        sides = tuple((lower[field, field], upper[field, field]) for lower, upper in self.sides)
        return Stencil(self.centre[field, field], sides)


def _apply(block: Block, fields: Float[Array, "..."]) -> Float[Array, "..."]:
    return jnp.sum(block * fields[None], 1)


# Products formed at once hold at most so many numbers; beyond it they come one after the other.
_MOST_AT_ONCE = 2**24
# A linear colouring with more colours than this is no better than one made axis by axis.
_COLOURS_BEYOND_LEAST = 4


def probe(operator: Callable[[Vector], Vector], example: Vector) -> BlockStencil:
    """Recover the coefficients of a linear operator that couples face neighbours only.

    An operator of wider reach gives wrong coefficients without a sign of it: see `reach_error`.
    Where an axis has two cells, the lower and the upper neighbour are one cell, whose joint
    coefficient is given to the lower; where it has one, all belongs to the centre.

    Args:
        operator: takes and returns a PyTree like `example`.
        example: fields of one shape on a 1-D to 3-D grid; only shapes and dtypes are used.

    Raises: InputError for fields of different shapes, or none.
    """
    leaves, structure = jax.tree.flatten(example)
    shapes = {jnp.shape(leaf) for leaf in leaves}
    if len(shapes) != 1 or not 1 <= len(next(iter(shapes))) <= 3:
        raise InputError(
            f"probe: found fields of shapes {sorted(shapes)}; all must have the shape of one 1-D "
            "to 3-D grid. Solve fields of different grids separately, or by a Krylov method."
        )
    shape = shapes.pop()
    colours = _colour(shape)
    count = int(colours.max()) + 1
    dtypes = [jnp.result_type(leaf) for leaf in leaves]

    def product(which):
        colour, field = which // len(leaves), which % len(leaves)
        seed = colours == colour
        unit = [jnp.where(field == k, seed, False).astype(dt) for k, dt in enumerate(dtypes)]
        return jnp.stack(jax.tree.leaves(operator(jax.tree.unflatten(structure, unit))))

    which = jnp.arange(count * len(leaves))
    if which.size * len(leaves) * colours.size <= _MOST_AT_ONCE:
        products = jax.vmap(product)(which)
    else:
        products = jax.lax.map(product, which)
    # [colour, column, row, *grid]: in each cell the entry of a neighbour's colour is its own.
    products = products.reshape(count, len(leaves), len(leaves), *shape)

    def seen(neighbours: np.ndarray):
        index = jnp.asarray(neighbours)[None, None, None]
        block = jnp.take_along_axis(products, index, axis=0)[0]
        return jnp.swapaxes(block, 0, 1)

    nothing = jnp.zeros((len(leaves), len(leaves), *shape), products.dtype)
    sides = tuple(
        (
            seen(np.roll(colours, 1, axis)) if size > 1 else nothing,
            seen(np.roll(colours, -1, axis)) if size > 2 else nothing,
        )
        for axis, size in enumerate(shape)
    )
    return BlockStencil(seen(colours), sides, structure)


def reach_error(
    operator: Callable[[Vector], Vector], stencil: BlockStencil, example: Vector
) -> Scalar:
    """Relative difference of operator and stencil on one random vector; about round-off if none.

    Args:
        operator: what was probed.
        stencil: what `probe` made of it.
        example: a PyTree of the fields' shapes and dtypes.
    """
    random = np.random.default_rng(0)
    vector = jax.tree.map(
        lambda leaf: jnp.asarray(random.standard_normal(jnp.shape(leaf)), jnp.result_type(leaf)),
        example,
    )
    exact = operator(vector)
    length = tree.norm(exact)
    return tree.norm(tree.subtract(exact, stencil(vector))) / jnp.where(length == 0, 1, length)


def _colour(shape: tuple[int, ...]) -> np.ndarray:
    """The colour of each cell, of as few as are found."""
    cells = np.indices(shape)
    least = 1 + sum(min(size - 1, 2) for size in shape)
    for count in range(least, least + _COLOURS_BEYOND_LEAST + 1):
        for weights in itertools.product(range(count), repeat=len(shape)):
            if _is_proper(weights, shape, count):
                return np.tensordot(weights, cells, 1) % count
    # Axis by axis, of which each is coloured for itself: more colours, but they always exist.
    colours = np.zeros(shape, int)
    for axis, size in enumerate(shape):
        line = _colour_ring(size)
        colours = colours * (line.max() + 1) + line[cells[axis]]
    return colours


def _is_proper(weights: tuple[int, ...], shape: tuple[int, ...], count: int) -> bool:
    offsets = [0]
    for weight, size in zip(weights, shape, strict=True):
        if weight * size % count:
            return False
        offsets += [weight, -weight][: min(size - 1, 2)]
    return len({offset % count for offset in offsets}) == len(offsets)


def _colour_ring(size: int) -> np.ndarray:
    """Groups of three and four cells, so that a cell and its two neighbours always differ."""
    if size <= 5:
        return np.arange(size)
    fours = size % 3
    return np.concatenate([np.tile(np.arange(4), fours), np.arange(size - 4 * fours) % 3])
