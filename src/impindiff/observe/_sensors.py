"""Values at points: the field at cell centres themselves, or interpolated between them."""

from typing import final

import equinox as eqx
import numpy as np
import xarray as xr
from jaxtyping import Array, Float

from impindiff._errors import InputError
from impindiff._types import State
from impindiff.grid import Grid
from impindiff.observe._operator import (
    AbstractObservation,
    AbstractOperator,
    Noise,
    Numbers,
    WeightedSums,
    on_grid,
    read,
)
from impindiff.observe._positions import as_positions, check_inside, in_solid, multilinear, spelled


@final
class CellValues(AbstractOperator):
    """A field as it is, a reading for each cell."""

    field: str = eqx.field(static=True)

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
        last = str(dataset[self.data].dims[-1])
        names = [f"{last}_{axis}" for axis in grid.names]
        if missing := [name for name in names if name not in dataset.variables]:
            raise InputError(
                f"where the sensors of {self.data!r} stand is not known: the dataset lacks "
                f"{', '.join(missing)} along {last!r}. Add them "
                f"(dataset.assign_coords({missing[0]}=({last!r}, values))), or give positions=."
            )
        return np.stack([np.asarray(dataset[name].values, np.float64) for name in names], axis=-1)
