"""What a killed process leaves in a run folder: none of it keeps another from going on there.

A run begins with copies of the user's files, before its config tells of them. A list of their names
is written first, so that half of the copies are known for what they are.
"""

import json
import re
import shutil
from contextlib import suppress
from pathlib import Path

from impindiff._files import MOST_BYTES, read_whole
from impindiff.data import sweep

COPIES = ".copies.writing"
"""Name of the list of copies that a run begins with; gone as soon as it has begun."""

CLAIM = ".lock"
"""Name of the note that says who claims a run folder; gone when the claim ends."""

# Scratch folders, the note of a claim, and drafts of earlier versions.
_LEFT = re.compile(r"\.writing-.*|\.lock|\..+\.writing|\.report\.html\.\d+")


def is_left(path: Path) -> bool:
    """Whether something in a folder that holds no run was left by a killed process."""
    copies = {name.partition("/")[0] for name in _copies(path.parent)}
    return path.name in copies or _LEFT.fullmatch(path.name) is not None


def remove_left(folder: Path, *, holds_run: bool) -> None:
    """Remove what killed processes left in a run folder that is claimed."""
    if not holds_run:
        for name in _copies(folder):
            with suppress(OSError):
                (folder / name).unlink()
            for parent in list(Path(name).parents)[:-1]:
                with suppress(OSError):  # not empty
                    (folder / parent).rmdir()
    sweep(folder)
    for path in folder.glob("checkpoints/*.orbax-checkpoint-tmp*"):
        shutil.rmtree(path, ignore_errors=True)
    for path in folder.iterdir():
        if path.is_file() and _LEFT.fullmatch(path.name):
            with suppress(OSError):
                path.unlink()


def _copies(folder: Path) -> set[str]:
    try:
        return set(json.loads(read_whole(folder / COPIES, MOST_BYTES)))
    except (OSError, ValueError, TypeError, RecursionError):
        return set()
