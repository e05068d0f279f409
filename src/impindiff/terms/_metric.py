"""Lengths and areas as the fluxes of a term need them: numbers on even axes, else arrays."""

from typing import NamedTuple

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from impindiff.grid import Grid

# A number leaves the precision to what it meets.
Metric = float | np.ndarray


class CentreDistance(NamedTuple):
    """Two neighbouring centres, the upper of every cell's faces between them.

    Attributes:
        distance: from centre to centre.
        below: share of it that lies below the face.
        above: share of it that lies above.
    """

    distance: Metric
    below: Metric
    above: Metric


def between_centres(grid: Grid, axis: int) -> CentreDistance:
    """The distances across the upper faces; those of the last cells mean something on a ring."""
    row = grid.axes[axis]
    if row.is_uniform:
        return CentreDistance(row.cell_width, 0.5, 0.5)
    halves = row.widths / 2
    distance = halves + np.roll(halves, -1)
    below = grid.spread(halves / distance, axis)
    return CentreDistance(grid.spread(distance, axis), below, 1 - below)


def flux_factor(grid: Grid, axis: int) -> Metric:
    """What a flux through the upper faces is multiplied by: face measure over mean cell measure.

    A product, for compilers make of quotients what they like: what passes an end would then differ
    in the last digit from the same that passes the faces inside.
    """
    if grid.is_even(axis):
        return 1 / grid.axes[axis].cell_width
    factors = grid.face_measures(axis)[1:] / grid.cell_measures(axis).mean()
    return grid.spread(factors, axis)


def end_factor(grid: Grid, axis: int, side: int) -> float:
    """The same of the outer faces at an end."""
    if grid.is_even(axis):
        return 1 / grid.axes[axis].cell_width
    return float(grid.face_measures(axis)[-side] / grid.cell_measures(axis).mean())


def volume_factor(grid: Grid, axis: int) -> np.ndarray | None:
    """Mean cell measure over each cell's own; None where all are equal."""
    if grid.is_even(axis):
        return None
    measures = grid.cell_measures(axis)
    return grid.spread(measures.mean() / measures, axis)


def open_faces(grid: Grid, axis: int) -> np.ndarray | None:
    """Whether anything may pass the upper face of each cell into the next; None where all are open.

    Closed are the faces of solid cells, and those of the last cells on an axis that has an end.
    """
    solid, row = grid.solid, grid.axes[axis]
    if solid is None and row.periodic:
        return None
    free = np.ones(grid.shape, bool) if solid is None else ~solid
    both = free & np.roll(free, -1, axis)
    if not row.periodic:
        both[cells_at(grid, axis, 1)] = False
    return both


def cells_at(grid: Grid, axis: int, side: int) -> tuple[slice, ...]:
    """Index of the cells at an end of an axis, which keeps the axis."""
    last = grid.shape[axis] - 1
    place = slice(last, last + 1) if side else slice(0, 1)
    return tuple(place if k == axis else slice(None) for k in range(grid.num_axes))


def cells_but(grid: Grid, axis: int, side: int) -> tuple[slice, ...]:
    """Index of all cells but those at an end of an axis."""
    rest = slice(None, -1) if side else slice(1, None)
    return tuple(rest if k == axis else slice(None) for k in range(grid.num_axes))


def end_distance(grid: Grid, axis: int, side: int) -> float:
    """From the outermost cell centre to the outer face: half a cell."""
    return float(grid.axes[axis].widths[-side] / 2)


def extrapolate(
    field: Float[Array, "..."], grid: Grid, axis: int, side: int
) -> Float[Array, "..."]:
    """What an array of the grid's shape has at an outer face, linearly from the two last cells."""
    nearest = field[cells_at(grid, axis, side)]
    if grid.shape[axis] == 1:
        return nearest
    index = list(cells_at(grid, axis, side))
    index[axis] = slice(-2, -1) if side else slice(1, 2)
    halves = grid.axes[axis].widths[[-1, -2] if side else [0, 1]] / 2
    return nearest + (nearest - field[tuple(index)]) * float(halves[0] / halves.sum())


def as_metric(values: Metric, coefficient: Float[Array, "..."]) -> Float[Array, "..."]:
    """Lengths in the precision of a coefficient, to which a number leaves it."""
    if isinstance(values, float):
        return jnp.asarray(values)
    return jnp.asarray(values, jnp.result_type(coefficient, float))
