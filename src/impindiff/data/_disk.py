"""Writing files so that none is ever seen half written.

Everything is written to a folder beside its destination first, which is gone afterwards, and then
moved into place, which takes one step.
"""

import errno
import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from impindiff._errors import InputError

_FULL = (errno.ENOSPC, errno.EDQUOT)
_FORBIDDEN = (errno.EACCES, errno.EPERM, errno.EROFS)


@contextmanager
def scratch_folder(path: Path) -> Iterator[Path]:
    """A folder beside `path`, on the same disk, that is gone on leaving."""
    with tempfile.TemporaryDirectory(
        prefix=".writing-", dir=path.parent, ignore_cleanup_errors=True
    ) as folder:
        yield Path(folder)


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


def move(fresh: Path, path: Path, aside: Path) -> None:
    """Put `fresh` in the place of `path`; a folder there steps aside, and back on failure."""
    if not path.is_dir():
        os.replace(fresh, path)
        return
    os.replace(path, aside)
    try:
        os.replace(fresh, path)
    except BaseException:
        os.replace(aside, path)
        raise
