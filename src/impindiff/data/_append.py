"""Zarr stores that grow along `time`, and can be read whenever.

What is added is encoded in memory and written beside the store. Then its chunks are moved into
place, where nobody looks yet, since the metadata do not tell of them; the last chunk of before, if
it was not full, is replaced by one that begins with the same states. Last the consolidated metadata
are replaced, all variables' lengths in one step. So whatever ends the process, the store is as it
was before or as it is after; a reader that heeds no consolidated metadata may find the variables of
different lengths, until more is added.
"""

import itertools
import json
import os
from pathlib import Path
from typing import Any

import numpy as np
import xarray as xr

from impindiff._errors import InputError
from impindiff._files import read_whole
from impindiff.data._files import disk_errors, locked, scratch_folder, write
from impindiff.data._open import check_kind, checked_suffix, reason
from impindiff.data._variables import listed

_COMMIT = ".zmetadata"


def append_dataset(dataset: xr.Dataset, path: str | os.PathLike[str]) -> None:
    """Add times to the end of a zarr store.

    Others that would add to it wait meanwhile. Whoever adds what depends on the end of the store
    holds it by `locked` from the reading on.

    Memory: what is added, and one chunk of each variable and place.

    Args:
        dataset: the times to add, with every variable of the store that has the dimension `time`;
            others are left out. Its attributes become the store's.
        path: a store that `save_dataset` wrote.

    Raises: InputError for a store of another kind, variables or times that do not continue its
        own, another process that keeps writing to it, or a full disk; the store then stays as it
        was.
    """
    path = Path(path)
    _check_store(path)
    with locked(path):
        _append(dataset, path)


def _append(dataset: xr.Dataset, path: Path) -> None:
    try:
        files = _encode(dataset, path)
    except (InputError, OSError, MemoryError):
        raise
    # Damaged metadata make zarr raise errors of every type.
    except Exception as error:
        raise _unfit(path, reason(error)) from error
    _replace(path, files)


def _encode(dataset: xr.Dataset, path: Path) -> dict:
    """The files that are new, or other than before."""
    import zarr  # slow to import, and seldom needed
    from zarr.storage import MemoryStore

    before = _metadata(path)
    files = dict(before)
    group = zarr.open_group(MemoryStore(files), mode="r+", zarr_format=2, use_consolidated=False)
    growing = {name: array for name, array in group.arrays() if "time" in _dims(array)}
    _check_variables(dataset, growing, path)
    for array in growing.values():
        before |= _last_chunks(array, path)
    files |= before
    _check_times(dataset, growing["time"], path)
    # Empty ones, too: in their places may lie chunks that an interrupted process left.
    with zarr.config.set({"array.write_empty_chunks": True}):
        for name, array in group.arrays():
            if name in growing:
                array.append(dataset[name].values, axis=dataset[name].dims.index("time"))
    group.attrs.update(dataset.attrs)
    zarr.consolidate_metadata(group.store, zarr_format=2)
    return {key: file for key, file in files.items() if file is not before.get(key)}


def _check_store(path: Path) -> None:
    """Refuse what is no store."""
    if checked_suffix(path) != ".zarr":
        raise InputError(
            f"{path}: nothing can be added to a netCDF file. Write another file, or a .zarr store "
            "from the beginning."
        )
    if not path.exists():
        raise InputError(f"{path}: no such store to add to.")
    check_kind(path, ".zarr")


def _metadata(path: Path) -> dict:
    """The metadata that count, by the names of their files."""
    from zarr.buffer.cpu import Buffer

    try:
        known = json.loads(read_whole(path / _COMMIT))["metadata"]
        return {key: Buffer.from_bytes(json.dumps(known[key]).encode()) for key in known}
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise _unfit(path, error) from error


def _unfit(path: Path, why: object) -> InputError:
    return InputError(
        f"{path}: cannot be added to: it has no consolidated metadata of zarr's format 2, or "
        f"damaged ones ({why}). Write it again: save_dataset(open_dataset(path), other_path)"
    )


def _dims(array: Any) -> list[str]:
    """The names of an array's dimensions, as xarray writes them."""
    return array.attrs.get("_ARRAY_DIMENSIONS", [])


def _last_chunks(array: Any, path: Path) -> dict:
    """The files that hold the last time of an array."""
    from zarr.buffer.cpu import Buffer

    along = _dims(array).index("time")
    places = [range(number) for number in array.cdata_shape]
    places[along] = places[along][-1:]
    found = {}
    for place in itertools.product(*places):
        key = f"{array.path}/{array.metadata.encode_chunk_key(place)}"
        if (path / key).exists():  # one that holds the fill value alone may have no file
            found[key] = Buffer.from_bytes(read_whole(path / key))
    return found


def _check_variables(dataset: xr.Dataset, growing: dict, path: Path) -> None:
    """Refuse variables that are not those of the store, but for their length in time."""
    added = {str(name) for name, variable in dataset.variables.items() if "time" in variable.dims}
    if added != set(growing):
        raise InputError(
            f"{path}: holds {listed(sorted(growing))} at its times, but "
            f"{listed(sorted(added))} would be added: the variables must be the same."
        )
    for name, array in sorted(growing.items()):
        dims = _dims(array)
        held = {dim: n for dim, n in zip(dims, array.shape, strict=True) if dim != "time"}
        new = {dim: n for dim, n in dataset[name].sizes.items() if dim != "time"}
        if dims != list(dataset[name].dims) or held != new:
            raise InputError(f"{path}: {name!r} has the sizes {held}, but {new} would be added.")
        if array.dtype != dataset[name].dtype:
            raise InputError(
                f"{path}: {name!r} holds {array.dtype}, but {dataset[name].dtype} would be added: "
                "the precision must be the same."
            )


def _check_times(dataset: xr.Dataset, held: Any, path: Path) -> None:
    last, times = held[-1], dataset["time"].values
    if times.size == 0 or np.any(np.diff(times, prepend=last) <= 0):
        raise InputError(
            f"{path}: ends at time {last:g}, and the times {times} would be added: they must "
            "increase from there."
        )


def _replace(path: Path, files: dict) -> None:
    """Move files into a store: chunks, the metadata that count, then those that repeat them."""
    order = sorted(files, key=lambda key: (Path(key).name.startswith("."), key != _COMMIT))
    with (
        disk_errors(path, "what was there before still stands"),
        scratch_folder(path) as scratch,
    ):
        for number, key in enumerate(order):
            write(scratch / str(number), files[key].to_bytes())
        for number, key in enumerate(order):
            (path / key).parent.mkdir(exist_ok=True)
            os.replace(scratch / str(number), path / key)
