"""Whatever is wrong with a file ends in one message that names it, and in no open file."""

import gc
import os
from pathlib import Path

import h5py
import numpy as np
import pytest
import xarray as xr

from impindiff._errors import InputError
from impindiff.data import check_dataset, check_units, open_dataset, save_dataset


@pytest.fixture
def file(tmp_path: Path, dataset: xr.Dataset) -> Path:
    save_dataset(dataset, tmp_path / "good.nc")
    return tmp_path / "good.nc"


def refusal(path: Path) -> str:
    """The message on opening; there is no other error, no warning and no file left open."""

    def num_open() -> int:
        return len(os.listdir("/proc/self/fd")) if Path("/proc/self/fd").exists() else 0

    before = num_open()
    with pytest.raises(InputError) as caught:
        open_dataset(path)
    message = str(caught.value)
    assert message.startswith(f"{path}: ")
    del caught
    gc.collect()
    assert num_open() == before
    return message


@pytest.mark.thorough
@pytest.mark.parametrize("share", [0.002, 0.05, 0.3, 0.5, 0.9, 0.9999])
def test_a_truncated_file_is_refused(file: Path, share: float):
    whole = file.read_bytes()
    file.write_bytes(whole[: int(share * len(whole))])
    assert "truncated" in refusal(file)


def test_a_public_file_cut_in_half_is_refused(public_file: Path, tmp_path: Path):
    cut = tmp_path / "cut.nc"
    cut.write_bytes(public_file.read_bytes()[: public_file.stat().st_size // 2])
    assert "truncated" in refusal(cut)


@pytest.mark.many
@pytest.mark.parametrize("seed", range(12))
def test_damaged_bytes_are_refused_or_harmless(file: Path, seed: int):
    """Overwrite stretches of the file: either the reader does not need them, or it says so."""
    rng = np.random.default_rng(seed)
    content = bytearray(file.read_bytes())
    for start in rng.integers(8, len(content) - 64, size=4):
        content[start : start + 64] = rng.bytes(64)
    file.write_bytes(content)
    try:
        open_dataset(file)
    except InputError as error:
        assert str(file) in str(error)


@pytest.mark.thorough
@pytest.mark.parametrize(
    "name, content, said",
    [
        ("empty.nc", b"", "is empty (0 bytes)"),
        ("text.nc", b"x,y,c\n1,2,3\n", "not a netCDF-4 file: it starts with b'x,y,c"),
        ("one.nc", b"\x89", "not a netCDF-4 file"),
        ("signature.nc", b"\x89HDF\r\n\x1a\n", "truncated"),
        ("old.nc", b"CDF\x01" + bytes(60), "nccopy"),
        ("table.csv", b"1,2", "ends in '.csv', but a dataset is a .nc file (netCDF-4) or a .zarr"),
        ("bare", b"", "ends in ''"),
        ("file.zarr", b"", "is a file, but a .zarr dataset is a folder"),
    ],
)
def test_other_files_are_told_apart(tmp_path: Path, name: str, content: bytes, said: str):
    (tmp_path / name).write_bytes(content)
    assert said in refusal(tmp_path / name)


@pytest.mark.thorough
def test_a_missing_file_names_its_neighbours(file: Path):
    message = refusal(file.with_name("goods.nc"))
    assert "no such file" in message and "holds good.nc" in message
    assert "no folder" in refusal(file.parent / "nowhere" / "a.nc")
    file.unlink()
    assert "holds no dataset" in refusal(file)


@pytest.mark.thorough
def test_folders_that_are_no_dataset_are_refused(tmp_path: Path):
    for name, said in [("a.nc", "is a folder"), ("a.zarr", "neither zarr.json nor .zgroup")]:
        (tmp_path / name).mkdir()
        assert said in refusal(tmp_path / name)


def test_a_damaged_zarr_store_is_refused(tmp_path: Path, dataset: xr.Dataset):
    store = tmp_path / "a.zarr"
    save_dataset(dataset, store)
    chunk = next(
        path for path in sorted((store / "concentration").iterdir()) if path.name[0] != "."
    )
    chunk.write_bytes(chunk.read_bytes()[:-20])
    assert "truncated, damaged" in refusal(store)
    (store / ".zgroup").write_text("{")
    assert "damaged" in refusal(store)


def test_plain_hdf5_has_no_layout(tmp_path: Path):
    with h5py.File(tmp_path / "plain.nc", "w") as file:
        file["a"] = np.zeros((3, 3, 3))
    with pytest.raises(InputError, match="plain.nc: field 'a' has the dimensions .'phony_dim_0'"):
        check_dataset(open_dataset(tmp_path / "plain.nc"), fields=["a"])


def test_what_cannot_be_decoded_is_refused(file: Path):
    with h5py.File(file, "a") as raw:
        raw["concentration"].attrs["scale_factor"] = "twice"
    assert "cannot be read as a netCDF-4 file" in refusal(file)


@pytest.mark.parametrize("name", ["good.nc", "good.zarr"])
def test_no_permission_says_so(file: Path, monkeypatch: pytest.MonkeyPatch, name: str):
    if name.endswith(".zarr"):
        save_dataset(open_dataset(file), file.with_name(name))

    def forbid(*args, **kwargs):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Path, "open", forbid)
    monkeypatch.setattr(os, "listdir", forbid)
    with pytest.raises(InputError, match=f"{name}: no permission to read it.*chmod"):
        open_dataset(file.with_name(name))


def test_too_large_for_memory_says_so(file: Path, monkeypatch: pytest.MonkeyPatch):
    def fail(*args, **kwargs):
        raise MemoryError("Unable to allocate 3 TiB")

    monkeypatch.setattr(xr.Dataset, "load", fail)
    with pytest.raises(InputError, match="good.nc: does not fit into memory .*3 TiB"):
        open_dataset(file)


def test_the_data_lies_in_memory_and_the_file_is_free(file: Path, dataset: xr.Dataset):
    opened = open_dataset(file)
    file.unlink()
    assert opened.identical(dataset)


def test_times_in_seconds_stay_numbers(tmp_path: Path, dataset: xr.Dataset):
    for units in ("seconds", "days since 2000-01-01"):
        dataset["time"].attrs["units"] = units
        save_dataset(dataset, tmp_path / "a.nc", overwrite=True)
        opened = open_dataset(tmp_path / "a.nc")
        assert opened["time"].dtype == np.float64 and opened["time"].attrs["units"] == units


def test_a_missing_name_is_filled_in_and_a_missing_unit_is_not_made_up(tmp_path: Path):
    bare = xr.Dataset({"c": (("sample", "x"), np.zeros((1, 3)))}, {"sample": [0]})
    bare.to_netcdf(tmp_path / "bare.nc", engine="h5netcdf")
    opened = open_dataset(tmp_path / "bare.nc")
    assert opened["c"].attrs == {"long_name": "c"}
    assert opened["sample"].attrs == {"units": "1", "long_name": "sample"}
    check_units(opened, {"c": "mol/m3"})
    opened["c"].attrs["units"] = "1"
    with pytest.raises(InputError, match="'c' is in '1', in the system it is in 'mol/m3'"):
        check_units(opened, {"c": "mol/m3"})
    check_units(opened, {"c": "1"})
