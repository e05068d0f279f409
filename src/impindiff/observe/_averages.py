r"""Averages along a line of sight and over a volume, and totals.

A cell's value is the field's mean over the cell, so that a field is constant in each cell as far as
an average is concerned. The average along a line is then exactly a sum over the cells it passes,
each with its share of the length.
"""

from typing import final

import equinox as eqx
import jax.numpy as jnp
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
from impindiff.observe._sensors import as_positions, cells_of, check_inside, spelled


@final
class LineAverage(AbstractObservation):
    r"""The mean along a straight segment, $\frac{1}{|\ell|}\int_\ell u\,\mathrm{d}s$.

    Exact for a field that is constant in each cell. What of the line lies in obstacles is left out
    of both integral and length. Along a periodic axis the line may reach beyond the domain, and
    goes around. In cylindrical coordinates it is a line in the half-plane of $r$ and $z$, in
    spherical ones a part of a radius. A line that runs along faces counts to the cells above them.

    Args:
        field: the field.
        data: the variable with the dimensions `sample` and `time`; with one more, such as `beam`,
            where there are several lines.
        noise: see `Noise`.
        start: where the line begins, a coordinate for each axis; or an array `(beam, axes)`.
        end: where it ends; as many.

    Raises: InputError, when prepared, for a line without length, one that leaves the domain, or
        one that is all in an obstacle.
    """

    field: str = eqx.field(static=True)
    data: str = eqx.field(static=True)
    noise: Noise
    start: Numbers
    end: Numbers

    def __init__(
        self, field: str, data: str, noise: Noise = None, *, start: Numbers, end: Numbers
    ) -> None:
        self.field, self.data, self.noise = field, data, noise
        self.start, self.end = start, end

    def prepare(self, grid: Grid | None, dataset: xr.Dataset | None = None) -> WeightedSums:
        """See `AbstractObservation.prepare`."""
        whose = f"LineAverage({self.field!r}, data={self.data!r})"
        grid = on_grid(grid, whose)
        start, end = (as_positions(grid, at, whose) for at in (self.start, self.end))
        if start.shape != end.shape:
            raise InputError(
                f"{whose} has start {start.shape} and end {end.shape}: give one end to each start."
            )
        pairs = (start.reshape(-1, grid.num_axes), end.reshape(-1, grid.num_axes))
        for at in pairs:
            check_inside(grid, at, f"an end of the line of {self.data!r}, number")
        lines = [_passed(grid, *pair, whose) for pair in zip(*pairs, strict=True)]
        most = max(len(cells) for cells, _ in lines)
        shape = (*start.shape[:-1], most)
        cells, weights = (
            np.stack([np.pad(line[part], (0, most - len(line[part]))) for line in lines])
            for part in (0, 1)
        )
        return WeightedSums.make(self.field, cells.reshape(shape), weights.reshape(shape))


def _passed(
    grid: Grid, start: np.ndarray, end: np.ndarray, whose: str
) -> tuple[np.ndarray, np.ndarray]:
    """The cells that a segment passes, and the share of its open length in each."""
    if np.array_equal(start, end):
        raise InputError(
            f"{whose} begins and ends at {spelled(grid, start)}: a line needs a length. For a "
            "point use Sensors."
        )
    cuts = [np.array([0.0, 1.0])]
    for axis, low, high in zip(grid.axes, start, end, strict=True):
        if low != high:
            cuts.append((_faces_between(axis, low, high) - low) / (high - low))
    at = np.unique(np.clip(np.concatenate(cuts), 0.0, 1.0))
    middles = start + ((at[1:] + at[:-1]) / 2)[:, None] * (end - start)
    cells = np.ravel_multi_index(cells_of(grid, middles), grid.shape)
    # A line may come by a cell more than once: on a ring, or by round-off at a corner.
    each, place = np.unique(cells, return_inverse=True)
    lengths = np.bincount(place, np.diff(at))
    if grid.solid is not None:
        lengths = np.where(grid.solid.ravel()[each], 0.0, lengths)
    if lengths.sum() == 0:
        raise InputError(
            f"{whose} lies from {spelled(grid, start)} to {spelled(grid, end)} all in solid cells, "
            "where there is nothing to observe: move it, or leave it out."
        )
    return each, lengths / lengths.sum()


def _faces_between(axis: Axis, low: float, high: float) -> np.ndarray:
    """The faces of an axis that a line from `low` to `high` comes by, those of other turns too."""
    if not axis.periodic:
        return axis.faces
    first, last = (np.floor((at - axis.lower) / axis.length) for at in sorted((low, high)))
    turns = np.arange(first, last + 1) * axis.length
    return (axis.faces + turns[:, None]).ravel()


