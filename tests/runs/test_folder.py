"""The run folder: whose it is, and that it is never found half written."""

import json
import os
import re
import shutil
import subprocess
import sys
import threading
from pathlib import Path

import pytest
from small_problem import make_tables

from impindiff import InputError
from impindiff._errors import FolderLostError
from impindiff.config import parse_config
from impindiff.runs import RunFolder, new_folder
from impindiff.train import EpochRecord

CONFIG = parse_config(make_tables(), "it")
MADE = {"data": {"file": "data.nc", "sha256": "0"}}


def record(epoch: int) -> EpochRecord:
    return EpochRecord(
        epoch=epoch,
        stage="adam",
        loss=0.1 / epoch,
        validation=None if epoch % 2 else 3.0,
        seconds=epoch,
        solver_iterations=2,
        adjoint_iterations=2,
        learning_rate=1e-3,
    )


def test_a_run_is_begun_in_a_new_folder_or_an_empty_one(tmp_path: Path):
    for path in (tmp_path / "a" / "b c" / "ü", tmp_path / "empty"):
        if path.name == "empty":
            path.mkdir()
        folder = RunFolder(path)
        assert not folder.holds_run
        with folder.claimed():
            folder.create(CONFIG, MADE)
        assert folder.holds_run
        assert folder.config() == CONFIG


def test_its_own_data_may_be_there_before(tmp_path: Path):
    folder = RunFolder(tmp_path)
    folder.data_file.write_bytes(b"")
    folder.create(CONFIG, MADE)
    assert folder.holds_run


def test_what_is_in_use_is_left_alone(tmp_path: Path):
    folder = RunFolder(tmp_path)
    folder.create(CONFIG, MADE)
    for attempt in (folder.check_free, lambda: folder.create(CONFIG, MADE)):
        with pytest.raises(InputError, match="already holds a run.*--resume.*another --out"):
            attempt()
    other = tmp_path / "other"
    other.mkdir()
    (other / "thesis.tex").write_text("years of work")
    with pytest.raises(InputError, match="not empty and holds no run"):
        RunFolder(other).create(CONFIG, MADE)
    with pytest.raises(InputError, match="is a file, not a folder"):
        RunFolder(other / "thesis.tex").check_free()
    with pytest.raises(InputError, match="thesis.tex"):
        RunFolder(other / "thesis.tex" / "run").check_free()
    assert [path.name for path in other.iterdir()] == ["thesis.tex"]


@pytest.mark.skipif(os.geteuid() == 0, reason="the superuser may write anywhere")
def test_a_folder_without_permission_is_named(tmp_path: Path):
    tmp_path.chmod(0o500)
    with pytest.raises(InputError, match="no permission to write"):
        RunFolder(tmp_path / "run").check_free()


def test_a_claim_makes_the_folder_and_leaves_no_empty_one(tmp_path: Path):
    folder = RunFolder(tmp_path / "runs" / "run")
    with pytest.raises(KeyboardInterrupt), folder.claimed():
        assert folder.path.is_dir()
        raise KeyboardInterrupt
    assert not folder.path.exists()
    with folder.claimed(), folder.claimed():
        folder.create(CONFIG, MADE)
    assert folder.holds_run
    given = RunFolder(tmp_path / "given")
    given.path.mkdir()
    with pytest.raises(KeyboardInterrupt), given.claimed():
        raise KeyboardInterrupt
    assert given.path.is_dir(), "a folder that was there before stays"


@pytest.mark.thorough
def test_another_process_keeps_out_until_the_claim_ends(tmp_path: Path):
    folder = RunFolder(tmp_path / "run")
    attempt = (
        "import sys; from pathlib import Path; from impindiff.runs import RunFolder\n"
        "try:\n"
        "    with RunFolder(Path(sys.argv[1])).claimed(): print('mine')\n"
        "except ValueError as error: print(error)"
    )

    def elsewhere() -> str:
        command = [sys.executable, "-c", attempt, str(folder.path)]
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout

    with folder.claimed():
        other = RunFolder(folder.path).claimed()
        holder = rf"process {os.getpid()} on .* since \d+-.* is writing this run"
        with pytest.raises(InputError, match=holder), other:
            pass
        assert re.search(holder, elsewhere())
        folder.create(CONFIG, MADE)
    assert elsewhere() == "mine\n"
    assert not (folder.path / ".lock").exists()
    (folder.path / ".lock").write_text("process 1 that was killed")
    with folder.claimed():
        assert str(os.getpid()) in (folder.path / ".lock").read_text()


def test_a_claim_whose_note_is_gone_is_one(tmp_path: Path):
    folder = RunFolder(tmp_path / "run")
    with folder.claimed():
        (folder.path / ".lock").unlink()
        os.mkfifo(folder.path / ".lock")
        other = RunFolder(folder.path).claimed()
        with pytest.raises(InputError, match="another process is writing this run"), other:
            pass
    os.mkfifo(folder.path / ".lock")
    with folder.claimed():
        assert str(os.getpid()) in (folder.path / ".lock").read_text()


