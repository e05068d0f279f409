"""Reading datasets: whole, into memory, and with the file closed again.

Whatever is wrong with a file ends in one message that names it. Damaged bytes make HDF5 and zarr
raise errors of every type, none of which says what to do next.
"""

import os
import warnings
from pathlib import Path

import h5py
import numpy as np
import xarray as xr

from impindiff._errors import InputError
from impindiff.data._layout import check_once
from impindiff.data._select import Start, start_of
from impindiff.data._variables import SPACE_AXES, fill_attributes

KINDS = {".nc": "a netCDF-4 file", ".zarr": "a zarr store"}
_ENGINES = {".nc": "h5netcdf", ".zarr": "zarr"}
_FIRST = "first_time"
BEGUN = "begun"
"""Attribute of forecasts: the time that they, or the data they go on from, began at, where the
initial values hold that their system gives."""
_ZARR_MARKS = ("zarr.json", ".zgroup")


def open_dataset(path: str | os.PathLike[str], *, time: Start | None = None) -> xr.Dataset:
    """Read a dataset into memory and close its file.

    Times stay numbers in the file's unit. A variable without `long_name` gets its own name; one
    without `units` stays without, and is compared with no unit of a system.

    Args:
        path: a netCDF-4 file (`.nc`) or a zarr store (a `.zarr` folder).
        time: read the states of this time alone: "first", "last" or the time itself, which is then
            the one in the dataset. By default all are read.

    Raises: InputError if it is missing, of another kind, truncated, damaged, or may not be read,
        or has no such time.
    """
    path = Path(path)
    suffix = checked_suffix(path)
    try:
        if not path.exists():
            raise InputError(f"{path}: no such file. {_neighbours(path.parent)}")
        check_kind(path, suffix)
        if suffix == ".nc":
            _check_netcdf(path)
        dataset = _load(path, _ENGINES[suffix], time)
    except InputError:
        raise
    except PermissionError as error:
        raise InputError(
            f"{path}: no permission to read it. Have its owner allow it (chmod u+r), or copy it "
            "to a place of your own."
        ) from error
    except MemoryError as error:
        raise InputError(
            f"{path}: does not fit into memory ({reason(error)}). Split it by samples or times."
        ) from error
    except Exception as error:
        raise InputError(
            f"{path}: cannot be read as {KINDS[suffix]}: it is truncated, damaged, or not laid out "
            f"as one ({reason(error)}). Copy or generate it again."
        ) from error
    dataset.encoding["source"] = str(path)
    return fill_attributes(dataset)


def begun_of(dataset: xr.Dataset, position: int) -> float | None:
    """The time that data began with, of which a time may be all that there is; None if unknown.

    Of a file it may be all that was read, of a forecast all that was saved, or is left.
    """
    for known in (dataset.attrs.get(BEGUN), dataset.encoding.get(_FIRST)):
        if isinstance(known, int | float | np.integer | np.floating):
            return float(known)
    return float(dataset["time"].values[0]) if position > 0 else None


def is_later(dataset: xr.Dataset, position: int) -> bool:
    """Whether a time is later than the first of its data, see `begun_of`."""
    begun = begun_of(dataset, position)
    return position > 0 or (begun is not None and float(dataset["time"].values[position]) > begun)


def checked_suffix(path: Path) -> str:
    """The suffix in small letters: `.nc` or `.zarr`, and nothing else."""
    suffix = path.suffix.lower()
    if suffix not in KINDS:
        raise InputError(
            f"{path}: the name ends in {suffix!r}, but a dataset is a .nc file (netCDF-4) "
            "or a .zarr folder."
        )
    return suffix


def check_kind(path: Path, suffix: str) -> None:
    """Refuse a folder named as a file, a file named as a folder, and a folder of other things."""
    if suffix == ".nc" and path.is_dir():
        raise InputError(f"{path}: is a folder, but a .nc dataset is a file.")
    if suffix == ".nc" and path.exists() and not path.is_file():
        raise InputError(f"{path}: is a pipe or a device, but a .nc dataset is a file.")
    if suffix == ".zarr" and not path.is_dir():
        raise InputError(f"{path}: is a file, but a .zarr dataset is a folder.")
    if suffix == ".zarr" and not any(name in _ZARR_MARKS for name in os.listdir(path)):
        raise InputError(
            f"{path}: is a folder, but no zarr store: it has neither {' nor '.join(_ZARR_MARKS)}."
        )


def reason(error: BaseException) -> str:
    """The first line of what an error says, or its name where it says nothing."""
    return next(iter(str(error).strip().splitlines()), "") or type(error).__name__


def _check_netcdf(path: Path) -> None:
    with path.open("rb") as stream:
        start = stream.read(8)
    if not start:
        raise InputError(f"{path}: is empty (0 bytes). Copy or generate it again.")
    if start.startswith(b"CDF"):
        raise InputError(
            f"{path}: is in the older netCDF-3 format. Convert it: nccopy -k nc4 old.nc new.nc"
        )
    if not h5py.is_hdf5(path):
        raise InputError(
            f"{path}: is not a netCDF-4 file: it starts with {start!r}. Convert it, for example "
            "with xarray: dataset.to_netcdf('new.nc', engine='h5netcdf')"
        )
    # HDF5 alone first: an h5netcdf file that fails half open complains on standard error.
    with h5py.File(path, "r") as file:
        dict(file.attrs)


def _load(path: Path, engine: str, time: Start | None) -> xr.Dataset:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        # Decoded, times in "seconds" would become timedelta64; the equations want numbers. Of zarr,
        # consolidated metadata are read where there are any: a growing store changes them at once.
        with xr.open_dataset(path, engine=engine, decode_times=False) as dataset:
            if time is None:
                return dataset.load()
            position, exact = start_of(dataset, time)
            moment = ("time", [exact], dataset["time"].attrs)
            check_once(dataset, _fields(dataset), str(path), position=position)
            one = dataset.isel(time=[position]).assign_coords(time=moment).load()
            if position > 0:
                one.encoding[_FIRST] = float(dataset["time"].values[0])
            return one


def _fields(dataset: xr.Dataset) -> list[str]:
    """What has a state at each time."""
    axes = {"sample", "time", *SPACE_AXES}
    of = dataset.data_vars.items()
    return [str(n) for n, v in of if "time" in v.dims and axes.issuperset(map(str, v.dims))]


def _neighbours(folder: Path) -> str:
    if not folder.is_dir():
        return f"There is no folder {str(folder)!r} either."
    names = sorted(file.name for file in folder.iterdir() if file.suffix.lower() in KINDS)
    return f"Its folder holds {', '.join(names[:8])}." if names else "Its folder holds no dataset."
