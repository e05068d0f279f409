"""Training state on disk, so that a run can go on exactly where it stopped.

A checkpoint holds the learned arrays, the optimiser's state and a note of how far training had
come. orbax writes it beside the last one and renames it when it is complete: a kill leaves the
previous one whole.
"""

import contextlib
import logging
from collections.abc import Iterator
from pathlib import Path
from typing import Any, final

import jax
import orbax.checkpoint as ocp
from jaxtyping import PyTree
from pydantic import BaseModel

from impindiff._errors import InputError


class Progress(BaseModel):
    """How far training had come.

    Attributes:
        epoch: epochs done, over all stages.
        stage: index of the stage under way.
        stage_epoch: epochs done in it.
        seconds: training time so far.
        finished: whether training is complete.
    """

    epoch: int = 0
    stage: int = 0
    stage_epoch: int = 0
    seconds: float = 0.0
    finished: bool = False


@final
class Checkpoints:
    """The checkpoints of one run, the last two of which are kept.

    Args:
        folder: where they lie; created when the first one is saved.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder.resolve()

    def save(self, progress: Progress, learned: PyTree, state: Any) -> None:
        """Save as the newest.

        Raises: InputError if the folder cannot be written.
        """
        items = ocp.args.Composite(
            learned=ocp.args.StandardSave(_by_path(learned)),
            optimiser=ocp.args.StandardSave(_by_path(state)),
            progress=ocp.args.JsonSave(progress.model_dump()),
        )
        try:
            with self._manager() as manager:
                manager.save((manager.latest_step() or 0) + 1, args=items, force=True)
        except OSError as error:
            raise InputError(
                f"{self.folder}: the checkpoint of epoch {progress.epoch} could not be written "
                f"({error.strerror or error}). Free space or check permissions, then go on with "
                f"--resume."
            ) from error

    def progress(self) -> Progress | None:
        """How far the last checkpoint had come; None where there is none."""
        if not self.folder.is_dir():
            return None
        with self._manager() as manager:
            step = manager.latest_step()
            if step is None:
                return None
            kept = manager.restore(step, args=ocp.args.Composite(progress=ocp.args.JsonRestore()))
        return Progress.model_validate(kept["progress"])

    def restore_learned(self, template: PyTree) -> PyTree:
        """The learned arrays of the last checkpoint, in the structure of `template`."""
        return self._restore("learned", template)

    def restore_state(self, template: Any) -> Any:
        """The optimiser's state of the last checkpoint, in the structure of `template`."""
        return self._restore("optimiser", template)

    def _restore(self, item: str, template: PyTree) -> PyTree:
        wanted = _by_path(template)
        with self._manager() as manager:
            step = manager.latest_step()
            if step is None:
                raise InputError(f"{self.folder} holds no checkpoint: train first.")
            try:
                arguments = {item: ocp.args.StandardRestore(wanted)}
                kept = manager.restore(step, args=ocp.args.Composite(**arguments))
            except (ValueError, KeyError, TypeError) as error:
                raise InputError(
                    f"{self.folder}: the checkpoint of epoch {step} does not fit the model of "
                    f"the run's config "
                    f"({str(error).splitlines()[0][:200]}). Was config.toml changed after training?"
                ) from error
        return jax.tree.unflatten(
            jax.tree.structure(template), [kept[item][path] for path in wanted]
        )

    @contextlib.contextmanager
    def _manager(self) -> Iterator[ocp.CheckpointManager]:
        # orbax reports every file at level "warning" or "info"; its errors still come through.
        logging.getLogger("absl").setLevel(logging.ERROR)
        options = ocp.CheckpointManagerOptions(max_to_keep=2, enable_async_checkpointing=False)
        manager = ocp.CheckpointManager(self.folder, options=options)
        try:
            yield manager
        finally:
            manager.close()


def _by_path(tree: PyTree) -> dict[str, jax.Array]:
    """Arrays by the path to them: orbax need not know our classes, a reader sees names."""
    leaves, _ = jax.tree_util.tree_flatten_with_path(tree)
    return {
        f"{i:03d}{jax.tree_util.keystr(path)}".replace("/", "|"): leaf
        for i, (path, leaf) in enumerate(leaves)
    }
