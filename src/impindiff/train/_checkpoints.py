"""Training state on disk, so that a run can go on exactly where it stopped.

A checkpoint has the learned arrays, the optimiser's state and a record of how far training had
come. orbax writes it into a folder of its own. That folder is then sealed and renamed: after a kill
the previous checkpoint is still whole. A checkpoint that is not as it was sealed, or belongs to
another run, is passed over, with a message.

orbax takes some characters of a path for patterns, and changes others: `[1]`, `*`, a backslash. So
it is given a path of plain letters that leads to the folder.
"""

import contextlib
import functools
import logging
import os
import re
import shutil
import sys
import tempfile
import threading
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, final

import jax
import jax.numpy as jnp
import numpy as np
import orbax.checkpoint as ocp
from jaxtyping import PyTree
from pydantic import BaseModel

from impindiff._errors import InputError, as_count, warn_caller
from impindiff.train._adaptation import Adaptation
from impindiff.train._early_stopping import Standing
from impindiff.train._sealed import damage_of, is_unsealed, owner_of, seal
from impindiff.train._task import Task

_PLAIN = re.compile(r"[A-Za-z0-9/._+-]*")


@contextmanager
def plain_path(folder: Path) -> Iterator[Path]:
    """A path to a folder, of characters that every store takes for themselves.

    Args:
        folder: absolute.

    Raises: InputError if there is no place for a link to a folder of another name.
    """
    if _PLAIN.fullmatch(str(folder)):
        yield folder
        return
    places = [place for place in (tempfile.gettempdir(), "/tmp", "/var/tmp") if _is_plain(place)]
    try:
        temporary = tempfile.TemporaryDirectory(prefix="impindiff-", dir=places[0])
    except (IndexError, OSError) as error:
        raise InputError(
            f"{folder}: its name has characters that the array store does not take, and a link to "
            f"it cannot be made ({error}). Set TMPDIR to a folder that can be written to, with a "
            "name of plain letters, or choose a place of such a name."
        ) from None
    with temporary as place:
        link = Path(place, "folder")
        link.symlink_to(folder, target_is_directory=True)
        yield link


def _is_plain(place: str) -> bool:
    return bool(_PLAIN.fullmatch(place)) and Path(place).is_dir()


# What is to be said of an item that does not fit, and of the way out.
_UNREADABLE = {
    "progress": "does not say how far training had come ({}). Copy it again from where it is "
    "whole, or train another run.",
    "learned": "cannot be read as the model that the config describes ({}). If the config was "
    "changed after training, change it back; if not, copy it again from where it is whole.",
    "optimiser": "holds what was learned, but its optimiser cannot go on in the middle of a stage "
    "({}). If the config was changed after training, change it back; if an earlier version of "
    "impindiff wrote it (provenance.json names the commit), go on with that one, or train another "
    "run. `impindiff forecast` and `impindiff evaluate` work from what was learned.",
}

_NUMBERED = re.compile(r"[1-9][0-9]*")
_WRITING = ".writing-"


class Progress(BaseModel):
    """How far training had come.

    Attributes:
        epoch: epochs done, over all stages.
        stage: index of the stage under way.
        stage_epoch: epochs done in it.
        seconds: training time so far.
        finished: whether training is complete.
        adaptation: what the stage under way changed of its own accord.
        standing: what early stopping knows.
        stopped_early: whether it ended a stage.
        task: what was trained on; None in checkpoints of earlier versions.
    """

    epoch: int = 0
    stage: int = 0
    stage_epoch: int = 0
    seconds: float = 0.0
    finished: bool = False
    adaptation: Adaptation = Adaptation()
    standing: Standing = Standing()
    stopped_early: bool = False
    task: Task | None = None


