"""One variable of a dataset, fetched by name and known to be what its name promises.

Each function here answers a question that a plain `dataset[name]` leaves open, and says what to do
about the dataset where the answer is no.
"""

from collections.abc import Iterable
from difflib import get_close_matches

import numpy as np
import xarray as xr

from impindiff._dates import as_seconds, holds_dates
from impindiff._errors import InputError

SPACE_AXES = ("r", "x", "y", "z")


def source_of(dataset: xr.Dataset) -> str:
    """What messages call a dataset: the file it was read from, if any."""
    return str(dataset.encoding.get("source", "dataset"))


def variable_of(dataset: xr.Dataset, name: str, source: str | None = None) -> xr.DataArray:
    """The variable of that name, whatever it is."""
    if name not in dataset.data_vars:
        near = get_close_matches(name, map(str, dataset.data_vars), n=1)
        raise InputError(
            f"{source or source_of(dataset)}: there is no variable {name!r}; it holds "
            f"{listed(dataset.data_vars)}." + (f" Did you mean {near[0]!r}?" if near else "")
        )
    return dataset[name]


def field_of(dataset: xr.Dataset, name: str, source: str | None = None) -> xr.DataArray:
    """The variable of that name, with a field's dimensions, real numbers and at least one entry."""
    source = source or source_of(dataset)
    array = variable_of(dataset, name, source)
    dims = tuple(map(str, array.dims))
    axes = tuple(axis for axis in SPACE_AXES if axis in dims)
    allowed = ("sample", "time", *axes)
    if dims != allowed:
        if unknown := sorted(set(dims) - set(allowed)):
            remedy = f"Rename or drop {listed(unknown)}: dataset.rename(old='new')"
        elif missing := [dim for dim in allowed if dim not in dims]:
            remedy = f"Add what is missing: dataset[{name!r}].expand_dims({missing!r})"
        else:
            remedy = f"Reorder them: dataset.transpose({listed(allowed)})"
        raise InputError(
            f"{source}: field {name!r} has the dimensions ({listed(dims)}), but a field has "
            f"'sample', 'time', then its space axes among 'r', 'x', 'y', 'z', if any, in this "
            f"order. {remedy}"
        )
    check_numeric(array, f"{source}: field {name!r}")
    for dim, size in array.sizes.items():
        if size == 0:
            raise InputError(f"{source}: dimension {str(dim)!r} of {name!r} has no entries.")
    return array


def coordinate_of(dataset: xr.Dataset, name: str, source: str) -> np.ndarray:
    """The numbers along a dimension."""
    if name not in dataset.coords:
        raise InputError(
            f"{source}: dimension {name!r} has no coordinate. "
            f"Add it: dataset.assign_coords({name}=values)"
        )
    if dataset[name].dims != (name,):
        raise InputError(
            f"{source}: coordinate {name!r} has the dimensions ({listed(dataset[name].dims)}); it "
            f"must be along {name!r} alone, the same for all. Of samples with times of their own "
            "make one list of all times, with NaN where a sample was not observed."
        )
    if dataset.sizes[name] == 0:
        raise InputError(f"{source}: dimension {name!r} has no entries.")
    values = dataset[name].values
    if name == "time" and holds_dates(values):
        return as_seconds(values)
    check_numeric(dataset[name], f"{source}: coordinate {name!r}")
    return values


# By the CF conventions: numbers that stand for others. Decoded, xarray keeps them in the encoding.
_PACKED, _MISSING = ("scale_factor", "add_offset"), ("_FillValue", "missing_value")


def check_numeric(array: xr.DataArray, subject: str) -> None:
    """Refuse dates, text, truth values and complex numbers, and what was never decoded."""
    if array.dtype.kind not in "fiu":
        raise InputError(
            f"{subject} must hold real numbers, found {array.dtype}. Store dates as a number "
            "of seconds or days, and a complex field as two fields."
        )
    remedy = "Decode it: xr.decode_cf(dataset, decode_times=False)"
    if array.dtype.kind in "iu" and (packed := [key for key in _PACKED if key in array.attrs]):
        raise InputError(
            f"{subject} holds packed numbers: {array.dtype}, with the attribute {listed(packed)}. "
            f"{remedy}"
        )
    for key in (key for key in _MISSING if key in array.attrs):
        stands = np.asarray(array.attrs[key])
        if stands.dtype.kind not in "fiu":
            continue
        # Rounded as the values are.
        count = int(np.isin(array.values, stands.astype(array.dtype)).sum())
        if count:
            raise InputError(
                f"{subject} has {count} value(s) equal to its attribute {key}, "
                f"{array.attrs[key]!r}, which stands for missing ones. {remedy}, or mark them as "
                "NaN."
            )


def fill_attributes(dataset: xr.Dataset) -> xr.Dataset:
    """Give every variable a long name, where it lacks one.

    No unit: of a variable without one nobody knows that it is a pure number, and `check_units`
    would hold an invented "1" against the system's unit. Only samples are counted.
    """
    for name, variable in dataset.variables.items():
        variable.attrs.setdefault("long_name", str(name))
    if "sample" in dataset.variables:
        dataset["sample"].attrs.setdefault("units", "1")
    return dataset


def check_attributes(dataset: xr.Dataset, source: str) -> None:
    """Refuse variables that do not say what they are, before they are written."""
    bare = [
        f"{str(name)!r} ({' and '.join(missing)})"
        for name, variable in dataset.variables.items()
        if (missing := [key for key in ("units", "long_name") if key not in variable.attrs])
    ]
    if bare:
        raise InputError(
            f"{source}: every variable needs the attributes units and long_name; missing from "
            f"{', '.join(bare)}. Set them: dataset['name'].attrs['units'] = 'm'"
        )


def listed(names: Iterable) -> str:
    """Names for a message: `'x', 'y'`."""
    return ", ".join(repr(str(name)) for name in names) or "nothing"
