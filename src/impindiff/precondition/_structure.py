r"""What the matrix of an implicit step looks like, in the few numbers that decide how to solve it.

A step inverts $A = q' - w\,\partial F/\partial u$. Its rows are compared in units of what a cell
stores, so that diffusion shows as the diffusion number $D\,w/\Delta x^2$ and flow as the Courant
number $|v|\,w/\Delta x$.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Self, final

import jax
import jax.numpy as jnp
import numpy as np

from impindiff.linear import BlockStencil, Stencil
from impindiff.precondition._field_structure import EXCEPTIONAL, NOTHING, FieldStructure
from impindiff.precondition._preconditioner import LinearisedStep

# Fields that act on each other by less than this share of the largest coefficient are apart.
_WEAK = 1e-3
# Reactions are looked at in so many cells.
_MOST_CELLS = 400


def step_blocks(operator: LinearisedStep) -> BlockStencil:
    r"""The coefficients of $q' - w F'$, with all that fields do to each other.

    Those of an affine right-hand side are put together without a product.

    Args:
        operator: the system. Where fluxes reach beyond neighbours the linear part is taken, if the
            right-hand side names one.
    """
    operator = operator.linear_part()
    stencils, weight, state = operator.tendency.stencils, operator.weight, operator.state
    if stencils is None or operator.grid is None:
        return operator.blocks()
    fields, shape = sorted(state), operator.grid.shape
    nothing = jnp.zeros(shape, jnp.result_type(weight))
    still = Stencil(nothing, ((nothing, nothing),) * len(shape))
    parts = [(stencils[field] or still).shifted_identity(weight) for field in fields]

    def diagonal(values):
        whole = [jnp.broadcast_to(value, shape) for value in values]
        count = range(len(whole))
        return jnp.stack(
            [jnp.stack([whole[i] if i == j else nothing for j in count]) for i in count]
        )

    sides = tuple(
        tuple(diagonal([part.sides[axis][side] for part in parts]) for side in (0, 1))
        for axis in range(len(shape))
    )
    return BlockStencil(
        diagonal([part.centre for part in parts]),
        sides,  # pyright: ignore[reportArgumentType]
        jax.tree.structure(state),
    )


@final
@dataclass(frozen=True)
class Structure:
    r"""The numbers; each is that of the field for which it is largest.

    Attributes:
        shape: of the grid.
        diffusion: for each axis the largest diffusion number.
        flow: for each axis the largest Courant number.
        condition: of $A$ without a preconditioner, about: of its symmetric part.
        cells: for each axis how many cells lie within a diffusion length.
        variation: by how much coefficients vary from cell to cell, where they matter at all.
        across: for each axis by how much they vary across it, which is what is left where lines
            along it are solved exactly.
        peclet: largest ratio of flow to diffusion between two cells.
        coupling: condition of what fields do to each other in a cell.
        anisotropy: ratio of the axes' diffusion numbers in a cell, of all but a tenth of the cells.
        closed: share of inner faces that let nothing pass.
        ends: for each axis whether it has any.
        is_algebraic: whether a field stores nothing.
        num_fields: how many there are.
        reaches: whether there is more to it, of wider reach.
        same_modes: whether all fields that move end in the same way.
    """

    shape: tuple[int, ...]
    diffusion: tuple[float, ...]
    flow: tuple[float, ...]
    condition: float
    cells: tuple[float, ...]
    variation: float
    across: tuple[float, ...]
    peclet: float
    coupling: float
    anisotropy: float
    closed: float
    ends: tuple[bool, ...]
    is_algebraic: bool
    num_fields: int
    reaches: bool
    same_modes: bool

    @classmethod
    def of(
        cls,
        blocks: BlockStencil,
        kinds: Mapping[str, tuple[str, ...] | None],
        volumes: np.ndarray | None,
        reaches: bool = False,
    ) -> Self:
        """Read them from the coefficients. Not under `jit`.

        Args:
            blocks: of all fields, in the order of their sorted names; on the host.
            kinds: what axes end in, see `LinearisedStep.mode_kinds`.
            volumes: of the cells, where they differ.
            reaches: whether the operator reaches beyond what the blocks hold.
        """
        centre = np.asarray(blocks.centre, np.float64)
        sides = [[np.asarray(side, np.float64) for side in pair] for pair in blocks.sides]
        count, shape = len(centre), centre.shape[2:]
        relative = np.ones(shape) if volumes is None else volumes / volumes.mean()
        ends = tuple(
            any(words is not None and words[axis] != "periodic" for words in kinds.values())
            for axis in range(len(shape))
        )
        stated = {words for words in kinds.values() if words is not None}
        within = centre + sum(lower + upper for lower, upper in sides)
        coupling, slow = _reactions(within)
        fields = [
            FieldStructure.of(
                centre[k, k], [[s[k, k] for s in pair] for pair in sides], relative, ends, slow[k]
            )
            for k in range(count)
        ]

        def worst(number) -> float:
            return max(float(number(field)) for field in fields)

        axes = range(len(shape))
        return cls(
            shape,
            tuple(worst(lambda f, a=a: f.diffusion[a].max()) for a in axes),
            tuple(worst(lambda f, a=a: f.flow[a].max()) for a in axes),
            worst(lambda f: f.condition),
            tuple(worst(lambda f, a=a: f.cells(a)) for a in axes),
            worst(lambda f: f.variation(None)),
            tuple(worst(lambda f, a=a: f.variation(a)) for a in axes),
            worst(lambda f: f.peclet),
            coupling,
            worst(lambda f: f.anisotropy),
            worst(lambda f: f.closed),
            ends,
            any(field.is_algebraic for field in fields),
            count,
            reaches,
            len(stated) <= 1,
        )


def _reactions(within: np.ndarray) -> tuple[float, np.ndarray]:
    """The condition of what fields do to each other in the cells, and their slow rates.

    The slow rate of each field is relative to its own: what is fast in a reaction lets its products
    move as slowly as they are stored.

    Args:
        within: row sums, blocks [row field, column field] for each cell.
    """
    count = len(within)
    if count == 1:
        return 1.0, np.ones(1)
    blocks = np.moveaxis(within.reshape(count, count, -1), -1, 0)
    blocks = blocks[:: max(1, len(blocks) // _MOST_CELLS)]
    if not np.isfinite(blocks).all():
        return np.inf, np.ones(count)
    size = np.abs(blocks)
    others = size.sum(2) - np.einsum("nii->ni", size) + size.sum(1) - np.einsum("nii->ni", size)
    coupled = np.flatnonzero(others.max(0) > _WEAK * size.max((0, 1, 2)))
    slow = np.ones(count)
    if len(coupled) < 2:
        return 1.0, slow
    blocks = blocks[:, coupled][:, :, coupled]
    own = np.abs(np.einsum("nii->ni", blocks))
    scale = np.where(own <= NOTHING * np.abs(blocks).max(2), 1, own)
    # Units of fields do not matter: neither do they to eigenvalues.
    values = np.abs(np.linalg.eigvals(blocks / scale[:, :, None]))
    values = np.maximum(values, NOTHING * values.max(1, keepdims=True))
    ratio = np.quantile(values.max(1) / np.maximum(values.min(1), 1e-300), 1 - EXCEPTIONAL)
    slow[coupled] = np.clip(np.median(values.min(1)), 1e-3, 1)
    return float(ratio), slow