@final
class Checkpoints:
    """The checkpoints of one run, the last two of which are kept.

    Args:
        folder: where they lie; created when the first one is saved.
        every: epochs between two of them; there is also one at the end of each stage, and where
            training is interrupted.
        run: identity of the run that they belong to. Those of another one are not read; an empty
            one is that of runs of earlier versions, whose checkpoints name none. By default all
            are read.

    Raises: InputError for fewer than one epoch between two of them.
    """

    def __init__(self, folder: str | Path, every: int = 50, run: str | None = None) -> None:
        every = as_count(every, "every of Checkpoints", 1)
        if not isinstance(folder, str | os.PathLike):
            raise InputError(f"the folder of Checkpoints is {folder!r:.60}: give a path.")
        # Not resolved: a link that leads nowhere is an error to be told when it is followed.
        self.folder = Path(os.path.abspath(folder))
        self.every, self.run = every, run
        self._place: os.stat_result | None = None

    @classmethod
    def at(cls, place: "str | Path | Checkpoints | None") -> "Checkpoints | None":
        """Those of a folder, if one is named."""
        return cls(place) if isinstance(place, str | Path) else place

    def save(self, progress: Progress, learned: PyTree, state: Any) -> None:
        """Save as the newest.

        Raises: InputError if the folder cannot be written, or is gone since the last time.
        """
        self._check_place()
        with self._written(progress, learned, state) as fresh:
            steps = self._steps()
            os.replace(fresh, self.folder / str(max(steps, default=0) + 1))
            # What is damaged is not kept in the place of what is whole; what is of another run is
            # not ours to remove.
            ours = [step for step in steps if self._stranger(step) is None]
            whole = [step for step in ours if damage_of(self.folder / str(step)) is None]
            for step in set(ours) - {max(whole, default=0)}:
                old = self.folder / str(step)
                with contextlib.suppress(OSError):  # somebody else's: the newest stands
                    shutil.rmtree(old) if old.is_dir() else old.unlink()

    def check_usable(self, learned: PyTree, state: Any) -> None:
        """Write what a checkpoint would hold and read it back; nothing of it stays.

        Raises: InputError if the folder cannot be written, or does not give back what was written.
        """
        trees = {"learned": learned, "optimiser": state}
        with self._written(Progress(), learned, state) as fresh:
            with plain_path(fresh) as path:
                found = {item: self._arrays(path, item, tree) for item, tree in trees.items()}
            for item, tree in trees.items():
                for written, read in zip(
                    jax.tree.leaves(tree), jax.tree.leaves(found[item]), strict=True
                ):
                    if np.asarray(written).tobytes() != np.asarray(read).tobytes():
                        raise ValueError("what is read back is not what was written")

    def newest(self) -> Path | None:
        """Where the newest checkpoint lies that is whole; None where there is none.

        Raises: InputError, Warns: RuntimeWarning as `progress`.
        """
        step = self._newest()
        return None if step is None else self.folder / str(step)

    def progress(self) -> Progress | None:
        """How far the newest checkpoint had come; None where there is none.

        Raises: InputError if it cannot be read.
        Warns: RuntimeWarning if a newer one is damaged.
        """
        step = self._newest()
        if step is None:
            return None
        with self._reading(step, "progress") as path:
            kept = self._item(path, "progress", ocp.args.JsonRestore())
            return Progress.model_validate(kept)

    def restore_learned(self, template: PyTree) -> PyTree:
        """The learned arrays of the newest checkpoint, in the structure of `template`.

        Raises: InputError if there is none, if it cannot be read, or is of another structure.
        Warns: RuntimeWarning if a newer one is damaged.
        """
        return self._restore("learned", template)

    def restore_state(self, template: Any) -> Any:
        """The optimiser's state of the newest checkpoint, in the structure of `template`.

        Raises: InputError as for `restore_learned`.
        """
        return self._restore("optimiser", template)

    def _restore(self, item: str, template: PyTree) -> PyTree:
        if not jax.tree.leaves(template):
            return template
        step = self._newest()
        if step is None:
            raise InputError(f"{self.folder} holds no checkpoint: train first.")
        with self._reading(step, item) as path:
            return self._arrays(path, item, template)

    def _steps(self) -> list[int]:
        """Numbers of the checkpoints, damaged ones too, the newest first.

        Raises: InputError where something else takes the folder's place.
        """
        if not self.folder.is_dir():
            if os.path.lexists(self.folder):
                raise InputError(
                    f"{self.folder} is not a folder, and takes the place of the checkpoints: move "
                    "it away. Without checkpoints the training starts again."
                )
            return []
        names = [path.name for path in self.folder.iterdir()]
        return sorted((int(name) for name in names if _NUMBERED.fullmatch(name)), reverse=True)

    def _newest(self) -> int | None:
        """The newest checkpoint of this run that is as it was written; None without any at all."""
        faults, strangers = [], 0
        for step in self._steps():
            folder = self.folder / str(step)
            damage = damage_of(folder)
            stranger = self._stranger(step) if damage is None else None
            if fault := stranger or (damage and f"{folder} is damaged: {damage}"):
                faults.append(fault)
                strangers += stranger is not None
                continue
            if faults:
                warn_caller(f"{faults[0]}. The checkpoint before it is taken, {folder}.")
            if is_unsealed(folder):
                warn_caller(
                    f"{folder} is of an earlier version, which kept no hashes of its files: damage "
                    "to them may go unnoticed."
                )
            return step
        if faults:
            left = "No checkpoint of this run" if strangers else "No whole checkpoint"
            raise InputError(
                f"{'; '.join(faults)}. {left} is left. Copy {self.folder} again from where it is "
                "whole, or train another run."
            )
        return None

    def _stranger(self, step: int) -> str | None:
        """Whose a checkpoint is that does not belong to this run, in words; None if it does."""
        folder = self.folder / str(step)
        try:
            found = owner_of(folder)
        except (OSError, ValueError):
            return None  # a matter of damage
        if self.run is None or (found or "") == self.run:
            return None
        return (
            f"{folder} is of another run (its run.json names {found or 'none'}, the "
            f"provenance.json of this run {self.run or 'none'})"
        )

    @contextlib.contextmanager
    def _written(self, progress: Progress, learned: PyTree, state: Any) -> Iterator[Path]:
        """A complete checkpoint under a name for the time being, gone on leaving.

        Raises: InputError if it cannot be written, or an OSError or a ValueError is raised inside.
        """
        # Not every optimiser has a state, and orbax refuses to save nothing.
        trees = {"learned": _by_path(learned), "optimiser": _by_path(state)}
        items = ocp.args.Composite(
            **{name: ocp.args.StandardSave(tree) for name, tree in trees.items() if tree},
            progress=ocp.args.JsonSave(progress.model_dump(mode="json")),
        )
        _hush_late_writers()
        try:
            if self._place is None:
                self.folder.mkdir(parents=True, exist_ok=True)
                self._place = os.stat(self.folder)
            self._sweep()
            with (
                tempfile.TemporaryDirectory(
                    prefix=_WRITING, dir=self.folder, ignore_cleanup_errors=True
                ) as scratch,
            ):
                fresh = Path(scratch, "new")
                with plain_path(Path(scratch)) as path, _checkpointer() as checkpointer:
                    checkpointer.save(path / "new", args=items)
                self._check_place()
                seal(fresh, self.run)
                yield fresh
        except InputError:
            raise
        # A full disk is an OSError or, from the array store, a ValueError; a state that cannot be
        # stored is a TypeError.
        except (OSError, ValueError, KeyError, TypeError) as error:
            self._check_place()
            raise InputError(
                f"{self.folder}: the checkpoint of epoch {progress.epoch} could not be written "
                f"({_first_line(error)}). {self._standing()} Free space or check permissions, then "
                "go on with --resume."
            ) from error

    def _check_place(self) -> None:
        """Refuse to go on where the folder is not the one that was written into before.

        Raises: InputError.
        """
        if self._place is None:
            return
        with contextlib.suppress(OSError):
            if os.path.samestat(self._place, os.stat(self.folder)):
                return
        # orbax makes the folders that it misses: half a run would stand where it was.
        with contextlib.suppress(OSError):
            for scratch in self.folder.glob(f"{_WRITING}*"):
                shutil.rmtree(scratch)
            self.folder.rmdir()
            self.folder.parent.rmdir()
        raise InputError(f"{self.folder}: the folder was moved or deleted during training.")

    def _standing(self) -> str:
        """What a training would go on from, in a sentence."""
        with contextlib.suppress(InputError, OSError), warnings.catch_warnings(action="ignore"):
            if newest := self.newest():
                return f"{newest} is whole."
        return "There is none before it."

    def _sweep(self) -> None:
        """Remove what kills while saving left behind."""
        for path in self.folder.iterdir():
            if path.name.startswith(_WRITING) or ".orbax-checkpoint-tmp" in path.name:
                shutil.rmtree(path, ignore_errors=True)

    @contextlib.contextmanager
    def _reading(self, step: int, item: str) -> Iterator[Path]:
        """A path that the array store can read an item of a checkpoint from."""
        folder = self.folder / str(step)
        try:
            with plain_path(folder) as path:
                yield path
        except InputError:
            raise
        except (ValueError, KeyError, TypeError, OSError) as error:
            raise InputError(
                f"{folder}: the newest checkpoint {_UNREADABLE[item].format(_first_line(error))}"
            ) from error

    def _arrays(self, path: Path, item: str, template: PyTree) -> PyTree:
        """Arrays of one item, in the structure of `template`."""
        wanted = _by_path(template)
        if not wanted:
            return template
        with _checkpointer() as checkpointer:
            _check_shapes(checkpointer.metadata(path).item_metadata[item].tree, wanted)
        kept = self._item(path, item, ocp.args.StandardRestore(wanted))
        # By way of the host: arrays as orbax gives them are bound to a device, for which the
        # epoch would be compiled anew, and perhaps otherwise than before.
        arrays = [jnp.asarray(np.asarray(kept[key])) for key in wanted]
        return jax.tree.unflatten(jax.tree.structure(template), arrays)

    @staticmethod
    def _item(path: Path, item: str, how: ocp.args.CheckpointArgs) -> Any:
        with _checkpointer() as checkpointer:
            return checkpointer.restore(path, args=ocp.args.Composite(**{item: how}))[item]


