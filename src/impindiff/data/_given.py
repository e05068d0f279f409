"""Data as a user gives them, known to be what everything else takes them for."""

from typing import Any

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
