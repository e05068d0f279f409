"""Training state on disk, so that a run can go on exactly where it stopped.

A checkpoint holds the learned arrays, the optimiser's state and a note of how far training had
come. orbax writes it beside the last one and renames it when it is complete: a kill leaves the
previous one whole.
"""

import contextlib
import functools
import logging
import os
import sys
import threading
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, final

import jax
import jax.numpy as jnp
import numpy as np
import orbax.checkpoint as ocp
from jaxtyping import PyTree
from pydantic import BaseModel

from impindiff._errors import InputError
from impindiff.train._adaptation import Adaptation
from impindiff.train._early_stopping import Standing


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
    """

    epoch: int = 0
    stage: int = 0
    stage_epoch: int = 0
    seconds: float = 0.0
    finished: bool = False
    adaptation: Adaptation = Adaptation()
    standing: Standing = Standing()
    stopped_early: bool = False


@final
class Checkpoints:
    """The checkpoints of one run, the last two of which are kept.

    Args:
        folder: where they lie; created when the first one is saved.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder.resolve()
        self._is_begun = False

    def save(self, progress: Progress, learned: PyTree, state: Any) -> None:
        """Save as the newest.

        Raises: InputError if the folder cannot be written, or is gone since the last time.
        """
        if self._is_begun and not self.folder.is_dir():
            raise InputError(f"{self.folder}: the folder was moved or deleted during training.")
        _hush_late_writers()
        # Not every optimiser has a state, and orbax refuses to save nothing.
        trees = {"learned": _by_path(learned), "optimiser": _by_path(state)}
        items = ocp.args.Composite(
            **{name: ocp.args.StandardSave(tree) for name, tree in trees.items() if tree},
            progress=ocp.args.JsonSave(progress.model_dump(mode="json")),
        )
        try:
            with self._manager() as manager:
                manager.save((manager.latest_step() or 0) + 1, args=items, force=True)
            self._is_begun = True
        # A full disk is an OSError or, from the array store, a ValueError.
        except (OSError, ValueError) as error:
            raise InputError(
                f"{self.folder}: the checkpoint of epoch {progress.epoch} could not be written "
                f"({_first_line(error)}). Free space or check permissions, then go on with "
                "--resume."
            ) from error

    def newest(self) -> Path | None:
        """Where the newest checkpoint lies; None where there is none."""
        names = os.listdir(self.folder) if self.folder.is_dir() else []
        numbers = [int(name) for name in names if name.isdecimal()]
        return self.folder / str(max(numbers)) if numbers else None

    def progress(self) -> Progress | None:
        """How far the newest checkpoint had come; None where there is none.

        Raises: InputError if it cannot be read.
        """
        kept = self._read("progress", ocp.args.JsonRestore())
        return None if kept is None else Progress.model_validate(kept)

    def restore_learned(self, template: PyTree) -> PyTree:
        """The learned arrays of the newest checkpoint, in the structure of `template`.

        Raises: InputError if there is none, if it cannot be read, or is of another structure.
        """
        return self._restore("learned", template)

    def restore_state(self, template: Any) -> Any:
        """The optimiser's state of the newest checkpoint, in the structure of `template`.

        Raises: InputError as for `restore_learned`.
        """
        return self._restore("optimiser", template)

    def _restore(self, item: str, template: PyTree) -> PyTree:
        wanted = _by_path(template)
        if not wanted:
            return template
        kept = self._read(item, ocp.args.StandardRestore(wanted), wanted)
        if kept is None:
            raise InputError(f"{self.folder} holds no checkpoint: train first.")
        # By way of the host: arrays as orbax gives them are bound to a device, for which the
        # epoch would be compiled anew, and perhaps otherwise than before.
        arrays = [jnp.asarray(np.asarray(kept[path])) for path in wanted]
        return jax.tree.unflatten(jax.tree.structure(template), arrays)

    def _read(
        self,
        item: str,
        how: ocp.args.CheckpointArgs,
        wanted: Mapping[str, Any] | None = None,
    ) -> Any:
        """One item of the newest checkpoint; None where there is no checkpoint."""
        if not self.folder.is_dir():
            return None
        # Read only: others may read while a training writes, or where nothing may be written.
        with self._manager(read_only=True) as manager:
            step = manager.latest_step()
            if step is None:
                return None
            try:
                if wanted is not None:
                    _check_shapes(manager.item_metadata(step)[item].tree, wanted)
                return manager.restore(step, args=ocp.args.Composite(**{item: how}))[item]
            except (ValueError, KeyError, TypeError, OSError) as error:
                newest = self.folder / str(step)
                raise InputError(
                    f"{newest}: the newest checkpoint cannot be read as the model that the config "
                    f"describes ({_first_line(error)}). If the config was changed after training, "
                    f"change it back. If files are damaged, remove {newest}: the checkpoint before "
                    "it then takes its place."
                ) from error

    @contextlib.contextmanager
    def _manager(self, *, read_only: bool = False) -> Iterator[ocp.CheckpointManager]:
        # orbax logs every file, and what goes wrong it also raises.
        logging.getLogger("absl").setLevel(logging.CRITICAL)
        options = ocp.CheckpointManagerOptions(
            max_to_keep=2,
            enable_async_checkpointing=False,
            create=not read_only,
            read_only=read_only,
        )
        handlers = {
            "learned": ocp.StandardCheckpointHandler(),
            "optimiser": ocp.StandardCheckpointHandler(),
            "progress": ocp.JsonCheckpointHandler(),
        }
        manager = ocp.CheckpointManager(self.folder, options=options, item_handlers=handlers)
        try:
            yield manager
        finally:
            manager.close()


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
    lines = str(error).strip().splitlines() or [type(error).__name__]
    return lines[0][:200]
