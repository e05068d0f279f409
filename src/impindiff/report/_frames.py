"""Which part of a forecast is shown, and its numbers.

A page of bounded size cannot hold every sample, time and cell of a large forecast. What is left
out is chosen here, by one rule: cells down to a readable picture, then times down to a smooth
film, then samples.
"""

import math
from collections.abc import Hashable, Sequence
from dataclasses import dataclass, replace

import numpy as np
import xarray as xr

from impindiff.data import is_sample_parameter
from impindiff.forecast import is_table
from impindiff.observe import relative_error
from impindiff.report._codes import PixelAxis, pixel_axis

_OUTSIDE_SPACE = ("sample", "time")
_MAX_MAP_PIXELS = 160
_MAX_CURVE_PIXELS = 1000
_SMOOTH_TIMES = 21


@dataclass(frozen=True)
class Variable:
    """A variable of the forecast, with its truth where known.

    Args:
        name: its name in the file.
        forecast: the forecast, or what was inferred.
        truth: the truth, over dimensions among those of the forecast.
        across: of three axes the one that is cut in the middle; the last by default.
    """

    name: str
    forecast: xr.DataArray
    truth: xr.DataArray | None
    across: Hashable | None = None

    @property
    def axes(self) -> list[Hashable]:
        """The axes it is drawn over: two of space, then one that is cut; or else time."""
        space = [name for name in self.forecast.dims if name not in _OUTSIDE_SPACE]
        drawn = [name for name in space if name != self.across]
        space = drawn if len(drawn) == len(space) else [*drawn, self.across]
        return space or [name for name in self.forecast.dims if name == "time"]

    @property
    def is_function(self) -> bool:
        """Whether it is a learned function, over its inputs and not over space."""
        return is_table(self.forecast)

    @property
    def planes(self) -> list["Variable"]:
        """What is drawn of it: in three dimensions a slice across each axis, the last first."""
        if len(self.axes) < 3:
            return [self]
        return [replace(self, across=name) for name in reversed(self.axes)]

    @property
    def num_panels(self) -> int:
        """How many pictures show it: truth, forecast and error, or the forecast alone."""
        return 1 if self.truth is None else 3


@dataclass(frozen=True)
class Selection:
    """What is shown: samples and times by index, and the longest side of a picture in pixels."""

    samples: np.ndarray
    times: np.ndarray
    max_pixels: int


@dataclass(frozen=True)
class Frames:
    """The numbers of one variable: arrays (sample, time, pixels along x[, pixels along y])."""

    forecast: np.ndarray
    truth: np.ndarray | None
    axes: list[PixelAxis]
    is_function: bool = False

    @property
    def aspect(self) -> float:
        """Width over height of the domain; of a curve or a learned function, of the plot."""
        if len(self.axes) < 2:
            return 2.0
        if self.is_function:
            return 1.5
        horizontal, vertical = self.axes
        return (horizontal.high - horizontal.low) / (vertical.high - vertical.low)

    @property
    def drawn_aspect(self) -> float:
        """The aspect kept to what a page can show."""
        return min(max(self.aspect, 0.125), 16.0)


def variables_of(forecast: xr.Dataset) -> tuple[list[Variable], list[Variable]]:
    """The fields, which have a sample axis, and the latents, which have none."""
    names = [str(name) for name in forecast.data_vars]
    truths = {f"{name}_truth" for name in names} & set(names)
    parameters = {name for name in names if is_sample_parameter(forecast[name])}
    found = [
        Variable(name, forecast[name], _truth_of(forecast, name))
        for name in names
        if name not in truths | parameters and forecast[name].dtype.kind in "fiu"
    ]
    fields = [variable for variable in found if "sample" in variable.forecast.dims]
    return fields, [variable for variable in found if "sample" not in variable.forecast.dims]


