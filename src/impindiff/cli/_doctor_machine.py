"""Checks of the machine: memory, disk, and whether the file formats can be written and read."""

import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from impindiff.cli._doctor_finding import GIB, Finding, judge_amount


def check_memory(control_group: Path = Path("/sys/fs/cgroup")) -> Iterator[Finding]:
    """How much memory there is for a run, a container's or batch system's limit included."""
    import psutil

    from impindiff.train import control_group_limit

    memory = psutil.virtual_memory()
    limit = control_group_limit(control_group)
    free = memory.available if limit is None else min(memory.available, limit)
    found = f"{free / GIB:.1f} GiB available of {memory.total / GIB:.1f} GiB"
    if limit is not None and limit < memory.total:
        found += f", limited to {limit / GIB:.1f} GiB by the control group"
    remedy = "Close other programs, raise the limit, or take a coarser grid."
    yield judge_amount("memory", found, free, little=2 * GIB, too_little=GIB // 2, remedy=remedy)


def check_disk(folder: Path | None) -> Iterator[Finding]:
    """Whether a run could be written to the folder: the current one unless given."""
    folder = folder or Path.cwd()
    try:
        with tempfile.TemporaryFile(dir=folder) as file:
            file.write(b"x")
    except OSError as error:
        found = f"cannot write to {folder}: {error.strerror}"
        yield Finding("disk", "problem", found, "Change to a folder that you may write to.")
        return
    free = shutil.disk_usage(folder).free
    found = f"{free / GIB:.1f} GiB free in {folder}"
    remedy = "Free some space, or write elsewhere: --out DIR"
    yield judge_amount("disk", found, free, little=GIB, too_little=GIB // 10, remedy=remedy)


def check_hdf5() -> Iterator[Finding]:
    """Whether HDF5 files can be written and read back."""
    import h5py

    with tempfile.TemporaryDirectory() as folder:
        with h5py.File(Path(folder) / "a.h5", "w") as file:
            file.attrs["value"] = "a"
        with h5py.File(Path(folder) / "a.h5") as file:
            yield _compare("hdf5", file.attrs["value"] == "a")


def check_netcdf() -> Iterator[Finding]:
    """Whether netCDF-4 files can be written and read back."""
    import xarray

    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "a.nc"
        _example().to_netcdf(path, engine="h5netcdf")
        found = xarray.load_dataset(path, engine="h5netcdf")
    yield _compare("netcdf", found.identical(_example()))


def check_zarr() -> Iterator[Finding]:
    """Whether zarr stores can be written and read back."""
    import xarray

    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "a.zarr"
        _example().to_zarr(path, consolidated=False)
        found = xarray.open_zarr(path, consolidated=False).load()
    yield _compare("zarr", found.identical(_example()))


def _example() -> Any:
    import xarray

    values = ("x", [1.0, float("nan")], {"units": "1"})
    return xarray.Dataset({"u": values}, coords={"x": [0.0, 0.5]})


def _compare(topic: str, is_unchanged: bool) -> Finding:
    if is_unchanged:
        return Finding(topic, "ok", "what was written was read back")
    remedy = "Install xarray, h5netcdf, h5py and zarr again."
    return Finding(topic, "problem", "what was read is not what was written", remedy)
