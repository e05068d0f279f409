"""Stores that grow: what is added joins what was there, and nothing else ever shows."""

import errno
import json
import os
from pathlib import Path

import numpy as np
import pytest
import xarray as xr

from impindiff import InputError
from impindiff.data import append_dataset, open_dataset, save_dataset


@pytest.fixture
def growing(dataset: xr.Dataset) -> xr.Dataset:
    """With a variable in time alone, of whole numbers."""
    return dataset.assign(count=("time", np.arange(5), {"units": "1", "long_name": "count"}))


def part(dataset: xr.Dataset, *times: int) -> xr.Dataset:
    return dataset.isel(time=slice(*times))


@pytest.mark.many
@pytest.mark.parametrize("chunks", [None, {"time": 1}, {"time": 2, "sample": 3}, {"time": 100}])
@pytest.mark.parametrize("cuts", [[0, 1, 5], [0, 2, 3, 5], [0, 1, 2, 3, 4, 5]])
def test_parts_become_the_whole(tmp_path: Path, growing: xr.Dataset, chunks, cuts: list[int]):
    path = tmp_path / "a.zarr"
    save_dataset(part(growing, 0, cuts[1]), path, chunks=chunks)
    for times in zip(cuts[1:], cuts[2:], strict=False):
        append_dataset(part(growing, *times), path)
        for opened in (open_dataset(path), xr.open_zarr(path, consolidated=False).load()):
            xr.testing.assert_identical(opened, part(growing, 0, times[1]))
    assert [file.name for file in tmp_path.iterdir()] == ["a.zarr"]


def test_attributes_become_the_stores(tmp_path: Path, growing: xr.Dataset):
    save_dataset(part(growing, 0, 2), tmp_path / "a.zarr")
    append_dataset(part(growing, 2, 5).assign_attrs(until=7.0), tmp_path / "a.zarr")
    assert open_dataset(tmp_path / "a.zarr").attrs == {**growing.attrs, "until": 7.0}


@pytest.mark.parametrize(
    "key, damaged",
    [(".zgroup", {"zarr_format": [None]}), (".zattrs", 1.5), (".zgroup", 3)],
)
def test_damaged_metadata_are_a_message(tmp_path: Path, growing: xr.Dataset, key: str, damaged):
    path = tmp_path / "a.zarr"
    save_dataset(part(growing, 0, 2), path)
    known = json.loads((path / ".zmetadata").read_text())
    known["metadata"][key] = damaged
    (path / ".zmetadata").write_text(json.dumps(known))
    with pytest.raises(InputError, match=r"a\.zarr: cannot be added to: .*, or damaged ones \("):
        append_dataset(part(growing, 2, 5), path)


def test_a_folder_of_a_store_that_may_not_be_written_to_is_named(tmp_path, growing, monkeypatch):
    def forbidden(source: Path, target: Path) -> None:
        raise PermissionError(errno.EACCES, "Permission denied", str(source), None, str(target))

    save_dataset(part(growing, 0, 2), tmp_path / "a.zarr")
    monkeypatch.setattr(os, "replace", forbidden)
    with pytest.raises(InputError, match=r"no permission to write in the folder '\S+a\.zarr/\w+'"):
        append_dataset(part(growing, 2, 5), tmp_path / "a.zarr")


def test_what_an_interrupted_process_left_does_not_come_to_light(tmp_path: Path, growing):
    """Nothing but zeros is added where chunks of other values lie: they, too, are written."""
    path = tmp_path / "a.zarr"
    save_dataset(growing, path, chunks={"time": 2})
    for file in path.rglob(".z*"):
        file.unlink()
    save_dataset(part(growing, 0, 1), tmp_path / "b.zarr", chunks={"time": 2})
    for file in (tmp_path / "b.zarr").rglob(".z*"):
        file.replace(path / file.relative_to(tmp_path / "b.zarr"))
    assert open_dataset(path).identical(part(growing, 0, 1))
    rest = part(xr.zeros_like(growing), 1, 5)
    append_dataset(rest, path)
    assert not open_dataset(path)["concentration"][:, 1:].any()
    assert not open_dataset(path)["count"][1:].any()


@pytest.mark.parametrize(
    "change, message",
    [
        (lambda d: d.drop_vars("moving"), "'count', 'moving', 'time' at its times, but"),
        (lambda d: d.assign(extra=d["count"]), "'extra'.* would be added"),
        (lambda d: d.isel(sample=[0]), "'sample': 10.*'sample': 1.*would be added"),
        (lambda d: d.transpose("time", ...), "'concentration' has the sizes"),
        (lambda d: d.astype(np.float64), "holds float32, but float64 would be added"),
        (lambda d: d.assign_coords(time=d["time"] - 0.1), "ends at time 0.05.*must increase"),
        (lambda d: d.isel(time=[0, 1, 1]), "must increase"),
        (lambda d: d.isel(time=[]), "must increase"),
    ],
)
def test_what_does_not_continue_a_store_is_refused(
    tmp_path: Path, growing: xr.Dataset, change, message: str
):
    path = tmp_path / "a.zarr"
    save_dataset(part(growing, 0, 2), path)
    with pytest.raises(InputError, match=message):
        append_dataset(change(part(growing, 2, 5)), path)
    assert open_dataset(path).identical(part(growing, 0, 2))


def test_what_cannot_grow_is_refused(tmp_path: Path, growing: xr.Dataset):
    def refusal(name: str) -> str:
        with pytest.raises(InputError) as caught:
            append_dataset(growing, tmp_path / name)
        assert str(caught.value).startswith(f"{tmp_path / name}: ")
        return str(caught.value)

    assert "nothing can be added to a netCDF file" in refusal("a.nc")
    assert "no such store" in refusal("a.zarr")
    (tmp_path / "a.zarr").mkdir()
    assert "no zarr store" in refusal("a.zarr")
    growing.to_zarr(tmp_path / "b.zarr", zarr_format=2, consolidated=False)
    assert "no consolidated metadata" in refusal("b.zarr")
    growing.to_zarr(tmp_path / "c.zarr", zarr_format=3, consolidated=False)
    assert "zarr's format 2" in refusal("c.zarr")


@pytest.mark.parametrize("name", ["a.nc", "a.zarr"])
def test_one_time_is_read_alone(tmp_path: Path, dataset: xr.Dataset, name: str):
    dataset = dataset.assign_coords(time=dataset["time"].astype(np.float32))
    save_dataset(dataset, tmp_path / name)
    for time, position in (("first", 0), ("last", 4), (0.15, 3), ("0.15", 3)):
        opened = open_dataset(tmp_path / name, time=time)
        assert opened["time"].values.tolist() == [[0.0, 0.05, 0.1, 0.15, 0.2][position]]
        assert opened["concentration"].identical(
            dataset["concentration"][:, [position]].assign_coords(time=opened["time"])
        )
    for time, message in ((0.12, "not in the data"), ("end", "'first' or the 'last'")):
        with pytest.raises(InputError, match=message):
            open_dataset(tmp_path / name, time=time)


def test_reading_one_time_opens_no_chunk_of_the_others(tmp_path: Path, dataset: xr.Dataset):
    save_dataset(dataset, tmp_path / "a.zarr", chunks={"time": 1})
    for file in (tmp_path / "a.zarr" / "concentration").glob("0.[0-3].*"):
        file.write_bytes(b"damaged")
    opened = open_dataset(tmp_path / "a.zarr", time="last")
    np.testing.assert_array_equal(opened["concentration"], dataset["concentration"][:, 4:])
