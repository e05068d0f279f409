"""Arrays into the documented layout: the one place that names dimensions and coordinates."""

from collections.abc import Mapping

import numpy as np
import xarray as xr
from numpy.typing import ArrayLike

from impindiff._errors import InputError
from impindiff.data._grids import boundary_of, bounds_name
from impindiff.grid import Axis, Grid


def to_dataset(
    grid: Grid,
    times: ArrayLike,
    fields: Mapping[str, ArrayLike],
    latents: Mapping[str, ArrayLike],
    attributes: Mapping[str, Mapping[str, str]],
    samples: ArrayLike | None = None,
    attrs: Mapping[str, object] | None = None,
) -> xr.Dataset:
    """A dataset on a grid.

    Args:
        grid: the grid of every variable; its cell centres become the space coordinates, and where
            cells differ their faces go with them. Obstacles and cylindrical coordinates are not
            written: they are the system's.
        times: the times, increasing.
        fields: arrays of shape `(sample, time, *grid.shape)`, kept in their dtype.
        latents: arrays of shape `grid.shape`, or `(time, *grid.shape)`; numbers.
        attributes: `units` and `long_name` of every variable. Those of a coordinate may be given
            too; they are "1" and its name by default.
        samples: the samples' ids; counted from 0 by default.
        attrs: attributes of the dataset, such as its title; `boundary` is set here.

    Raises: InputError for an array of another shape, or a variable without attributes.
    """
    times = np.atleast_1d(np.asarray(times, dtype=np.float64))
    arrays = {name: np.asarray(values) for name, values in {**fields, **latents}.items()}
    if samples is None:
        samples = np.arange(len(np.atleast_1d(arrays[next(iter(fields))])) if fields else 0)
    ids = np.asarray(samples)
    sizes = {"sample": ids.size, "time": times.size}
    sizes |= {axis.name: axis.num_cells for axis in grid.axes}
    uneven = {axis.name for axis in grid.axes if not axis.is_uniform}
    steady, varying = grid.names, ("time", *grid.names)

    def variable(name: str, *layouts: tuple[str, ...]) -> tuple:
        shapes = {tuple(sizes[dim] for dim in dims): dims for dims in layouts}
        found = arrays[name].shape
        if found not in shapes:
            allowed = " or ".join(f"{shape} ({', '.join(dims)})" for shape, dims in shapes.items())
            raise InputError(f"{name!r} has the shape {found}; allowed is {allowed}.")
        if missing := {"units", "long_name"} - set(attributes.get(name, {})):
            raise InputError(
                f"{name!r} lacks {' and '.join(sorted(missing))}: "
                f"give attributes={{{name!r}: {{'units': ..., 'long_name': ...}}}}."
            )
        return shapes[found], arrays[name], dict(attributes[name])

    def coordinate(name: str, values: ArrayLike) -> tuple:
        described = {"units": "1", "long_name": name, **attributes.get(name, {})}
        if name in uneven:
            described["bounds"] = bounds_name(name)
        return (name,), values, described

    def faces(axis: Axis) -> tuple:
        described = {"units": "1", "long_name": f"faces of the cells along {axis.name}"}
        described |= {k: v for k, v in attributes.get(axis.name, {}).items() if k == "units"}
        return (axis.name, "bounds"), np.stack([axis.faces[:-1], axis.faces[1:]], 1), described

    return xr.Dataset(
        {name: variable(name, ("sample", *varying)) for name in fields}
        | {name: variable(name, steady, varying, ()) for name in latents},
        coords={
            "sample": coordinate("sample", ids),
            "time": coordinate("time", times),
            **{axis.name: coordinate(axis.name, axis.centres) for axis in grid.axes},
            **{bounds_name(axis.name): faces(axis) for axis in grid.axes if not axis.is_uniform},
        },
        attrs={**(attrs or {}), "boundary": boundary_of(grid)},
    )
