"""Checkpoints come back as they were saved; a damaged one says which, and how to do without."""

import errno
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import orbax.checkpoint as ocp
import pytest

from impindiff import InputError
from impindiff.train import Checkpoints, Progress

LEARNED = {"weight": jnp.arange(6.0).reshape(2, 3) / 7, "bias": (jnp.float32(1.5),)}
STATE = (jnp.array(3), {"moments": jnp.linspace(0, 1, 5, dtype=jnp.float32)})


@pytest.fixture
def checkpoints(tmp_path: Path) -> Checkpoints:
    kept = Checkpoints(tmp_path / "checkpoints")
    for epoch in (10, 20, 30):
        kept.save(Progress(epoch=epoch, stage_epoch=epoch, seconds=0.1), LEARNED, STATE)
    return kept


def assert_same(found, expected) -> None:
    assert jax.tree.structure(found) == jax.tree.structure(expected)
    for left, right in zip(jax.tree.leaves(found), jax.tree.leaves(expected), strict=True):
        assert left.dtype == right.dtype and not left.weak_type
        np.testing.assert_array_equal(left, right)


def test_everything_comes_back_exactly(checkpoints: Checkpoints):
    assert checkpoints.progress() == Progress(epoch=30, stage_epoch=30, seconds=0.1)
    assert_same(checkpoints.restore_learned(LEARNED), LEARNED)
    assert_same(checkpoints.restore_state(jax.eval_shape(lambda: STATE)), STATE)


_FULL = """
import resource, sys
from pathlib import Path
import jax.numpy as jnp
from impindiff import InputError
from impindiff.train import Checkpoints, Progress
many = {f"array {n}": jnp.ones(300) / n for n in range(1, 20)}
resource.setrlimit(resource.RLIMIT_FSIZE, (300, 300))
try:
    Checkpoints(Path(sys.argv[1]) / "checkpoints").save(Progress(epoch=1), many, None)
except InputError as error:
    print(error)
"""


