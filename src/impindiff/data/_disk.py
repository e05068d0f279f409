"""Writing files so that none is ever seen half written.

Everything is written to a folder beside its destination first, which is gone afterwards, and then
moved into place, which takes one step. The folder of a writer that was killed is removed by the
next one: it is locked for as long as its writer lives.
"""

import errno
import fcntl
import os
import shutil
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from impindiff._errors import InputError

_SCRATCH = ".writing-"
# A folder that is younger may be about to be locked.
_YOUNG_SECONDS = 1.0
_FULL = (errno.ENOSPC, errno.EDQUOT)
_FORBIDDEN = (errno.EACCES, errno.EPERM, errno.EROFS)


@contextmanager
def scratch_folder(path: Path) -> Iterator[Path]:
    """A folder beside `path`, on the same disk, that is gone on leaving."""
    sweep(path.parent)
    with tempfile.TemporaryDirectory(
        prefix=_SCRATCH, dir=path.parent, ignore_cleanup_errors=True
    ) as folder:
        handle = os.open(folder, os.O_RDONLY)
        try:
            with suppress(OSError):  # a file system without locks
                fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
            yield Path(folder)
        finally:
            os.close(handle)


def sweep(folder: Path) -> None:
    """Remove what killed writers left in a folder; what one had set aside is put back."""
    for scratch in folder.glob(f"{_SCRATCH}*"):
        with suppress(OSError):
            if time.time() - scratch.stat().st_mtime < _YOUNG_SECONDS:
                continue
            handle = os.open(scratch, os.O_RDONLY | os.O_DIRECTORY)
            try:
                fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
                for aside in (scratch / "old").glob("*"):
                    if not (folder / aside.name).exists():
                        os.replace(aside, folder / aside.name)
                shutil.rmtree(scratch, ignore_errors=True)
            finally:
                os.close(handle)


def replace_file(path: Path, content: bytes) -> None:
    """Write a file whole or not at all.

    Raises: OSError.
    """
    with scratch_folder(path) as scratch:
        write(scratch / "new", content)
        os.replace(scratch / "new", path)


@contextmanager
def disk_errors(path: Path, standing: str = "nothing was written") -> Iterator[None]:
    """What the disk refuses becomes a message about `path`, with what stands there now."""
    try:
        yield
    except OSError as error:
        if error.errno in _FULL:
            raise InputError(
                f"{path}: no space left on the disk; {standing}. Make room, or choose another "
                "place."
            ) from error
        if error.errno in _FORBIDDEN:
            raise InputError(
                f"{path}: no permission to write in the folder {str(path.parent)!r}. "
                "Choose another place, or have its owner allow it (chmod u+w)."
            ) from error
        raise InputError(f"{path}: cannot be written: {error.strerror or error}.") from error


def write(file: Path, content: bytes | memoryview) -> None:
    """Write a file in a folder that is made where there is none, down to the disk."""
    file.parent.mkdir(parents=True, exist_ok=True)
    with file.open("wb") as stream:
        stream.write(content)
        stream.flush()
        os.fsync(stream.fileno())  # some disks say only now that they are full


def move(fresh: Path, path: Path, scratch: Path) -> None:
    """Put `fresh` in the place of `path`; a folder there steps aside, and back on failure."""
    if not path.is_dir():
        os.replace(fresh, path)
        return
    aside = scratch / "old" / path.name  # where `sweep` finds it, if this process is killed
    aside.parent.mkdir()
    os.replace(path, aside)
    try:
        os.replace(fresh, path)
    except BaseException:
        os.replace(aside, path)
        raise