def test_metrics_are_cut_where_the_checkpoint_ended(tmp_path: Path):
    folder = RunFolder(tmp_path)
    assert folder.keep_metrics(0) == []
    for epoch in range(1, 6):
        folder.log(record(epoch))
    with folder.metrics_file.open("a") as file:
        file.write('{"epoch":6,"sta')
    assert folder.keep_metrics(4) == [record(epoch) for epoch in range(1, 5)]
    lines = folder.metrics_file.read_text().splitlines()
    assert [json.loads(line)["epoch"] for line in lines] == [1, 2, 3, 4]
    assert json.loads(lines[0])["validation"] is None
    folder.log(record(5))
    assert len(folder.keep_metrics(5)) == 5


def test_a_validation_that_is_no_number_is_null(tmp_path: Path):
    folder = RunFolder(tmp_path)
    folder.log(record(1).model_copy(update={"validation": float("nan")}))
    assert json.loads(folder.metrics_file.read_text())["validation"] is None


def test_a_file_is_written_whole_or_not_at_all(tmp_path: Path, monkeypatch):
    folder = RunFolder(tmp_path)
    folder.write_json("summary.json", {"a": 1})

    def full(*args, **kwargs):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(InputError, match=r"cannot be written \(No space left on device\)"):
        folder.write_json("summary.json", {"a": 2})
    assert folder.read_json("summary.json") == {"a": 1}
    assert os.listdir(tmp_path) == ["summary.json"]


def test_what_a_killed_process_left_is_removed_and_in_nobodys_way(tmp_path: Path):
    """Drafts, scratch folders, half a checkpoint, and copies without the config that names them."""
    folder = RunFolder(tmp_path / "run")
    (folder.path / "pack").mkdir(parents=True)
    folder.write_json(".copies.writing", ["physics.py", "pack/more.py", "never.py"])
    for name in ("physics.py", "pack/more.py", ".report.html.4242", ".summary.json.writing"):
        (folder.path / name).write_text("half")
    (folder.path / ".writing-abc").mkdir()
    (folder.path / ".writing-abc" / "new").write_text("half")
    os.utime(folder.path / ".writing-abc", (1e9, 1e9))
    folder.check_free()
    with folder.claimed():
        folder.create(CONFIG, MADE)
    assert sorted(os.listdir(folder.path)) == ["config.toml", "provenance.json"]
    for name in ("physics.py", ".report.html.4242"):
        (folder.path / name).write_text("")
    (folder.path / "checkpoints" / "3.orbax-checkpoint-tmp").mkdir(parents=True)
    with folder.claimed():
        assert os.listdir(folder.path / "checkpoints") == []
    names = ["checkpoints", "config.toml", "physics.py", "provenance.json"]
    assert sorted(os.listdir(folder.path)) == names, "the copies of a run stay"


def test_a_folder_that_is_moved_or_deleted_says_so(tmp_path: Path):
    folder, moved = RunFolder(tmp_path / "run"), tmp_path / "moved here"
    with pytest.raises(FolderLostError) as lost, folder.claimed():
        folder.create(CONFIG, MADE)
        folder.log(record(1))
        folder.path.rename(moved)
        folder.log(record(2))
    assert f"was moved to {moved} while" in str(lost.value)
    assert f"train '{moved}/config.toml' --out '{moved}' --resume" in str(lost.value)
    assert not folder.path.exists() and (moved / "metrics.jsonl").read_text().count("\n") == 1
    again = RunFolder(moved)
    with pytest.raises(FolderLostError, match="was moved or deleted while"), again.claimed():
        shutil.rmtree(moved)
        raise OSError("whatever comes of it")
    with pytest.raises(FolderLostError, match="config.toml was deleted"), folder.claimed():
        folder.create(CONFIG, MADE)
        folder.config_file.unlink()
        folder.log(record(1))


def test_the_end_of_a_deletion_is_awaited(tmp_path: Path):
    folder = RunFolder(tmp_path / "run")
    with pytest.raises(FolderLostError, match="moved or deleted while"), folder.claimed():
        folder.create(CONFIG, MADE)
        threading.Timer(0.1, shutil.rmtree, [folder.path]).start()
        raise InputError("a checkpoint could not be written") from FileNotFoundError()


@pytest.mark.parametrize("name", ["config.toml", "provenance.json"])
def test_a_run_that_is_being_deleted_is_lost(tmp_path: Path, name: str):
    """The folder is still there, and writing fails for what is gone already."""
    folder = RunFolder(tmp_path / "run")
    with pytest.raises(FolderLostError, match=f"{name} was deleted"), folder.claimed():
        folder.create(CONFIG, MADE)
        (folder.path / name).unlink()
        raise InputError("a checkpoint could not be written")


def test_what_is_no_run_folder_is_named(tmp_path: Path):
    for path in (tmp_path, tmp_path / "missing"):
        with pytest.raises(InputError, match="is not a run folder: it holds no config.toml"):
            RunFolder(path).config()
    (tmp_path / "config.toml").write_text("title = 3")
    with pytest.raises(InputError, match="config.toml: .*'title' is 3"):
        RunFolder(tmp_path).config()