@pytest.mark.thorough
def test_of_many_writers_that_fail_one_is_heard(tmp_path: Path):
    done = subprocess.run(
        [sys.executable, "-c", _FULL, str(tmp_path)],
        env={**os.environ, "JAX_ENABLE_COMPILATION_CACHE": "false"},
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert "could not be written" in done.stdout and done.stdout.count("\n") == 1
    assert (done.returncode, done.stderr) == (0, "")


def test_the_last_two_are_kept(checkpoints: Checkpoints):
    assert sorted(os.listdir(checkpoints.folder)) == ["2", "3"]


def test_reading_writes_nothing(tmp_path: Path):
    checkpoints = Checkpoints(tmp_path / "none")
    assert checkpoints.progress() is None
    with pytest.raises(InputError, match="holds no checkpoint: train first"):
        checkpoints.restore_learned(LEARNED)
    assert not checkpoints.folder.exists()


def test_an_unfinished_checkpoint_is_none(checkpoints: Checkpoints):
    """What a kill while saving leaves behind."""
    half = checkpoints.folder / "4.orbax-checkpoint-tmp"
    shutil.copytree(checkpoints.folder / "3" / "learned", half / "learned.orbax-checkpoint-tmp")
    assert checkpoints.progress() == Progress(epoch=30, stage_epoch=30, seconds=0.1)
    checkpoints.save(Progress(epoch=40), LEARNED, STATE)
    assert checkpoints.progress() == Progress(epoch=40)
    assert sorted(os.listdir(checkpoints.folder)) == ["3", "4"]


def empty(folder: Path) -> None:
    for file in [path for path in folder.rglob("*") if path.is_file()]:
        file.write_bytes(b"")


def halve(folder: Path) -> None:
    for file in [path for path in folder.rglob("*") if path.is_file()]:
        file.write_bytes(file.read_bytes()[: file.stat().st_size // 2])


def spoil(path: Path, damage) -> None:
    """Damage a file, or the files of a folder; of the checkpoint itself the folder stays."""
    if path.is_file():
        path.unlink() if damage is shutil.rmtree else path.write_bytes(b"{")
        return
    damage(path)
    if path.name.isdigit():
        path.mkdir(exist_ok=True)


@pytest.mark.many
@pytest.mark.parametrize("damage", [empty, halve, shutil.rmtree])
@pytest.mark.parametrize("part", ["", "learned", "optimiser", "progress", "sha256.json"])
def test_the_checkpoint_before_takes_the_place_of_a_damaged_one(
    checkpoints: Checkpoints, damage, part: str, capfd
):
    newest = checkpoints.folder / "3"
    spoil(newest / part, damage)
    with pytest.warns(RuntimeWarning, match="3 is damaged: .*The checkpoint before it is taken"):
        assert checkpoints.progress() == Progress(epoch=20, stage_epoch=20, seconds=0.1)
    with pytest.warns(RuntimeWarning, match="damaged"):
        assert_same(checkpoints.restore_learned(LEARNED), LEARNED)
    with pytest.warns(RuntimeWarning, match="damaged"):
        assert_same(checkpoints.restore_state(STATE), STATE)
    checkpoints.save(Progress(epoch=25), LEARNED, STATE)
    assert sorted(os.listdir(checkpoints.folder)) == ["2", "4"], "what is whole is kept"
    assert capfd.readouterr().err == ""


@pytest.mark.parametrize("damage", [empty, halve, shutil.rmtree])
def test_where_all_are_damaged_each_is_named(checkpoints: Checkpoints, damage):
    for step in (2, 3):
        spoil(checkpoints.folder / str(step) / "learned", damage)
    for reader in (checkpoints.progress, lambda: checkpoints.restore_learned(LEARNED)):
        with pytest.raises(InputError, match="No whole checkpoint is left") as caught:
            reader()
        assert all(f"{checkpoints.folder / step} is damaged" in str(caught.value) for step in "23")


def test_a_byte_that_changed_is_found(checkpoints: Checkpoints):
    """The array store does not look at all of them."""
    for file in sorted((checkpoints.folder / "3").rglob("*")):
        content = file.read_bytes() if file.is_file() else b""
        if not content:
            continue
        file.write_bytes(bytes([content[0] ^ 1]) + content[1:])
        with pytest.warns(RuntimeWarning, match="3 is damaged"):
            assert checkpoints.progress() == Progress(epoch=20, stage_epoch=20, seconds=0.1)
        file.write_bytes(content)
    assert checkpoints.progress() == Progress(epoch=30, stage_epoch=30, seconds=0.1)


NAMES = ["run[1]", "a*b?", "a\\b", "with a space", "ü-名", "a\nb", "{a}%41#", os.fsdecode(b"\xff")]


@pytest.mark.many
@pytest.mark.parametrize("name", NAMES)
def test_a_folder_may_have_any_name(tmp_path: Path, name: str):
    checkpoints = Checkpoints(tmp_path / name / "checkpoints")
    checkpoints.check_usable(LEARNED, STATE)
    for epoch in (10, 20):
        checkpoints.save(Progress(epoch=epoch), LEARNED, STATE)
    assert checkpoints.progress() == Progress(epoch=20)
    assert_same(checkpoints.restore_learned(LEARNED), LEARNED)
    assert_same(checkpoints.restore_state(STATE), STATE)
    assert os.listdir(tmp_path) == [name], "nothing is written elsewhere"


def test_a_place_that_changes_what_is_written_is_refused(tmp_path: Path, monkeypatch):
    checkpoints = Checkpoints(tmp_path / "checkpoints")
    checkpoints.check_usable(LEARNED, STATE)
    assert os.listdir(checkpoints.folder) == []
    restore = ocp.Checkpointer.restore

    def other(self, *args, **kwargs):
        return jax.tree.map(lambda array: array + 1, dict(restore(self, *args, **kwargs)))

    monkeypatch.setattr(ocp.Checkpointer, "restore", other)
    with pytest.raises(InputError, match="what is read back is not what was written"):
        checkpoints.check_usable(LEARNED, STATE)
    assert os.listdir(checkpoints.folder) == []


@pytest.mark.parametrize(
    "template, message",
    [
        ({**LEARNED, "weight": jnp.zeros((2, 4))}, r"is \(2, 3\), expected is \(2, 4\)"),
        ({"weight": LEARNED["weight"]}, "expected is missing"),
        ({**LEARNED, "scale": jnp.zeros(())}, "is missing, expected is"),
    ],
)
def test_another_structure_is_refused(checkpoints: Checkpoints, template, message: str):
    with pytest.raises(InputError, match=message) as caught:
        checkpoints.restore_learned(template)
    assert "config was changed" in str(caught.value)


@pytest.mark.parametrize(
    "error",
    [OSError(errno.ENOSPC, "No space left on device"), ValueError("RESOURCE_EXHAUSTED: disk")],
)
def test_a_full_disk_leaves_the_checkpoints_before(checkpoints: Checkpoints, monkeypatch, error):
    def fail(*args, **kwargs):
        raise error

    monkeypatch.setattr(ocp.Checkpointer, "save", fail)
    with pytest.raises(InputError, match="checkpoint of epoch 40 could not be written") as caught:
        checkpoints.save(Progress(epoch=40), LEARNED, STATE)
    assert f"{checkpoints.newest()} is whole. Free space" in str(caught.value)
    assert "--resume" in str(caught.value)
    assert checkpoints.progress() == Progress(epoch=30, stage_epoch=30, seconds=0.1)


def test_a_folder_that_moves_while_a_checkpoint_is_written_leaves_none_behind(
    checkpoints: Checkpoints, monkeypatch
):
    """orbax makes the folders that it misses, and a half run would stand in the old place."""
    save, run = ocp.Checkpointer.save, checkpoints.folder.parent / "run"
    kept = Checkpoints(run / "checkpoints")
    kept.save(Progress(epoch=10), LEARNED, STATE)

    def move(self, path, *args, **kwargs):
        run.rename(run.with_name("moved"))
        path.parent.mkdir(parents=True)
        save(self, path, *args, **kwargs)

    monkeypatch.setattr(ocp.Checkpointer, "save", move)
    with pytest.raises(InputError, match="moved or deleted during training"):
        kept.save(Progress(epoch=20), LEARNED, STATE)
    assert not run.exists()
    assert Checkpoints(run.with_name("moved") / "checkpoints").progress() == Progress(epoch=10)


def test_a_checkpoint_that_cannot_be_removed_stays(checkpoints: Checkpoints, monkeypatch):
    """It may be somebody else's, in a folder that several may write in."""

    remove = shutil.rmtree

    def forbidden(path: Path, *given: Any, **more: Any) -> None:
        if Path(path).name.isdecimal():
            raise PermissionError(errno.EACCES, "Permission denied", str(path))
        remove(path, *given, **more)

    monkeypatch.setattr(shutil, "rmtree", forbidden)
    checkpoints.save(Progress(epoch=40), LEARNED, STATE)
    assert checkpoints.progress() == Progress(epoch=40)


def test_other_files_in_the_folder_do_not_matter(checkpoints: Checkpoints):
    (checkpoints.folder / "notes.txt").write_text("mine")
    (checkpoints.folder / "backup").mkdir()
    assert checkpoints.progress() is not None
    checkpoints.save(Progress(epoch=40), LEARNED, STATE)
    assert (checkpoints.folder / "notes.txt").read_text() == "mine"
