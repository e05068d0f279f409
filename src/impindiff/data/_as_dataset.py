"""Data as a user gives them, known to be what everything else takes them for."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import xarray as xr

from impindiff._dates import UNITS, as_dates, as_seconds, holds_dates
from impindiff._errors import InputError


def has_dates(dataset: xr.Dataset) -> bool:
    """Whether the times are dates."""
    return "time" in dataset.coords and holds_dates(dataset["time"].values)


def without_dates(dataset: xr.Dataset) -> xr.Dataset:
    """The dataset with seconds since 1970 for its dates, if it has any."""
    if not has_dates(dataset):
        return dataset
    attrs = {"long_name": "time", **dataset["time"].attrs, "units": UNITS}
    found = dataset.assign_coords(time=("time", as_seconds(dataset["time"].values), attrs))
    found.encoding = dict(dataset.encoding)
    return found


def with_dates(dataset: xr.Dataset) -> xr.Dataset:
    """The same the other way round."""
    attrs = {name: value for name, value in dataset["time"].attrs.items() if name != "units"}
    return dataset.assign_coords(time=("time", as_dates(dataset["time"].values), attrs))


def check_is_dataset(given: Any, what: str = "the data") -> None:
    """Refuse a path, an array, or anything else in place of a dataset.

    Raises: InputError.
    """
    if isinstance(given, xr.Dataset):
        return
    if isinstance(given, xr.DataArray):
        remedy = f"array.to_dataset(name={str(given.name or 'c')!r}) makes one of it"
    else:
        remedy = "open_dataset(path) reads one, to_dataset(grid, times, fields) makes one of arrays"
    raise InputError(
        f"{what} must be a dataset of xarray; found {type(given).__name__}"
        f"{f' {str(given)!r:.80}' if isinstance(given, str) else ''}: {remedy}."
    )


def as_dataset(given: Any, what: str = "the data") -> xr.Dataset:
    """A dataset whose times are numbers: dates become seconds since 1970.

    Raises: InputError for anything else than a dataset.
    """
    check_is_dataset(given, what)
    return without_dates(given)


def precision_of(dataset: xr.Dataset) -> jnp.dtype:
    """The precision of what was observed, as far as JAX computes in it.

    Data in single precision are computed with in single precision, as arrays of JAX are; those in
    double precision too, unless `jax_enable_x64` is set. JAX's default precision where the data
    hold no real numbers, or are whole ones.
    """
    found = [
        variable.dtype
        for variable in dataset.data_vars.values()
        if {"sample", "time"} <= set(variable.dims) and np.issubdtype(variable.dtype, np.floating)
    ]
    widest = np.result_type(np.float32, *found) if found else jnp.result_type(float)
    return jnp.dtype(jax.dtypes.canonicalize_dtype(min(widest, np.dtype(np.float64))))


def in_precision(values: np.ndarray, dtype: jnp.dtype, what: str) -> jax.Array:
    """Values of data in the precision that is computed in.

    Raises: InputError where this would make one infinite, or all of them zero.
    """
    values = np.asarray(values)
    with np.errstate(over="ignore", under="ignore"):
        found = values.astype(dtype)
    limits = np.finfo(dtype)
    known = np.isfinite(values) & (values != 0)
    wild = known & ~np.isfinite(found)
    gone = known & (np.abs(found) < limits.tiny)
    if wild.any() or (known.any() and np.array_equal(gone, known)):
        value = values[wild if wild.any() else gone].flat[0]
        raise InputError(
            f"{what} is {value:g} somewhere, and {np.dtype(dtype)} holds magnitudes from "
            f"{limits.tiny:.1g} to {limits.max:.1g}: give the data in another unit, or compute in "
            'double precision, jax.config.update("jax_enable_x64", True) before any array is made.'
        )
    return jnp.asarray(found)
