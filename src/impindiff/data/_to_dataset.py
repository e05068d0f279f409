"""Arrays into the documented layout: the one place that names dimensions and coordinates."""

from collections.abc import Mapping

import numpy as np
import xarray as xr
from numpy.typing import ArrayLike

from impindiff._dates import UNITS, as_seconds, holds_dates
from impindiff._errors import InputError, warn_caller
from impindiff._types import without_mask
from impindiff.data._grids import boundary_of, bounds_name
from impindiff.grid import Axis, Grid


def to_dataset(
    grid: Grid | None,
    times: ArrayLike,
    fields: Mapping[str, ArrayLike],
    latents: Mapping[str, ArrayLike] | None = None,
    attributes: Mapping[str, Mapping[str, str]] | None = None,
    samples: ArrayLike | None = None,
    attrs: Mapping[str, object] | None = None,
    sample_parameters: Mapping[str, ArrayLike] | None = None,
    settings: Mapping[str, ArrayLike] | None = None,
) -> xr.Dataset:
    """Arrays as a dataset, to fit, forecast from or save.

    Args:
        grid: the grid of every variable; its cell centres become the space coordinates, and where
            cells differ their faces go with them. Obstacles and cylindrical coordinates are not
            written: they are the system's. None for a system without: its variables are numbers,
            and grid.shape below is ().
        times: the times, increasing; dates become seconds since 1970.
        fields: arrays of shape `(sample, time, *grid.shape)`, kept in their dtype. Masked entries
            become NaN, as of all arrays that follow.
        latents: the truth of coefficients, where it is known: arrays of shape `grid.shape`, or
            `(time, *grid.shape)`; numbers.
        attributes: `units` and `long_name` of variables and coordinates; "1" and the name by
            default.
        samples: the samples' ids; counted from 0 by default.
        attrs: attributes of the dataset, such as its title; `boundary` is set here.
        sample_parameters: what is known for each sample and differs between samples (see
            `System`): arrays of shape `(sample,)`.
        settings: the same, as version 0.1.0 named it.

    Raises: InputError for an array of another shape.
    """
    if settings is not None:
        warn_caller(
            "to_dataset(settings=...) is to_dataset(sample_parameters=...) now.",
            DeprecationWarning,
        )
        sample_parameters = {**settings, **(sample_parameters or {})}
    if not isinstance(grid, Grid | None) or not isinstance(fields, Mapping):
        raise InputError(
            f"to_dataset is given the grid {grid!r:.40} and the fields {fields!r:.40}: write "
            "to_dataset(grid, times, {'u': values}), or None in place of the grid."
        )
    latents, sample_parameters, texts = latents or {}, sample_parameters or {}, attributes or {}
    axes = () if grid is None else grid.axes
    boundary = {} if grid is None else {"boundary": boundary_of(grid)}
    texts = {"time": {"units": UNITS} if holds_dates(times) else {}, **texts}
    times = np.atleast_1d(as_seconds(times))
    given = {**fields, **sample_parameters, **latents}
    arrays = {name: np.asarray(without_mask(values)) for name, values in given.items()}
    if samples is None:
        samples = np.arange(len(np.atleast_1d(arrays[next(iter(fields))])) if fields else 0)
    ids = np.asarray(samples)
    sizes = {"sample": ids.size, "time": times.size}
    sizes |= {axis.name: axis.num_cells for axis in axes}
    # How wide a single cell is its centre does not say.
    bounded = [axis for axis in axes if axis.num_cells == 1 or not axis.is_uniform]
    with_bounds = {axis.name for axis in bounded}
    steady = tuple(axis.name for axis in axes)
    varying = ("time", *steady)

    def described(name: str) -> dict[str, str]:
        return {"units": "1", "long_name": name, **texts.get(name, {})}

    def variable(name: str, *layouts: tuple[str, ...]) -> tuple:
        shapes = {tuple(sizes[dim] for dim in dims): dims for dims in layouts}
        found = arrays[name].shape
        if found not in shapes:
            allowed = " or ".join(f"{shape} ({', '.join(dims)})" for shape, dims in shapes.items())
            raise InputError(f"{name!r} has the shape {found}; allowed is {allowed}.")
        return shapes[found], arrays[name], described(name)

    def coordinate(name: str, values: ArrayLike) -> tuple:
        bounds = {"bounds": bounds_name(name)} if name in with_bounds else {}
        return (name,), values, described(name) | bounds

    def faces(axis: Axis) -> tuple:
        units = described(axis.name)["units"]
        said = {"units": units, "long_name": f"faces of the cells along {axis.name}"}
        return (axis.name, "bounds"), np.stack([axis.faces[:-1], axis.faces[1:]], 1), said

    return xr.Dataset(
        {name: variable(name, ("sample", *varying)) for name in fields}
        | {name: variable(name, ("sample",)) for name in sample_parameters}
        | {name: variable(name, steady, varying, ()) for name in latents},
        coords={
            "sample": coordinate("sample", ids),
            "time": coordinate("time", times),
            **{axis.name: coordinate(axis.name, axis.centres) for axis in axes},
            **{bounds_name(axis.name): faces(axis) for axis in bounded},
        },
        attrs={**(attrs or {}), **boundary},
    )
