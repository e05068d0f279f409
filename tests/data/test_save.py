"""A dataset is written whole or not at all, and comes back as it was."""

import errno
import hashlib
import os
from pathlib import Path

import numpy as np
import pytest
import xarray as xr

from impindiff._errors import InputError
from impindiff.data import check_writable, file_sha256, open_dataset, save_dataset
from impindiff.data._files import scratch_folder

both = pytest.mark.parametrize("name", ["a.nc", "a.zarr"])


def listing(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


@both
def test_round_trip(tmp_path: Path, dataset: xr.Dataset, name: str):
    dataset["concentration"][3, 2] = np.nan
    save_dataset(dataset, tmp_path / name)
    opened = open_dataset(tmp_path / name)
    assert opened.identical(dataset)
    assert opened["concentration"].dtype == np.float32
    assert listing(tmp_path) == [name]
    save_dataset(
        opened, tmp_path / name, overwrite=True
    )  # what encoding it brought is no hindrance
    assert open_dataset(tmp_path / name).identical(dataset)
    assert listing(tmp_path) == [name]


@both
def test_part_of_a_dataset_and_other_dtypes(tmp_path: Path, dataset: xr.Dataset, name: str):
    save_dataset(dataset, tmp_path / name)
    part = open_dataset(tmp_path / name).isel(sample=[0], time=slice(1, 3), x=slice(0, 2))
    part = part.assign_coords(sample=("sample", ["first"], part["sample"].attrs))
    part["flag"] = ("x", np.array([True, False]), {"units": "1", "long_name": "flag"})
    part["number"] = ((), 3, {"units": "1", "long_name": "number"})
    save_dataset(part, tmp_path / f"part_{name}")
    assert open_dataset(tmp_path / f"part_{name}").identical(part)


@both
def test_it_is_compressed(tmp_path: Path, dataset: xr.Dataset, name: str):
    large = xr.zeros_like(dataset.isel(sample=[0] * 2000))
    save_dataset(large, tmp_path / name)
    files = [path for path in (tmp_path, *tmp_path.rglob("*")) if path.is_file()]
    assert sum(path.stat().st_size for path in files) < large["concentration"].nbytes / 10


def test_zarr_opens_elsewhere_without_a_warning(tmp_path: Path, dataset: xr.Dataset):
    save_dataset(dataset, tmp_path / "a.zarr")
    with xr.open_zarr(tmp_path / "a.zarr") as opened:
        assert opened.identical(dataset)


@pytest.mark.parametrize("write", [save_dataset, lambda _, path, **k: check_writable(path, **k)])
def test_refusals_come_before_the_work(tmp_path: Path, dataset: xr.Dataset, write):
    def refused(name: str, said: str, **options):
        with pytest.raises(InputError) as caught:
            write(dataset, tmp_path / name, **options)
        assert str(caught.value).startswith(f"{tmp_path / name}: ")
        assert said in str(caught.value)

    refused("a.csv", "ends in '.csv', but a dataset is a .nc file")
    refused("nowhere/a.nc", "no folder")
    refused("nowhere/a.nc", "mkdir -p")
    for name in ("a.nc", "a.zarr"):
        save_dataset(dataset, tmp_path / name)
        refused(name, "exists already")
    (tmp_path / "a.nc").rename(tmp_path / "file.zarr")
    (tmp_path / "a.zarr").rename(tmp_path / "folder.nc")
    refused("file.zarr", "is a file", overwrite=True)
    refused("folder.nc", "is a folder", overwrite=True)
    (tmp_path / "notes.zarr").mkdir()
    (tmp_path / "notes.zarr" / "thesis.txt").write_text("irreplaceable")
    refused("notes.zarr", "no zarr store", overwrite=True)
    refused("file.zarr/a.nc", "no folder")
    assert listing(tmp_path) == ["file.zarr", "folder.nc", "notes.zarr"]


def test_a_damaged_file_can_be_overwritten(tmp_path: Path, dataset: xr.Dataset):
    (tmp_path / "a.nc").write_bytes(b"")
    save_dataset(dataset, tmp_path / "a.nc", overwrite=True)
    assert open_dataset(tmp_path / "a.nc").identical(dataset)


@both
@pytest.mark.parametrize(
    "number, said",
    [
        (errno.ENOSPC, "no space left on the disk; nothing was written"),
        (errno.EDQUOT, "no space left on the disk"),
        (errno.EROFS, "no permission to write in the folder"),
        (errno.EIO, "cannot be written: Input/output error"),
    ],
)
@pytest.mark.parametrize("after", [0, 1])
def test_what_the_disk_refuses_leaves_nothing(
    tmp_path: Path, dataset: xr.Dataset, monkeypatch, name: str, number: int, said: str, after: int
):
    """Refused at the first write, that of the probe, and at the first one of the data."""
    syncs = iter(range(100))

    def refuse(descriptor: int) -> None:
        if next(syncs) >= after:
            raise OSError(number, os.strerror(number))

    monkeypatch.setattr(os, "fsync", refuse)
    with pytest.raises(InputError, match=f"{name}: {said}"):
        save_dataset(dataset, tmp_path / name)
    assert listing(tmp_path) == []


@both
@pytest.mark.parametrize("call", ["fsync", "replace"])
def test_an_interruption_leaves_what_was_there(
    tmp_path: Path, dataset: xr.Dataset, monkeypatch, name: str, call: str
):
    save_dataset(dataset, tmp_path / name)
    original, calls = getattr(os, call), iter(range(100))

    def interrupt(*args):
        if next(calls) == 1:
            raise KeyboardInterrupt
        return original(*args)

    monkeypatch.setattr(os, call, interrupt)
    other = dataset.isel(sample=[0])
    if call == "replace" and name == "a.nc":
        next(calls)  # a file moves in one step, where a folder takes two
    with pytest.raises(KeyboardInterrupt):
        save_dataset(other, tmp_path / name, overwrite=True)
    monkeypatch.undo()
    assert listing(tmp_path) == [name]
    assert open_dataset(tmp_path / name).identical(dataset)


@pytest.mark.parametrize("name", ["a.nc", "a.zarr"])
def test_a_folder_without_permission_is_refused(tmp_path: Path, dataset: xr.Dataset, name: str):
    closed = tmp_path / "closed"
    closed.mkdir()
    closed.chmod(0o500)
    if os.access(closed, os.W_OK):
        pytest.skip("this user may write everywhere")
    with pytest.raises(InputError, match=f"{name}: no permission to write in the folder"):
        save_dataset(dataset, closed / name)


def test_variables_say_what_they_are(tmp_path: Path, dataset: xr.Dataset):
    del dataset["steady"].attrs["units"]
    dataset["time"].attrs.clear()
    with pytest.raises(InputError, match=r"'time' \(units and long_name\)") as caught:
        save_dataset(dataset, tmp_path / "a.nc")
    assert "'steady' (units)" in str(caught.value)
    assert listing(tmp_path) == []


@both
def test_what_a_format_cannot_hold_is_refused(tmp_path: Path, dataset: xr.Dataset, name: str):
    dataset.attrs["options"] = {"a": object()}
    with pytest.raises(InputError, match=f"{name}: the dataset cannot be stored as"):
        save_dataset(dataset, tmp_path / name)
    assert listing(tmp_path) == []


def test_hash_of_a_file_is_the_usual_one(tmp_path: Path):
    (tmp_path / "a.nc").write_bytes(b"abc")
    assert file_sha256(tmp_path / "a.nc") == hashlib.sha256(b"abc").hexdigest()
    with pytest.raises(InputError, match=r"b\.nc: cannot be read: No such file"):
        file_sha256(tmp_path / "b.nc")


def test_hash_of_a_store_follows_contents_and_names(tmp_path: Path, dataset: xr.Dataset):
    for name in ("a.zarr", "b.zarr"):
        save_dataset(dataset, tmp_path / name)
    first = file_sha256(tmp_path / "a.zarr")
    assert first == file_sha256(tmp_path / "b.zarr")
    (tmp_path / "b.zarr" / ".zattrs").write_text("{}")
    second = file_sha256(tmp_path / "b.zarr")
    (tmp_path / "b.zarr" / ".zattrs").rename(tmp_path / "b.zarr" / "other")
    assert len({first, second, file_sha256(tmp_path / "b.zarr")}) == 3
    os.mkfifo(tmp_path / "a.zarr" / "pipe")
    with pytest.raises(InputError, match="pipe is no file"):
        file_sha256(tmp_path / "a.zarr")


def test_hash_of_a_store_that_cannot_be_read_is_no_hash(tmp_path: Path, monkeypatch):
    def forbid(path):
        raise PermissionError(errno.EACCES, "Permission denied")

    monkeypatch.setattr(os, "scandir", forbid)
    with pytest.raises(InputError, match="cannot be read: Permission denied"):
        file_sha256(tmp_path)


def test_a_store_that_a_killed_writer_set_aside_comes_back(tmp_path: Path, dataset: xr.Dataset):
    save_dataset(dataset, tmp_path / "a.zarr")
    aside = tmp_path / ".writing-killed" / "old"
    aside.mkdir(parents=True)
    (tmp_path / "a.zarr").rename(aside / "a.zarr")
    os.utime(aside.parent, (1e9, 1e9))
    save_dataset(dataset, tmp_path / "b.zarr")
    assert open_dataset(tmp_path / "a.zarr").identical(dataset)
    assert sorted(os.listdir(tmp_path)) == ["a.zarr", "b.zarr"]


def test_a_writer_that_is_at_work_keeps_its_scratch_folder(tmp_path: Path, dataset: xr.Dataset):
    with scratch_folder(tmp_path / "a.nc") as scratch:
        os.utime(scratch, (1e9, 1e9))
        save_dataset(dataset, tmp_path / "b.nc")
        assert scratch.is_dir()
    (tmp_path / ".writing-dead").mkdir()
    os.utime(tmp_path / ".writing-dead", (1e9, 1e9))
    save_dataset(dataset, tmp_path / "c.nc")
    assert sorted(os.listdir(tmp_path)) == ["b.nc", "c.nc"]
