"""Writing datasets: all of it or nothing.

A dataset is encoded in memory, written beside its destination and moved into place in one step:
what stands under a name is always complete, be it the old contents or the new. Encoding in memory
costs the compressed size once, and keeps HDF5 away from the disk: an HDF5 that meets a full one
can end the whole process with a segmentation fault.
"""

import os
from collections.abc import Mapping, Sequence
from contextlib import nullcontext
from pathlib import Path

import xarray as xr

from impindiff._errors import InputError
from impindiff.data._as_dataset import without_dates
from impindiff.data._files import disk_errors, locked, move, scratch_folder, write
from impindiff.data._open import KINDS, check_kind, checked_suffix, reason
from impindiff.data._variables import check_attributes


def save_dataset(
    dataset: xr.Dataset,
    path: str | os.PathLike[str],
    *,
    overwrite: bool = False,
    chunks: Mapping[str, int] | None = None,
) -> None:
    """Write a dataset, compressed.

    Args:
        dataset: every variable and coordinate with the attributes `units` and `long_name`.
        path: where to, ending in `.nc` or `.zarr`.
        overwrite: replace what is there, if it is of the same kind.
        chunks: of a zarr store, how many entries along a dimension lie in one file; along the
            others all of them. By default zarr chooses.

    Raises: InputError where `check_writable` does, if the disk is full, if another process is
        writing to the store, or if the dataset holds what the format cannot.
    """
    path = Path(path)
    suffix = checked_suffix(path)
    check_writable(path, overwrite=overwrite)
    dataset = without_dates(dataset)
    check_attributes(dataset, str(path))
    dataset = dataset.drop_encoding()
    try:
        is_zarr = suffix == ".zarr"
        files = _encode_zarr(dataset, chunks) if is_zarr else _encode_netcdf(dataset)
    except (TypeError, ValueError, NotImplementedError) as error:
        raise InputError(
            f"{path}: the dataset cannot be stored as {KINDS[suffix]}: {reason(error)}"
        ) from error
    # A store must not be replaced under a process that adds to it.
    alone = locked(path) if suffix == ".zarr" else nullcontext()
    with alone, disk_errors(path), scratch_folder(path) as scratch:
        fresh = scratch / "new"
        for name, content in files.items():
            write(fresh / name, content)
        move(fresh, path, scratch)


def check_storable(names: Sequence[str], dims: Sequence[str]) -> None:
    """Refuse names that the variables of a data file cannot have.

    Args:
        names: of variables.
        dims: of the dimensions beside them.

    Raises: InputError that names the first that cannot.
    """
    described = {"units": "1", "long_name": "1"}
    for name in names:
        try:
            _encode_netcdf(
                xr.Dataset({name: ((), 0.0, described)}, {dim: (dim, [0.0]) for dim in dims})
            )
        except (TypeError, ValueError, NotImplementedError, UnicodeError) as error:
            raise InputError(
                f"{name!r} cannot name a variable of a data file ({reason(error)}): choose another "
                "name."
            ) from error


def check_writable(path: str | os.PathLike[str], *, overwrite: bool = False) -> None:
    """Refuse now what `save_dataset` would refuse when the work is done.

    Raises: InputError for a suffix that is not supported, a folder that does not exist or may not
        be written to, a full disk, or a path that is taken.
    """
    path = Path(path)
    suffix = checked_suffix(path)
    with disk_errors(path):
        if not path.parent.is_dir():
            raise InputError(
                f"{path}: there is no folder {str(path.parent)!r}. "
                f"Create it (mkdir -p {path.parent}) or choose another."
            )
        # Writing is the only test of it: a mode says nothing of quotas and read-only mounts.
        with scratch_folder(path) as scratch:
            write(scratch / "probe", b"probe")
        if not path.exists():
            return
        if not overwrite:
            raise InputError(
                f"{path}: exists already. Choose another name, move it away, or allow it to be "
                "overwritten (overwrite=True)."
            )
        check_kind(path, suffix)


def _encode_netcdf(dataset: xr.Dataset) -> dict[str, bytes | memoryview]:
    encoding: dict[str, dict] = {str(name): {} for name in dataset.variables}
    for name, variable in dataset.variables.items():
        if variable.ndim and variable.size and variable.dtype.kind in "fiu":
            encoding[str(name)] = {"zlib": True, "complevel": 4, "shuffle": True}
    for name in dataset.coords:  # the CF conventions give a coordinate no fill value
        encoding[str(name)]["_FillValue"] = None
    # Copied and released: a buffer still exported when its owner is garbage-collected raises in
    # some versions of Python and ends the process in others.
    with dataset.to_netcdf(engine="h5netcdf", encoding=encoding) as content:
        return {".": bytes(content)}


def _encode_zarr(
    dataset: xr.Dataset, chunks: Mapping[str, int] | None
) -> dict[str, bytes | memoryview]:
    from zarr.storage import MemoryStore  # slow to import, and seldom needed

    encoding: dict[str, dict] = {}
    if chunks is not None:
        for name, variable in dataset.variables.items():
            lengths = tuple(chunks.get(str(dim), size) for dim, size in variable.sizes.items())
            encoding[str(name)] = {"chunks": lengths}
    store: dict = {}
    # Format 2: it specifies its strings and its consolidated metadata, format 3 does not yet.
    dataset.to_zarr(
        MemoryStore(store_dict=store), zarr_format=2, consolidated=True, encoding=encoding
    )
    return {name: buffer.to_bytes() for name, buffer in store.items()}