def test_new_folders_are_numbered_and_gone_if_nothing_was_written(tmp_path: Path):
    parent = tmp_path / "runs"
    with new_folder("case", parent) as first, new_folder("case", parent) as second:
        assert [f.path.name for f in (first, second)] == ["case-001", "case-002"]
        second.create(CONFIG, MADE)
    assert [path.name for path in parent.iterdir()] == ["case-002"]
    (parent / "case-001").write_text("")
    with new_folder("case", parent) as folder:
        assert folder.path == parent / "case-003"
    with pytest.raises(KeyboardInterrupt), new_folder("case", tmp_path / "other"):
        raise KeyboardInterrupt
    assert not (tmp_path / "other").exists()
    with pytest.raises(InputError, match="case-001 is a file, but runs"):
        new_folder("a", parent / "case-001").__enter__()


@pytest.mark.thorough
def test_as_many_as_begin_at_once_get_a_folder_each(tmp_path: Path):
    attempt = (
        "import sys; from pathlib import Path; from impindiff.runs import new_folder\n"
        "print(end='ready\\n', flush=True); sys.stdin.readline()\n"
        "with new_folder('case', Path(sys.argv[1])) as folder:\n"
        "    print(folder.path.name, flush=True); sys.stdin.readline()"
    )
    given = [sys.executable, "-c", attempt, str(tmp_path)]
    pipe = subprocess.PIPE
    started = [subprocess.Popen(given, stdin=pipe, stdout=pipe, text=True) for _ in range(2)]
    streams = [(p.stdin, p.stdout) for p in started if p.stdin and p.stdout]
    for _, out in streams:
        assert out.readline() == "ready\n"
    for to, _ in streams:
        to.write("go\n")
        to.flush()
    names = {out.readline() for _, out in streams}
    for process in started:
        process.communicate("done\n")
    assert names == {"case-001\n", "case-002\n"}


def test_hashes_are_there_before_it_is_a_run(tmp_path: Path, monkeypatch):
    folder, write = RunFolder(tmp_path / "run"), RunFolder.write_text

    def killed(self, name: str, text: str) -> None:
        if name == "config.toml":
            raise KeyboardInterrupt
        write(self, name, text)

    with monkeypatch.context() as patch:
        patch.setattr(RunFolder, "write_text", killed)
        with pytest.raises(KeyboardInterrupt):
            folder.create(CONFIG, MADE)
    assert not folder.holds_run and folder.read_json("provenance.json") == MADE
    folder.create(CONFIG, MADE)
    assert folder.holds_run, "what was stopped before may be begun again"


BAD_JSON = {
    "": "is empty",
    '{"a": 1': "damaged or cut short",
    "[1]": "holds a JSON list",
    "[" * 100_000: "nested too deeply",
    "\xff": "damaged",
}


@pytest.mark.parametrize("content, message", BAD_JSON.items())
def test_what_is_no_json_object_is_named(tmp_path: Path, content: str, message: str):
    folder = RunFolder(tmp_path)
    with pytest.raises(InputError, match=r"provenance.json cannot be read \(No such file"):
        folder.read_json("provenance.json")
    (tmp_path / "provenance.json").write_bytes(content.encode("latin-1"))
    with pytest.raises(InputError, match=f"provenance.json .*{message}.*Put it back"):
        folder.read_json("provenance.json")


@pytest.mark.parametrize("name", ["provenance.json", "metrics.jsonl", "config.toml"])
def test_a_folder_or_a_pipe_in_the_place_of_a_file_is_named(tmp_path: Path, name: str):
    folder = RunFolder(tmp_path)
    readers = {
        "provenance.json": lambda: folder.read_json("provenance.json"),
        "metrics.jsonl": lambda: folder.keep_metrics(3),
        "config.toml": folder.config,
    }
    (tmp_path / name).mkdir()
    with pytest.raises(InputError, match=f"{name}.* be read .*[Ii]s (no file|a directory)"):
        readers[name]()
    (tmp_path / name).rmdir()
    os.mkfifo(tmp_path / name)
    with pytest.raises(InputError, match=f"{name}.*is a pipe, and nobody writes"):
        readers[name]()


def test_a_pipe_among_the_leftovers_is_not_waited_for(tmp_path: Path):
    folder = RunFolder(tmp_path / "run")
    folder.path.mkdir()
    os.mkfifo(folder.path / ".copies.writing")
    folder.check_free()
    with folder.claimed():
        folder.create(CONFIG, MADE)
    assert folder.holds_run


def test_epochs_without_a_line_are_named(tmp_path: Path):
    folder = RunFolder(tmp_path)
    for epoch in (1, 2, 6, 8, 9):
        folder.log(record(epoch))
    folder.keep_metrics(2)
    for epoch in (6, 8):
        folder.log(record(epoch))
    with pytest.warns(RuntimeWarning, match="says nothing of epochs 3 to 5, 7, which were"):
        kept = folder.keep_metrics(8)
    assert [one.epoch for one in kept] == [1, 2, 6, 8]
    folder.metrics_file.unlink()
    with pytest.warns(RuntimeWarning, match="says nothing of epochs 1 to 8"):
        folder.keep_metrics(8)
