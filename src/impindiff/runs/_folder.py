"""The run folder: everything one training run knows, complete in itself.

data.nc          the data, if they were made for this run
config.toml      as resolved: the grid, the data's place and every default written out
metrics.jsonl    a line an epoch
checkpoints/     learned arrays and the optimiser's state
summary.json     errors, times, memory
forecast.nc      forecast of the test samples, with the truth beside it
report.html      for people
provenance.json  what made it: versions, commit, device, seed, hashes

Where the config names functions of the user's own, copies of their files lie beside it.
"""

import fcntl
import json
import os
import shlex
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, final

from pydantic import ValidationError

from impindiff._errors import FolderLostError, InputError, warn_caller
from impindiff._files import read_object, read_whole
from impindiff.config import Config, dump_config, load_config
from impindiff.data import holder_note, holder_of, replace_file
from impindiff.report import spans
from impindiff.runs._leftovers import CLAIM, COPIES, is_left, remove_left
from impindiff.train import Checkpoints, EpochRecord

# To delete a folder takes a moment, in which a part of it may be missed before the whole is gone.
_DELETION_SECONDS = 0.5


@final
class RunFolder:
    """The files of a run.

    Args:
        path: the folder; need not exist.
    """

    def __init__(self, path: Path) -> None:
        self.path = Path(path)
        self._is_claimed, self._begun_with = False, list[Path]()
        self._handle: int | None = None

    @staticmethod
    def own_names() -> set[str]:
        """Names of what a run may hold, the user's files apart."""
        names = ("config.toml", "metrics.jsonl", "checkpoints", "summary.json", "forecast.nc")
        return {*names, "report.html", "provenance.json", "data.nc"}

    @property
    def config_file(self) -> Path:
        """The config as resolved."""
        return self.path / "config.toml"

    @property
    def metrics_file(self) -> Path:
        """One line an epoch."""
        return self.path / "metrics.jsonl"

    @property
    def data_file(self) -> Path:
        """The data, where they were made for this run; elsewhere the config names their place."""
        return self.path / "data.nc"

    @property
    def forecast_file(self) -> Path:
        """The forecast of the test samples."""
        return self.path / "forecast.nc"

    @property
    def checkpoints(self) -> Checkpoints:
        """The run's checkpoints."""
        return Checkpoints(self.path / "checkpoints", run=self.identity)

    @property
    def identity(self) -> str | None:
        """What the run's checkpoints are known by; empty for a run of an earlier version.

        None where the provenance cannot be read, or does not say.
        """
        try:
            found = self.read_json("provenance.json").get("run", "")
        except InputError:
            return None
        return found if isinstance(found, str) else None

    @property
    def holds_run(self) -> bool:
        """Whether a run was begun here."""
        return self.config_file.exists()

    @contextmanager
    def claimed(self) -> Iterator[None]:
        """Keep other processes from writing a run here; makes the folder, where there is none.

        May be nested. The claim ends with the process, however that ends. What killed processes
        left half written is removed.

        Raises: InputError if another process is at work here, or the folder cannot be made;
            FolderLostError, in place of whatever else, if it is moved or deleted meanwhile.
        """
        if self._is_claimed:
            yield
            return
        is_new = not self.path.exists()
        try:
            self.path.mkdir(parents=True, exist_ok=True)
            handle = os.open(self.path, os.O_RDONLY)
        except OSError as error:
            raise self._unwritable(error) from None
        try:
            self._lock(handle)
            self._is_claimed, self._handle = True, handle
            self._begun_with = self._vital_parts()
            remove_left(self.path, holds_run=self.holds_run)
            with suppress(OSError):  # a full disk is reported when something is written
                (self.path / CLAIM).unlink(missing_ok=True)  # what it is now may be a pipe
                (self.path / CLAIM).write_bytes(holder_note())
            yield
            is_new = False
        except Exception as error:
            if isinstance(error.__cause__, FileNotFoundError):
                time.sleep(_DELETION_SECONDS)
            self.check_there()
            self._check_complete()
            raise
        finally:
            if self._is_claimed:
                with suppress(OSError):
                    os.unlink(CLAIM, dir_fd=handle)  # wherever the folder is now
            if self._is_claimed and is_new:
                with suppress(OSError):  # not empty: then something worth keeping was written
                    self.path.rmdir()
            self._is_claimed, self._begun_with, self._handle = False, [], None
            os.close(handle)

    def check_there(self) -> None:
        """Refuse to write where the folder that was claimed is no more.

        Raises: FolderLostError that says where it is now, as far as that is known.
        """
        if self._handle is None:
            return
        with suppress(OSError):
            if os.path.samestat(self.path.stat(), os.fstat(self._handle)):
                return
        now = Path(os.path.realpath(f"/proc/self/fd/{self._handle}"))
        message = f"{self.path} was moved or deleted while the run was written there."
        with suppress(OSError):
            if os.path.samestat(now.stat(), os.fstat(self._handle)):
                again = ["train", now / "config.toml", "--out", now, "--resume"]
                message = (
                    f"{self.path} was moved to {now} while the run was written there. "
                    f"{RunFolder(now).standing()} To go on: "
                    + shlex.join(["impindiff", *map(str, again)])
                )
        raise FolderLostError(message)

    def _vital_parts(self) -> list[Path]:
        """Of what a run cannot be without, what is there."""
        parts = (self.config_file, self.path / "provenance.json")
        return [part for part in parts if os.path.lexists(part)]

    def _check_complete(self) -> None:
        """Refuse to go on where parts of the run are gone, as while the folder is being deleted.

        Raises: FolderLostError.
        """
        if gone := [part for part in self._begun_with if not os.path.lexists(part)]:
            raise FolderLostError(
                f"{gone[0]} was deleted while the run was written there: what is left "
                "cannot be continued. Remove the folder, and train again."
            )

    def standing(self) -> str:
        """How far the training had come that is on the disk, in a sentence."""
        try:
            progress, newest = self.checkpoints.progress(), self.checkpoints.newest()
        except InputError as error:
            return f"{error}"
        if progress is None:
            return f"{self.path} holds no checkpoint yet: training starts again."
        if progress.finished:
            return f"{newest} holds the end of training, after epoch {progress.epoch}."
        return f"{newest} holds what was trained to epoch {progress.epoch}."

    def _lock(self, handle: int) -> None:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise InputError(
                f"{self.path}: {holder_of(self.path / CLAIM)} is writing this run. Wait for it, "
                "or choose another --out."
            ) from None
        except OSError:
            pass  # a file system without locks

    def create(self, config: Config, made: Mapping[str, Any]) -> None:
        """Begin a run here, with copies of what its functions were read from.

        The folder must be claimed.

        Args:
            config: as resolved.
            made: its provenance.

        Raises: InputError if the folder holds another run or other files, or cannot be written.
        """
        self.check_free()
        if config.code.files:
            self.write_json(COPIES, [*config.code.files])
        for name, content in config.code.files.items():
            self._write(name, content)
        self.write_json("provenance.json", made)
        # Last: it is what tells that a run was begun.
        self.write_text("config.toml", dump_config(config))
        self._begun_with = self._vital_parts() if self._is_claimed else []
        (self.path / COPIES).unlink(missing_ok=True)

    def check_free(self) -> None:
        """Refuse a folder that is in use, or could not be made.

        Raises: InputError as for `create`.
        """
        if self.holds_run:
            raise InputError(
                f"{self.path} already holds a run. Go on with it by --resume, or choose another "
                "--out."
            )
        if self.path.is_symlink() and not self.path.exists():
            raise InputError(
                f"{self.path} is a link that leads nowhere, or to itself: remove it, or choose "
                "another --out."
            )
        if self.path.exists() and not self.path.is_dir():
            raise InputError(f"{self.path} is a file, not a folder: choose another --out.")
        ours = (self.data_file, self.path / "provenance.json")  # it is written before the config
        held = self.path.iterdir() if self.path.is_dir() else ()
        if any(p not in ours and not is_left(p) for p in held):
            raise InputError(
                f"{self.path} is not empty and holds no run: choose another --out, so that "
                "nothing is overwritten."
            )
        parent = next(p for p in (self.path, *self.path.absolute().parents) if p.exists())
        if not parent.is_dir() or not os.access(parent, os.W_OK | os.X_OK):
            raise InputError(
                f"{self.path}: no permission to write in {parent}. Choose another --out."
            )

    def config(self) -> Config:
        """The config of the run; its functions are those of the files that it was begun with.

        Raises: InputError if this is no run folder.
        """
        if not self.path.is_dir() or not self.holds_run:
            raise InputError(
                f"{self.path} is not a run folder: it holds no config.toml. "
                "Give the folder that 'impindiff train' or 'impindiff run' wrote."
            )
        return self.with_own_code(load_config(self.config_file))

    def with_own_code(self, config: Config) -> Config:
        """The same config, of the Python files here only those that the run was begun with."""
        return config.beside(self.path, self.code_hashes())

    def code_hashes(self) -> dict[str, str]:
        """SHA-256 of the Python files that the run was begun with, by their paths.

        Empty where the provenance cannot be read, or does not say: without hashes no file is known,
        and none is executed.
        """
        try:
            code = self.read_json("provenance.json").get("code")
        except InputError:
            return {}
        return {name: str(code[name]) for name in code} if isinstance(code, dict) else {}

    def write_text(self, name: str, text: str) -> None:
        """Write a file whole or not at all.

        Raises: InputError if it cannot be written.
        """
        self._write(name, text.encode())

    def _write(self, name: str, content: bytes) -> None:
        target = self.path / name
        self.check_there()
        try:
            target.parent.mkdir(parents=True, exist_ok=True)
            replace_file(target, content)
        except OSError as error:
            raise self._unwritable(error, target) from None

    def write_json(self, name: str, content: Any) -> None:
        """Write a JSON file whole or not at all."""
        self.write_text(name, json.dumps(content, indent=2) + "\n")

    def read_json(self, name: str) -> dict[str, Any]:
        """The content of a JSON file.

        Raises: InputError if it is missing, damaged, or holds no object.
        """
        path = self.path / name
        try:
            return read_object(path)
        except OSError as error:
            found = f"cannot be read ({error.strerror or error})"
        except ValueError as error:
            found = str(error)
        raise InputError(f"{path} {found}. Put it back, or train another run.")

    def keep_metrics(self, num_epochs: int) -> list[EpochRecord]:
        """Cut the metrics after so many epochs, and return those that stay.

        What was logged after the last checkpoint is computed again; a line half written by a kill
        is dropped.

        Raises: InputError if they cannot be read.
        Warns: RuntimeWarning if some of these epochs are missing.
        """
        kept: dict[int, EpochRecord] = {}
        try:
            text = read_whole(self.metrics_file).decode(errors="replace")
        except FileNotFoundError:
            text = ""
        except OSError as error:
            raise InputError(
                f"{self.metrics_file} cannot be read ({error.strerror or error}). Move it away."
            ) from None
        for line in text.splitlines():
            with suppress(ValidationError):
                record = EpochRecord.model_validate_json(line)
                kept[record.epoch] = record
        if missing := [epoch for epoch in range(1, num_epochs + 1) if epoch not in kept]:
            warn_caller(
                f"{self.metrics_file}: damaged or cut short: it says nothing of epochs "
                f"{spans(missing)}, which were trained. Training goes on after epoch {num_epochs}.",
            )
        records = [kept[epoch] for epoch in sorted(kept) if 1 <= epoch <= num_epochs]
        self.write_text("metrics.jsonl", "".join(r.model_dump_json() + "\n" for r in records))
        return records

    def log(self, record: EpochRecord) -> None:
        """Add a line to the metrics.

        Raises: InputError if it cannot be written.
        """
        self.check_there()
        self._check_complete()
        try:
            with self.metrics_file.open("a", encoding="utf-8") as file:
                file.write(record.model_dump_json() + "\n")
        except OSError as error:
            raise self._unwritable(error, self.metrics_file) from None

    def _unwritable(self, error: OSError, what: Path | None = None) -> InputError:
        return InputError(
            f"{what or self.path} cannot be written ({error.strerror or error}). Free space, check "
            "permissions, or choose another --out."
        )


@contextmanager
def new_folder(stem: str, parent: Path = Path("runs")) -> Iterator[RunFolder]:
    """A new numbered folder, `runs/STEM-001` and so on, that no other process is given.

    It is gone on leaving if nothing was written.
    Raises: InputError if it cannot be made.
    """
    is_new, number = not parent.exists(), 1
    while True:
        folder = RunFolder(parent / f"{stem}-{number:03d}")
        try:
            parent.mkdir(parents=True, exist_ok=True)
            # Made at once, not looked for first: two processes may look at the same time.
            folder.path.mkdir()
            break
        except FileExistsError:
            if not parent.is_dir():
                raise InputError(
                    f"{parent} is a file, but runs without --out go into a folder of this name: "
                    "give --out."
                ) from None
            number += 1
        except OSError as error:
            raise InputError(
                f"{folder.path} cannot be made ({error.strerror or error}). Give --out."
            ) from None
    try:
        yield folder
    finally:
        with suppress(OSError):  # not empty
            folder.path.rmdir()
            if is_new:
                parent.rmdir()
