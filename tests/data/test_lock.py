"""One writer at a time: whoever comes second waits, or is told who is there."""

import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from impindiff import InputError
from impindiff.data import append_dataset, locked, open_dataset, save_dataset

HOLD = """
import sys, time
from impindiff.data import locked
with locked(sys.argv[1]):
    print("held", flush=True)
    time.sleep(float(sys.argv[2]))
"""


@pytest.fixture
def hold(tmp_path: Path):
    """Holds `a.zarr` in another process for so many seconds."""
    begun = []

    def begin(seconds: float) -> subprocess.Popen:
        given = [sys.executable, "-c", HOLD, str(tmp_path / "a.zarr"), str(seconds)]
        begun.append(subprocess.Popen(given, stdout=subprocess.PIPE, text=True))
        assert begun[-1].stdout.readline() == "held\n"
        return begun[-1]

    yield begin
    for process in begun:
        process.kill()
        process.communicate()


@pytest.mark.thorough
def test_the_second_writer_is_told_who_the_first_is(tmp_path: Path, dataset, hold):
    path = tmp_path / "a.zarr"
    save_dataset(dataset.isel(time=[0]), path)
    process = hold(60)
    for write in (append_dataset, lambda d, p: save_dataset(d, p, overwrite=True)):
        with (
            pytest.MonkeyPatch.context() as patch,
            pytest.raises(InputError, match=rf"a\.zarr: process {process.pid} on .* is writing"),
        ):
            patch.setattr(locked.__wrapped__, "__defaults__", (0.1,))  # type: ignore[attr-defined]
            write(dataset.isel(time=[1]), path)
    assert open_dataset(path).sizes["time"] == 1, "it can be read meanwhile"
    process.kill()
    process.wait()
    append_dataset(dataset.isel(time=[1]), path)
    assert [file.name for file in tmp_path.iterdir()] == ["a.zarr"]


@pytest.mark.thorough
def test_a_writer_waits_for_one_that_is_brief(tmp_path: Path, dataset, hold):
    path = tmp_path / "a.zarr"
    save_dataset(dataset.isel(time=[0]), path)
    began = time.monotonic()
    hold(1)
    append_dataset(dataset.isel(time=[1]), path)
    assert open_dataset(path).sizes["time"] == 2
    assert time.monotonic() - began > 0.9


def test_threads_and_other_names_of_a_store_have_one_lock(tmp_path: Path):
    (tmp_path / "link").symlink_to(tmp_path)
    found = []

    def attempt() -> None:
        try:
            with locked(tmp_path / "link" / "a.zarr", wait=0.1):
                found.append("held twice")
        except InputError as error:
            found.append(str(error))

    with locked(tmp_path / "a.zarr"):
        with locked(tmp_path / "a.zarr"):
            pass
        thread = threading.Thread(target=attempt)
        thread.start()
        thread.join()
    assert len(found) == 1 and "is writing to it" in found[0]
    attempt()
    assert found[1:] == ["held twice"]


@pytest.mark.parametrize("make", [Path.mkdir, lambda path: path.symlink_to("nowhere")])
def test_what_takes_the_place_of_the_lock_is_named(tmp_path: Path, make: Callable):
    """Not the store, which is a folder by right and can be written."""
    make(tmp_path / ".a.zarr.lock")
    named = pytest.raises(InputError, match=r"\.a\.zarr\.lock takes the place .* a\.zarr, .*remove")
    with named, locked(tmp_path / "a.zarr"):
        pass
