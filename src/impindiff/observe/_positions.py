"""Positions in a grid: which cell holds one, and which centres lie around it."""

from itertools import product

import numpy as np

from impindiff._errors import InputError
from impindiff.grid import Axis, Grid
from impindiff.observe._operator import Numbers

# Relative to the axis: a position so close to the domain, or to a face, is on it.
_ON_THE_BOUNDARY = 1e-9


def as_positions(grid: Grid, positions: Numbers, whose: str) -> np.ndarray:
    """Positions as an array `(..., axes)`; on a grid of one axis that axis may be left out.

    Raises: InputError for another number of coordinates, or one that is not finite.
    """
    given = np.asarray(positions, np.float64)
    if grid.num_axes == 1 and (given.ndim == 0 or given.shape[-1] != 1):
        given = given[..., None]
    if given.ndim == 0 or given.shape[-1] != grid.num_axes or not np.all(np.isfinite(given)):
        raise InputError(
            f"{whose} has positions of shape {np.shape(positions)}: each must be "
            f"{grid.num_axes} finite number(s), for {', '.join(grid.names)}."
        )
    return given


def check_inside(grid: Grid, positions: np.ndarray, whose: str) -> None:
    """Refuse a position, in an array `(position, axes)`, that is not in the domain.

    Along a periodic axis there is no outside.
    """
    for number, position in enumerate(positions):
        for axis, at in zip(grid.axes, position, strict=True):
            slack = _ON_THE_BOUNDARY * axis.length
            if not axis.periodic and not axis.lower - slack <= at <= axis.upper + slack:
                raise InputError(
                    f"{whose} {number} lies at {spelled(grid, position)}, outside the domain "
                    f"{domain(grid)}: give positions inside it, in the unit of its coordinates."
                )


def wrapped(axis: Axis, at: np.ndarray) -> np.ndarray:
    """Positions along an axis; on a ring, those of the first turn."""
    return axis.lower + np.mod(at - axis.lower, axis.length) if axis.periodic else at


def cells_of(grid: Grid, positions: np.ndarray) -> tuple[np.ndarray, ...]:
    """Index along each axis of the cells that hold the positions, an array `(position, axes)`."""
    return tuple(
        np.clip(np.searchsorted(axis.faces, wrapped(axis, at), "right") - 1, 0, axis.num_cells - 1)
        for axis, at in zip(grid.axes, positions.T, strict=True)
    )


def in_solid(grid: Grid, positions: np.ndarray) -> np.ndarray:
    """Which positions, in an array `(position, axes)`, touch solid cells only.

    One on a face touches the cells on both sides.
    """
    if grid.solid is None:
        return np.zeros(len(positions), bool)
    along = []
    for axis, at in zip(grid.axes, positions.T, strict=True):
        slack, at = _ON_THE_BOUNDARY * axis.length, wrapped(axis, at)
        sides = [np.searchsorted(axis.faces, at + s, "right") - 1 for s in (-slack, slack)]
        last = axis.num_cells - 1
        along.append([k % axis.num_cells if axis.periodic else np.clip(k, 0, last) for k in sides])
    return np.all([grid.solid[cells] for cells in product(*along)], axis=0)


def multilinear(grid: Grid, positions: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    r"""The centres around each position, and their weights in the multilinear interpolant.

    Beyond the outermost centre of an axis that ends, the nearest value holds. Cells in obstacles
    take no part: the weights of the others are made to sum to one.

    Args:
        grid: the grid.
        positions: `(position, axes)`, inside the domain and none `in_solid`.

    Shapes: returns positions in the flattened array and weights, both `(position, 2^axes)`.
    """
    along = [_pair(axis, at) for axis, at in zip(grid.axes, positions.T, strict=True)]
    cells, weights = [], []
    for corner in product((0, 1), repeat=grid.num_axes):
        index = [along[k][0][side] for k, side in enumerate(corner)]
        cells.append(np.ravel_multi_index(index, grid.shape))
        weights.append(np.prod([along[k][1][side] for k, side in enumerate(corner)], axis=0))
    cells, weights = np.stack(cells, axis=-1), np.stack(weights, axis=-1)
    if grid.solid is not None:
        # The cells that a position touches are among its corners, and of positive weight.
        weights = np.where(grid.solid.ravel()[cells], 0.0, weights)
    return cells, weights / weights.sum(axis=-1, keepdims=True)


def _pair(axis: Axis, at: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The centres below and above each position, and their shares."""
    at, centres = wrapped(axis, at), axis.centres
    if axis.periodic:
        centres = np.concatenate([[centres[-1] - axis.length], centres, [centres[0] + axis.length]])
    below = np.clip(np.searchsorted(centres, at, "right") - 1, 0, max(centres.size - 2, 0))
    above = np.minimum(below + 1, centres.size - 1)
    distance = centres[above] - centres[below]
    share = np.clip((at - centres[below]) / np.where(distance > 0, distance, 1.0), 0.0, 1.0)
    cells = np.stack([below, above])
    if axis.periodic:
        cells = (cells - 1) % axis.num_cells
    return cells, np.stack([1 - share, share])


def spelled(grid: Grid, position: np.ndarray) -> str:
    """A position, for a message."""
    pairs = zip(grid.names, position, strict=True)
    return "(" + ", ".join(f"{name} = {at:g}" for name, at in pairs) + ")"


def domain(grid: Grid) -> str:
    """The domain, for a message."""
    return " x ".join(f"{a.name} in [{a.lower:g}, {a.upper:g}]" for a in grid.axes)
