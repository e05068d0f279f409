"""Data and precision as a user gives them, known to be what everything else takes them for."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import xarray as xr

from impindiff._errors import InputError


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


def real_precision(dtype: Any) -> jnp.dtype:
    """The precision asked for, if it can be computed in.

    Raises: InputError for float64 where JAX would take float32 instead, or what is not real.
    """
    found = jnp.dtype(dtype)
    if not np.issubdtype(found, np.floating):
        raise InputError(f"dtype is {found}: computations are in float32 or float64.")
    if jax.dtypes.canonicalize_dtype(found) != found:
        raise InputError(
            f"dtype is {found}, but JAX computes in single precision unless it is told otherwise, "
            'before any array is made: jax.config.update("jax_enable_x64", True). Or leave dtype '
            "out, for float32."
        )
    return found
