"""Writing datasets: all of it or nothing.

A dataset is encoded in memory, written beside its destination and moved into place in one step:
what stands under a name is always complete, be it the old contents or the new. Encoding in memory
costs the compressed size once, and keeps HDF5 away from the disk: an HDF5 that meets a full one
can end the whole process with a segmentation fault.
"""

import errno
import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import xarray as xr

from impindiff._errors import InputError
from impindiff.data._open import KINDS, check_kind, checked_suffix, reason
from impindiff.data._variables import check_attributes

_FULL = (errno.ENOSPC, errno.EDQUOT)
_FORBIDDEN = (errno.EACCES, errno.EPERM, errno.EROFS)


def save_dataset(
    dataset: xr.Dataset, path: str | os.PathLike[str], *, overwrite: bool = False
) -> None:
    """Write a dataset, compressed.

    Args:
        dataset: every variable and coordinate with the attributes `units` and `long_name`.
        path: where to, ending in `.nc` or `.zarr`.
        overwrite: replace what is there, if it is of the same kind.

    Raises: InputError where `check_writable` does, if the disk is full, or if the dataset holds
        what the format cannot.
    """
    path = Path(path)
    suffix = checked_suffix(path)
    check_writable(path, overwrite=overwrite)
    check_attributes(dataset, str(path))
    encode = _encode_zarr if suffix == ".zarr" else _encode_netcdf
    try:
        files = encode(dataset.drop_encoding())
    except (TypeError, ValueError, NotImplementedError) as error:
        raise InputError(
            f"{path}: the dataset cannot be stored as {KINDS[suffix]}: {reason(error)}"
        ) from error
    with _disk_errors(path), _scratch_folder(path) as scratch:
        fresh = scratch / "new"
        for name, content in files.items():
            _write(fresh / name, content)
        _move(fresh, path, aside=scratch / "old")


def check_writable(path: str | os.PathLike[str], *, overwrite: bool = False) -> None:
    """Refuse now what `save_dataset` would refuse when the work is done.

    Raises: InputError for a suffix that is not supported, a folder that does not exist or may not
        be written to, a full disk, or a path that is taken.
    """
    path = Path(path)
    suffix = checked_suffix(path)
    with _disk_errors(path):
        if not path.parent.is_dir():
            raise InputError(
                f"{path}: there is no folder {str(path.parent)!r}. "
                f"Create it (mkdir -p {path.parent}) or choose another."
            )
        # Writing is the only test of it: a mode says nothing of quotas and read-only mounts.
        with _scratch_folder(path) as scratch:
            _write(scratch / "probe", b"probe")
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


def _encode_zarr(dataset: xr.Dataset) -> dict[str, bytes | memoryview]:
    from zarr.storage import MemoryStore  # slow to import, and seldom needed

    store: dict = {}
    # Format 2: it specifies its strings and its consolidated metadata, format 3 does not yet.
    dataset.to_zarr(MemoryStore(store_dict=store), zarr_format=2, consolidated=True)
    return {name: buffer.to_bytes() for name, buffer in store.items()}


@contextmanager
def _scratch_folder(path: Path) -> Iterator[Path]:
    """A folder beside `path`, on the same disk, that is gone on leaving."""
    with tempfile.TemporaryDirectory(
        prefix=".writing-", dir=path.parent, ignore_cleanup_errors=True
    ) as folder:
        yield Path(folder)


@contextmanager
def _disk_errors(path: Path) -> Iterator[None]:
    """What the disk refuses becomes a message about `path`."""
    try:
        yield
    except OSError as error:
        if error.errno in _FULL:
            raise InputError(
                f"{path}: no space left on the disk; nothing was written. Make room, or choose "
                "another place."
            ) from error
        if error.errno in _FORBIDDEN:
            raise InputError(
                f"{path}: no permission to write in the folder {str(path.parent)!r}. "
                "Choose another place, or have its owner allow it (chmod u+w)."
            ) from error
        raise InputError(f"{path}: cannot be written: {error.strerror or error}.") from error


def _write(file: Path, content: bytes | memoryview) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    with file.open("wb") as stream:
        stream.write(content)
        stream.flush()
        os.fsync(stream.fileno())  # some disks say only now that they are full


def _move(fresh: Path, path: Path, aside: Path) -> None:
    """Put `fresh` in the place of `path`; a folder there steps aside, and back on failure."""
    if not path.is_dir():
        os.replace(fresh, path)
        return
    os.replace(path, aside)
    try:
        os.replace(fresh, path)
    except BaseException:
        os.replace(aside, path)
        raise