def select(variables: Sequence[Variable], byte_budget: int) -> Selection:
    """Choose what of these variables fits into so many bytes before base64."""
    maps = [variable for variable in variables if len(variable.axes) > 1]
    curves = [variable for variable in variables if len(variable.axes) == 1]
    num_panels = max(sum(variable.num_panels for variable in maps), 1)
    num_samples, num_times = (_size(variables, name) for name in _OUTSIDE_SPACE)
    # Small enough for at least eight frames, however many variables there are.
    num_maps = num_panels * min(8, num_samples * num_times)
    max_pixels = max(8, min(_MAX_MAP_PIXELS, math.isqrt(byte_budget // num_maps)))
    frame = sum(
        variable.num_panels
        * math.prod(min(variable.forecast.sizes[axis], max_pixels) for axis in variable.axes[:2])
        for variable in maps
    ) + sum(
        2 * variable.num_panels * min(variable.forecast.sizes[axis], _MAX_CURVE_PIXELS)
        for variable in curves
        for axis in variable.axes
    )
    affordable = max(1, byte_budget // max(frame, 1))
    shown_samples = max(1, min(num_samples, affordable // min(num_times, _SMOOTH_TIMES)))
    shown_times = max(1, min(num_times, affordable // shown_samples))
    times = np.unique(np.linspace(num_times - 1, 0, shown_times).round().astype(int))
    return Selection(np.arange(shown_samples), times, max_pixels)


def frames_of(variable: Variable, selection: Selection) -> Frames:
    """The numbers of what was selected; of a third space axis its middle plane."""
    drawn = variable.axes[:2]
    limit = selection.max_pixels if len(drawn) > 1 else _MAX_CURVE_PIXELS
    axes = [pixel_axis(variable.forecast[name].to_numpy(), limit) for name in drawn]
    forecast = _array(variable.forecast, variable, axes, selection)
    if variable.truth is None:
        return Frames(forecast, None, axes, variable.is_function)
    truth = _array(variable.truth, variable, axes, selection)
    truth = np.broadcast_to(truth, forecast.shape)
    return Frames(forecast, truth, axes, variable.is_function)


def errors_of(variable: Variable, selection: Selection) -> list[list[float | None]] | None:
    """The relative L1 error [%] of each frame, over all cells and not the pixels alone.

    None for a frame of which nothing is known, or all is zero; None where there is no truth.
    """
    if variable.truth is None:
        return None
    drawn = variable.axes[:2]
    whole = [PixelAxis(np.arange(variable.forecast.sizes[name]), 0.0, 1.0) for name in drawn]
    samples = selection.samples if "sample" in variable.forecast.dims else [0]
    errors = []
    for sample in samples:
        one = replace(selection, samples=np.array([sample]))
        forecast = _array(variable.forecast, variable, whole, one)[0]
        truth = _array(variable.truth, variable, whole, one)[0]
        truth = np.broadcast_to(truth, forecast.shape)
        known = np.isfinite(truth).reshape(len(truth), -1).any(1)
        with np.errstate(invalid="ignore", over="ignore"):
            percents = 100 * relative_error(forecast, truth, 1, len(drawn))
        percents = np.where(known, percents, np.nan).tolist()
        errors.append([p if math.isfinite(p) else None for p in percents])
    return errors


def middle_plane(variable: Variable) -> str:
    """The plane that `frames_of` cuts a third axis at, as `z = 0.5`; empty if there is none."""
    return ", ".join(
        f"{name} = {float(variable.forecast[name][_middle(variable, name)]):.4g}"
        for name in variable.axes[2:]
    )


def _truth_of(forecast: xr.Dataset, name: str) -> xr.DataArray | None:
    truth = forecast.get(f"{name}_truth")
    if truth is None or not set(truth.dims) <= set(forecast[name].dims):
        return None
    # Where a forecast begins, it is no forecast: with data there alone nothing can be compared.
    later = (
        slice(1, None)
        if truth.sizes.get("time", 1) > 1 and "sample" in truth.dims
        else slice(0, None)
    )
    compared = truth.isel(time=later) if "time" in truth.dims else truth
    return truth if np.isfinite(compared.to_numpy()).any() else None


def _array(
    values: xr.DataArray, variable: Variable, axes: list[PixelAxis], selection: Selection
) -> np.ndarray:
    drawn = variable.axes[:2]
    chosen: dict[Hashable, object] = {"sample": selection.samples, "time": selection.times}
    chosen |= {name: _middle(variable, name) for name in variable.axes[2:]}
    chosen |= {name: axis.cells for name, axis in zip(drawn, axes, strict=True)}
    values = values.isel({name: index for name, index in chosen.items() if name in values.dims})
    order = [name for name in _OUTSIDE_SPACE if name not in drawn] + drawn
    values = values.expand_dims([name for name in order if name not in values.dims])
    array = values.transpose(*order).to_numpy()
    array = array.astype(np.result_type(array, np.float32), copy=False)
    return array[:, np.newaxis] if "time" in drawn else array


def _middle(variable: Variable, name: Hashable) -> int:
    return variable.forecast.sizes[name] // 2


def _size(variables: Sequence[Variable], name: str) -> int:
    sizes = [
        variable.forecast.sizes.get(name, 1) for variable in variables if variable.axes != [name]
    ]
    return max(sizes, default=1)
