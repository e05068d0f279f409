"""What instruments would have read of a forecast."""

from collections.abc import Sequence

import jax
import jax.numpy as jnp
import numpy as np
import xarray as xr

from impindiff._errors import InputError
from impindiff.data import BEGUN
from impindiff.grid import Axis, Grid
from impindiff.observe._operator import AbstractObservation


def measure(
    forecast: xr.Dataset,
    grid: Grid | None,
    observe: Sequence[AbstractObservation],
    data: xr.Dataset | None = None,
) -> xr.Dataset:
    """Apply observations to a forecast, to be set beside what was measured.

    Args:
        forecast: as `predict` gives it.
        grid: its grid, as in the system, where there is one.
        observe: what to observe.
        data: what was measured: says where sensors stand that bring no positions, and lends the
            readings its dimensions and coordinates.

    Returns: a variable for each observation, under the name of its data, with the forecast's
        samples and times.
    Raises: InputError for a forecast of another grid or without a field that is observed, or what
        cannot be observed on the grid.
    """
    axes = () if grid is None else grid.axes
    space = ("sample", "time", *(axis.name for axis in axes))
    fields = {str(n): v.values for n, v in forecast.data_vars.items() if v.dims == space}
    if not fields or not all(_lies_on(forecast, axis) for axis in axes):
        raise InputError(
            f"the forecast has the sizes {dict(forecast.sizes)}: it holds no field at the centres "
            f"of the grid, {[axis.num_cells for axis in axes]} cells along {space[2:]}. Give the "
            "grid of the system that made it."
        )
    state = {name: jnp.asarray(values) for name, values in fields.items()}
    made = xr.Dataset(coords={k: forecast[k] for k in ("sample", "time") if k in forecast.coords})
    # When the forecast began, which its times need not show, is when that of its readings did.
    made.attrs |= {k: v for k, v in forecast.attrs.items() if k == BEGUN}
    for each in observe:
        values = np.array(jax.vmap(jax.vmap(each.prepare(grid, data)))(state))
        known = data is not None and each.data in data.variables
        like = data[each.data] if known else None  # pyright: ignore[reportOptionalSubscript]
        dims = [f"{each.data}_{k}" for k in range(values.ndim - 2)]
        if like is not None and like.shape[2:] == values.shape[2:]:
            dims = [str(dim) for dim in like.dims[2:]]
            made = made.assign_coords(
                {k: v for k, v in like.coords.items() if set(v.dims) <= set(dims) and v.dims}
            )
        attributes = {"units": "1", "long_name": each.data.replace("_", " ")}
        attributes |= like.attrs if like is not None else {}
        made[each.data] = (("sample", "time", *dims), values, attributes)
    return made


def _lies_on(forecast: xr.Dataset, axis: Axis) -> bool:
    at = forecast[axis.name].values
    slack = 1e-3 * axis.widths.min()
    return at.shape == axis.centres.shape and np.allclose(at, axis.centres, rtol=0, atol=slack)
