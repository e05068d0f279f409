"""The coefficients of an operator that is known by its products only.

Cells are coloured such that a cell and its face neighbours all differ. The product with the
indicator of one colour then shows, in each cell, one coefficient, and as many products as there
are colours show all: five for a large plane grid, whatever its size.
"""

import itertools
from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np

from impindiff._errors import InputError
from impindiff._types import Scalar, Vector
from impindiff.implicit import _tree as tree
from impindiff.implicit._block_stencil import BlockStencil

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
