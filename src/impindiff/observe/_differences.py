"""Gradient and divergence of what is given at cell centres, and the volumes they stand for."""

from collections.abc import Sequence
from typing import NamedTuple

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from impindiff.grid import Grid


class Slopes(NamedTuple):
    """Differences across the upper faces of all cells along one axis, zero where one is closed.

    Attributes:
        value: the gradient.
        share: the volume between the two centres, as a share of the open volume.
    """

    value: Float[Array, "..."]
    share: np.ndarray


def open_share(grid: Grid) -> np.ndarray:
    """Volume of each cell over that of all that are not solid; zero in those that are."""
    volumes = grid.cell_volumes()
    if grid.solid is not None:
        volumes = np.where(grid.solid, 0.0, volumes)
    return volumes / volumes.sum()


def face_gradients(values: Float[Array, "..."], grid: Grid) -> list[Slopes]:
    """The gradient along each axis, second order between equal cells."""
    volumes = grid.cell_volumes()
    free = np.ones(grid.shape, bool) if grid.solid is None else ~grid.solid
    total, found = volumes[free].sum(), []
    for axis, row in enumerate(grid.axes):
        halves = row.widths / 2
        distance = grid.spread(halves + np.roll(halves, -1), axis)
        between = (volumes + np.roll(volumes, -1, axis)) / 2
        is_open = free & np.roll(free, -1, axis)
        if not row.periodic:
            is_open &= grid.spread(np.arange(row.num_cells) < row.num_cells - 1, axis)
        slope = (jnp.roll(values, -1, axis) - values) / distance.astype(values.dtype)
        found.append(Slopes(jnp.where(is_open, slope, 0), np.where(is_open, between, 0) / total))
    return found


def divergence(
    velocity: Sequence[Float[Array, "..."]],
    grid: Grid,
    walls: frozenset[tuple[int, int]] = frozenset(),
) -> Float[Array, "..."]:
    """What flows out of each cell per volume, zero in solid ones; see `DivergenceFree`."""
    free = np.ones(grid.shape, bool) if grid.solid is None else ~grid.solid
    total = jnp.zeros(grid.shape, velocity[0].dtype)
    for axis, (along, row) in enumerate(zip(velocity, grid.axes, strict=True)):
        wide = np.roll(row.widths, -1)
        below = grid.spread(wide / (row.widths + wide), axis).astype(along.dtype)
        at_upper = below * along + (1 - below) * jnp.roll(along, -1, axis)
        at_upper = jnp.where(free & np.roll(free, -1, axis), at_upper, 0)
        at_lower = jnp.roll(at_upper, 1, axis)
        if not row.periodic:
            place = grid.spread(np.arange(row.num_cells), axis)
            first, last = (
                0 if (axis, side) in walls else _at_end(along, grid, axis, side) for side in (0, 1)
            )
            at_upper = jnp.where(place == row.num_cells - 1, last, at_upper)
            at_lower = jnp.where(place == 0, first, at_lower)
        measures, faces = grid.cell_measures(axis), grid.face_measures(axis)
        upper = grid.spread(faces[1:] / measures, axis).astype(along.dtype)
        lower = grid.spread(faces[:-1] / measures, axis).astype(along.dtype)
        total += upper * at_upper - lower * at_lower
    return jnp.where(free, total, 0)


def _at_end(along: Float[Array, "..."], grid: Grid, axis: int, side: int) -> Float[Array, "..."]:
    """The values at an outer face, on the straight line through the two cells next to it."""
    cells, widths = grid.shape[axis], grid.axes[axis].widths
    last = cells - 1 if side else 0
    inner = max(cells - 2, 0) if side else min(1, cells - 1)
    outer, before = (jnp.take(along, np.array([at]), axis) for at in (last, inner))
    return outer + (outer - before) * float(widths[last] / (widths[last] + widths[inner]))
