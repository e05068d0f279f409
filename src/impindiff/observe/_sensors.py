"""Values at points: the field at cell centres themselves, or interpolated between them."""

from itertools import product
from typing import ClassVar, final

import equinox as eqx
import numpy as np
import xarray as xr
from jaxtyping import Array, Float

from impindiff._errors import InputError
from impindiff._types import State, without_mask
from impindiff.grid import Axis, Grid
from impindiff.observe._operator import (
    AbstractObservation,
    AbstractOperator,
    Noise,
    Numbers,
    WeightedSums,
    on_grid,
    read,
)

# Relative to the axis: a position so close to the domain, or to a face, is on it.
_ON_THE_BOUNDARY = 1e-9


def as_positions(grid: Grid, positions: Numbers, whose: str) -> np.ndarray:
    """Positions as an array `(..., axes)`; on a grid of one axis that axis may be left out.

    Raises: InputError for another number of coordinates, or one that is not finite.
    """
    given = np.asarray(without_mask(positions), np.float64)
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


@final
class CellValues(AbstractOperator):
    """A field as it is, a reading for each cell."""

    is_cellwise: ClassVar[bool] = True
    field: str = eqx.field(static=True)

    @property
    def values_of(self) -> str | None:
        """See `AbstractOperator.values_of`."""
        return self.field

    def __call__(self, state: State) -> Float[Array, "..."]:
        """See `AbstractOperator.__call__`."""
        return read(state, self.field)


@final
class Cells(AbstractObservation):
    """A field observed cell by cell, everywhere or in part.

    Args:
        field: the field.
        data: the variable with the dimensions of a field, NaN where not observed; by default that
            of the field's name.
        noise: see `Noise`.
    """

    field: str = eqx.field(static=True)
    data: str = eqx.field(static=True)
    noise: Noise

    def __init__(self, field: str, data: str | None = None, noise: Noise = None) -> None:
        self.field, self.data, self.noise = field, data or field, noise

    def prepare(self, grid: Grid | None, dataset: xr.Dataset | None = None) -> CellValues:
        """See `AbstractObservation.prepare`."""
        return CellValues(self.field)


@final
class Sensors(AbstractObservation):
    r"""A field at points, $\sum_k w_k u_k$ over the cell centres around each.

    Multilinear between centres: the weights are not negative and sum to one. Beyond the outermost
    centre of an axis that ends the nearest value holds; a periodic axis wraps around. Cells in
    obstacles take no part. A sensor on a face of an open cell is in that cell, whichever side of
    the face is solid.

    Args:
        field: the field.
        data: the variable with the dimensions `sample`, `time` and one more, such as `sensor`.
        noise: see `Noise`.
        positions: of the sensors, `(sensor, axes)`; by default the coordinates of the dataset that
            are called after the variable's last dimension and the axes: `sensor_x`, `sensor_y`.

    Accuracy: second order in the cell width, first in the outer half of a cell at an end.
    Raises: InputError, when prepared, for a sensor outside the domain or in an obstacle, or
        positions that are given nowhere.
    """

    field: str = eqx.field(static=True)
    data: str = eqx.field(static=True)
    noise: Noise
    positions: Numbers | None

    def __init__(
        self, field: str, data: str, noise: Noise = None, *, positions: Numbers | None = None
    ) -> None:
        self.field, self.data, self.noise, self.positions = field, data, noise, positions

    def prepare(self, grid: Grid | None, dataset: xr.Dataset | None = None) -> WeightedSums:
        """See `AbstractObservation.prepare`."""
        grid = on_grid(grid, f"Sensors({self.field!r}, data={self.data!r})")
        whose = f"sensor of {self.data!r}, number"
        given = self._in(dataset, grid) if self.positions is None else self.positions
        at = as_positions(grid, given, f"Sensors({self.field!r}, data={self.data!r})")
        at = at.reshape(-1, grid.num_axes)
        check_inside(grid, at, whose)
        inside = np.flatnonzero(in_solid(grid, at))
        if inside.size:
            raise InputError(
                f"{whose} {inside[0]} lies at {spelled(grid, at[inside[0]])}, in a solid cell, "
                "where there is nothing to observe: move it, or leave it out."
            )
        return WeightedSums.make(self.field, *multilinear(grid, at))

    def _in(self, dataset: xr.Dataset | None, grid: Grid) -> np.ndarray:
        if dataset is None or self.data not in dataset.variables:
            raise InputError(
                f"where the sensors of {self.data!r} stand is not known: give positions=, or a "
                "dataset with their coordinates."
            )
        dims = dataset[self.data].dims
        last = str(dims[-1]) if dims else "sensor"  # a lone number is refused as readings
        names = [f"{last}_{axis}" for axis in grid.names]
        if missing := [name for name in names if name not in dataset.variables]:
            raise InputError(
                f"where the sensors of {self.data!r} stand is not known: the dataset lacks "
                f"{', '.join(missing)} along {last!r}. Add them "
                f"(dataset.assign_coords({missing[0]}=({last!r}, values))), or give positions=."
            )
        return np.stack([np.asarray(dataset[name].values, np.float64) for name in names], axis=-1)
