"""The layout of a dataset, checked before anything is computed from it.

A field has the dimensions `sample`, `time`, then the space axes `x`, `y`, `z` as far as there are
any, none for an ordinary differential equation; a latent truth has the space axes alone, or `time`
in front of them, or is one number; a sample parameter has `sample` alone (`sample_parameters_of`).
NaN in a field means "not observed"; infinity means nothing and is refused.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import xarray as xr

from impindiff._errors import InputError
from impindiff.data._grids import grid_of
from impindiff.data._variables import check_numeric, coordinate_of, field_of, listed, source_of

# What netCDF puts where nothing was written; the same in both precisions.
_FILL = 9.969209968386869e36
# And among whole numbers, but for those of which every value is in use: bytes, and the unsigned
# short numbers of cameras.
_WHOLE_FILLS = {
    "int16": -32767,
    "int32": -2147483647,
    "int64": -9223372036854775806,
    "uint32": 4294967295,
    "uint64": 18446744073709551614,
}


def check_dataset(
    dataset: xr.Dataset,
    *,
    fields: Sequence[str],
    latents: Sequence[str] = (),
    source: str | None = None,
) -> None:
    """Refuse a dataset that is not in the documented layout.

    Args:
        dataset: the dataset, as `open_dataset` or `to_dataset` gives it.
        fields: the observed variables that must be there, all on one grid.
        latents: latent variables, checked where the dataset holds their truth.
        source: what messages call the dataset; by default the file it came from.

    Raises: InputError for the first thing found wrong.
    """
    source = source or source_of(dataset)
    if not fields:
        raise InputError(f"{source}: no field was named; it holds {listed(dataset.data_vars)}.")
    arrays = [field_of(dataset, name, source) for name in fields]
    axes = arrays[0].dims[2:]
    for array in arrays:
        if array.dims[2:] != axes:
            raise InputError(
                f"{source}: fields must share one grid, but {fields[0]!r} lies on "
                f"({listed(axes)}) and {array.name!r} on ({listed(array.dims[2:])})."
            )
    check_time(dataset, source)
    if axes:
        grid_of(dataset, fields[0], source)
        check_once(dataset, fields, source)
    for array in arrays:
        check_values(array, source)
    for name in latents:
        if name in dataset.variables:
            _check_latent(dataset[name], axes, source)


def check_values(array: xr.DataArray, source: str, dtype: Any = None) -> None:
    """Refuse values that stand for missing ones, or are none that can be computed with.

    Args:
        array: what was observed.
        source: what messages call the dataset.
        dtype: the precision that is computed in; not checked where None.

    Raises: InputError that names the first entry.
    """
    values = array.values
    _refuse(array, np.isinf(values), source, "infinite. Mark missing values as NaN.")
    fill = _FILL if values.dtype.kind == "f" else _WHOLE_FILLS.get(values.dtype.name)
    if fill is not None:
        # Also where the fill value went through single precision.
        wide = values.astype(np.promote_types(values.dtype, np.float32), copy=False)
        filled = np.abs(wide / _FILL - 1) < 1e-6 if fill == _FILL else values == fill
        verdict = f"netCDF's fill value, {fill:.10g}: they were never written. Mark missing values "
        _refuse(array, filled, source, verdict + "as NaN, or set the attribute _FillValue.")
    if dtype is not None:
        most = np.float64(np.finfo(dtype).max)  # a plain number would take the values' precision
        beyond = np.abs(values) > most
        largest = np.max(np.abs(values), where=beyond, initial=0.0)
        verdict = f"beyond {np.dtype(dtype)}, which holds magnitudes up to {most:.2g}: they are up "
        verdict += f"to {largest:.4g}. Give the data in another unit, or set precision = 'float64'."
        _refuse(array, beyond, source, verdict)


def check_units(dataset: xr.Dataset, units: Mapping[str, str]) -> None:
    """Refuse data in other units than those of the equations.

    Args:
        dataset: variables without the attribute `units` pass. The unit "1" is one like any other:
            it says that the variable is a pure number.
        units: by the variable's name.

    Raises: InputError.
    """
    for name, wanted in units.items():
        found = dataset[name].attrs.get("units") if name in dataset.variables else None
        if found is not None and str(found) != wanted:
            raise InputError(
                f"{source_of(dataset)}: {name!r} is in {found!r}, in the system it is in "
                f"{wanted!r}. Convert the data, or change the system's units."
            )


def check_time(dataset: xr.Dataset, source: str) -> None:
    """Refuse a dataset whose times are missing, not finite, or fall.

    Two may be equal, where readings are repeated: see `check_once` for fields.
    """
    if "time" in dataset.coords and "time" not in dataset.dims:
        raise InputError(
            f"{source}: 'time' is one number and no dimension. Make it one: "
            "dataset.expand_dims('time', axis=1)"
        )
    times = coordinate_of(dataset, "time", source).astype(np.float64)
    if not np.all(np.isfinite(times)):
        at = int(np.argmin(np.isfinite(times)))
        raise InputError(f"{source}: coordinate 'time' must be finite: entry {at} is {times[at]}.")
    if np.any(np.diff(times) < 0):
        at = int(np.argmax(np.diff(times) < 0))
        raise InputError(
            f"{source}: coordinate 'time' must increase: entry {at + 1} is {times[at + 1]:g} "
            f"after {times[at]:g}. Sort it: dataset.sortby('time')"
        )


def check_once(
    dataset: xr.Dataset,
    fields: Sequence[str],
    source: str | None = None,
    *,
    position: int | None = None,
) -> None:
    """Refuse fields that are known more than once at one time.

    Args:
        dataset: of times that do not fall.
        fields: those of them that the dataset holds.
        source: what messages call the dataset.
        position: of the only time that counts; all where None.

    Raises: InputError.
    """
    times = dataset["time"].values
    # Of dates a difference is no number, and NumPy 2.5 compares it with none.
    repeated = np.unique(times[1:][times[1:] == times[:-1]])
    for time in repeated if position is None else repeated[repeated == times[position]]:
        same = np.flatnonzero(times == time)
        for field in fields:
            known = [int(k) for k in same if not np.isnan(dataset[field].isel(time=k).values).all()]
            if len(known) > 1:
                one, other = known[:2]
                raise InputError(
                    f"{source or source_of(dataset)}: coordinate 'time' must increase: entry "
                    f"{other} is {time:g} after {time:g}: two times are equal (t = {time:g} at "
                    f"positions {one} and {other}, counted from 0), and the field {field!r} has "
                    "one state at a time. Average the two, dataset.groupby('time').mean(), or drop "
                    "one, dataset.drop_duplicates('time'). Readings of instruments, and of systems "
                    "without a grid, may be repeated."
                )


def _check_latent(array: xr.DataArray, axes: tuple, source: str) -> None:
    if array.dims not in ((), axes, ("time", *axes)):
        raise InputError(
            f"{source}: latent {array.name!r} has the dimensions ({listed(array.dims)}); "
            f"allowed are ({listed(axes)}), or these with 'time' in front, or none for a number."
        )
    check_numeric(array, f"{source}: latent {array.name!r}")
    unknown = np.asarray(~np.isfinite(array.values))
    _refuse(array, unknown, source, "not finite. A latent truth is known everywhere, or left out.")


def _refuse(array: xr.DataArray, bad: np.ndarray, source: str, verdict: str) -> None:
    if bad.any():
        at = np.unravel_index(int(np.argmax(bad)), bad.shape)
        place = ", ".join(f"{dim} {index}" for dim, index in zip(array.dims, at, strict=True))
        where = f", the first at {place} (counted from 0)," if place else ""
        raise InputError(
            f"{source}: {array.name!r} has {int(bad.sum())} value(s){where} that are {verdict}"
        )