def _checkpointer() -> ocp.Checkpointer:
    # orbax logs every file, and what goes wrong it also raises.
    logging.getLogger("absl").setLevel(logging.CRITICAL)
    return ocp.Checkpointer(
        ocp.CompositeCheckpointHandler(
            learned=ocp.StandardCheckpointHandler(),
            optimiser=ocp.StandardCheckpointHandler(),
            progress=ocp.JsonCheckpointHandler(),
        )
    )


@functools.cache
def _hush_late_writers() -> None:
    """Drop what threads complain of that still write when a checkpoint has failed.

    The first error of several writers is raised, and orbax closes its event loop. Of the others the
    array store tells that loop, each time with a traceback, or nobody asks.
    """
    hook = sys.unraisablehook

    def heard(unraisable: Any) -> None:
        error = unraisable.exc_value
        is_late = isinstance(error, RuntimeError) and str(error) == "Event loop is closed"
        if not is_late or threading.current_thread() is threading.main_thread():
            hook(unraisable)

    sys.unraisablehook = heard
    warnings.filterwarnings("ignore", "coroutine .*write_fragment.* was never awaited")
    logging.getLogger("asyncio").addFilter(
        lambda record: "orbax-checkpoint-tmp" not in record.getMessage()
    )


def _by_path(tree: PyTree) -> dict[str, Any]:
    """Arrays by the path to them: orbax need not know our classes, a reader sees names."""
    leaves, _ = jax.tree_util.tree_flatten_with_path(tree)
    return {
        f"{i:03d}{jax.tree_util.keystr(path)}".replace("/", "|"): leaf
        for i, (path, leaf) in enumerate(leaves)
    }


def _check_shapes(stored: Mapping[str, Any], wanted: Mapping[str, Any]) -> None:
    # Before orbax finds out: it leaves reads under way behind, which complain when they end.
    found, expected = ({path: tuple(a.shape) for path, a in d.items()} for d in (stored, wanted))
    for path in sorted({*found, *expected}):
        if found.get(path) != expected.get(path):
            there, here = (d.get(path, "missing") for d in (found, expected))
            raise ValueError(f"the shape of {path} is {there}, expected is {here}")


def _first_line(error: Exception) -> str:
    if isinstance(error, OSError) and error.strerror:
        return error.strerror
    lines = str(error).strip().splitlines() or [type(error).__name__]
    return lines[0][:200]