@final
class MeanOver(AbstractOperator):
    """One reading: the sum of a field, or an integral over time, with a weight for each cell."""

    field: str = eqx.field(static=True)
    weights: Float[Array, "..."]

    @property
    def reads(self) -> tuple[str, ...]:
        """See `AbstractOperator.reads`."""
        return (self.field,)

    def __call__(self, state: State) -> Float[Array, "..."]:
        """See `AbstractOperator.__call__`."""
        values = read(state, self.field)
        return jnp.sum(jnp.asarray(self.weights, values.dtype) * values)


def _as_weight(weight: Numbers, whose: str) -> np.ndarray:
    """The weight of each cell.

    Raises: InputError for what is no number.
    """
    try:
        return np.asarray(without_mask(weight), np.float64)
    except (TypeError, ValueError):
        raise InputError(f"{whose} has the weight {weight!r:.60}: give numbers.") from None


@final
class VolumeAverage(AbstractObservation):
    r"""The mean over a volume, $\sum_c w_c V_c u_c / \sum_c w_c V_c$, obstacles left out.

    Args:
        field: the field.
        data: the variable with the dimensions `sample` and `time`.
        noise: see `Noise`.
        weight: $w$, an array or a mask of the grid's shape; one everywhere by default.

    Raises: InputError, when prepared, for a weight of another shape, one that is negative or not
        finite, or none in any open cell.
    """

    field: str = eqx.field(static=True)
    data: str = eqx.field(static=True)
    noise: Noise
    weight: Numbers | None

    def __init__(
        self, field: str, data: str, noise: Noise = None, *, weight: Numbers | None = None
    ) -> None:
        self.field, self.data, self.noise, self.weight = field, data, noise, weight

    def prepare(self, grid: Grid | None, dataset: xr.Dataset | None = None) -> MeanOver:
        """See `AbstractObservation.prepare`."""
        whose = f"VolumeAverage({self.field!r}, data={self.data!r})"
        grid = on_grid(grid, whose)
        weight = np.ones(grid.shape) if self.weight is None else _as_weight(self.weight, whose)
        usable = weight.shape == grid.shape and np.all(np.isfinite(weight) & (weight >= 0))
        share = weight * grid.cell_volumes() if usable else np.zeros(grid.shape)
        if grid.solid is not None:
            share[grid.solid] = 0
        if not share.any():
            raise InputError(
                f"{whose} has a weight of shape {weight.shape}: it must have the grid's shape "
                f"{grid.shape}, be finite and nowhere negative, and be positive in some cell that "
                "is not solid."
            )
        return MeanOver(self.field, jnp.asarray(share / share.sum(), float))


@final
class VolumeIntegral(AbstractObservation):
    r"""The total over a volume, $\sum_c w_c V_c u_c$, obstacles left out.

    Of an integral over time it is what a meter has counted: `VolumeIntegral("collected", data)`
    with `System(..., integrals={"collected": [...]})`.

    Args:
        field: the field, or an integral over time of the system, which starts at 0 with it.
        data: the variable with the dimensions `sample` and `time`.
        noise: see `Noise`.
        weight: $w$ of either sign, a number, or an array or a mask of the grid's shape.

    Raises: InputError, when prepared, for a weight of another shape or one that is not finite, or
        none in any open cell.
    """

    field: str = eqx.field(static=True)
    data: str = eqx.field(static=True)
    noise: Noise
    weight: Numbers

    def __init__(
        self, field: str, data: str, noise: Noise = None, *, weight: Numbers = 1.0
    ) -> None:
        self.field, self.data, self.noise, self.weight = field, data, noise, weight

    def prepare(self, grid: Grid | None, dataset: xr.Dataset | None = None) -> MeanOver:
        """See `AbstractObservation.prepare`."""
        whose = f"VolumeIntegral({self.field!r}, data={self.data!r})"
        grid = on_grid(grid, whose)
        weight = _as_weight(self.weight, whose)
        usable = weight.shape in ((), grid.shape) and bool(np.all(np.isfinite(weight)))
        part = weight * grid.cell_volumes() if usable else np.zeros(grid.shape)
        if grid.solid is not None:
            part[grid.solid] = 0
        if not part.any():
            raise InputError(
                f"{whose} has a weight of shape {weight.shape}: it must be a number or have the "
                f"grid's shape {grid.shape}, be finite, and not be zero in every open cell."
            )
        return MeanOver(self.field, jnp.asarray(part, float))
