"""Files of data on disk: written whole, by one writer at a time, known by a hash.

Everything is written to a folder beside its destination first, which is gone afterwards, and then
moved into place, which takes one step. The folder of a writer that was killed is removed by the
next one: it is locked for as long as its writer lives.

A store is read before it is added to. Whoever else adds in between is overwritten, so the lock is
held from the reading to the last file. The system drops it with the process, however that ends.
"""

import datetime
import errno
import fcntl
import hashlib
import os
import shlex
import shutil
import socket
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import NoReturn

from impindiff._errors import InputError
from impindiff._files import MOST_BYTES, read_whole

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
            # Of a store it may be a folder in it.
            found = error.filename2 or error.filename
            folder = Path(os.fsdecode(found) if isinstance(found, str | bytes) else path).parent
            raise InputError(
                f"{path}: no permission to write in the folder {str(folder)!r}. "
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


_WAIT_SECONDS = 5.0
_MOST_BYTES = 400


@contextmanager
def locked(path: str | os.PathLike[str], wait: float = _WAIT_SECONDS) -> Iterator[None]:
    """Keep other processes and threads from changing a store.

    The lock is a file beside the store, which is gone afterwards; one that a killed process left
    is taken over. May be nested.

    Args:
        path: the store; need not exist, its folder must.
        wait: seconds to wait for another writer.

    Raises: InputError that names the other writer, or what takes the place of the lock, or for a
        folder that cannot be written.
    """
    from filelock import FileLock, Timeout  # not needed by those who only read

    path = Path(path)
    real = path.resolve()  # one lock for all names of a store
    lock_file = real.with_name(f".{real.name}.lock")
    lock = FileLock(lock_file, is_singleton=True, on_acquired=_sign)
    with disk_errors(path):
        try:
            lock.acquire(timeout=wait)
        except Timeout:
            raise InputError(
                f"{path}: {holder_of(lock_file)} is writing to it. Wait until that ends, or write "
                "to another store."
            ) from None
        except OSError:
            if lock_file.is_symlink() or lock_file.is_dir():
                raise InputError(
                    f"{lock_file} takes the place of the file that locks {path.name}, and is a "
                    "folder or a link: remove it."
                ) from None
            raise
    try:
        yield
    finally:
        if lock.lock_counter == 1:
            # While it is still held: who waits for it finds that its name is gone, and tries again.
            with suppress(OSError):
                lock_file.unlink()
        lock.release()


def _sign(descriptor: int) -> None:
    """Write into a lock file who holds it; a disk that is full need not be told."""
    with suppress(OSError):
        os.ftruncate(descriptor, 0)
        os.pwrite(descriptor, holder_note(), 0)


def holder_note() -> bytes:
    """The note about this process that others read while it holds a lock."""
    command = shlex.join([Path(sys.argv[0]).name, *sys.argv[1:]])
    since = datetime.datetime.now().astimezone().isoformat(timespec="seconds")
    note = f"process {os.getpid()} on {socket.gethostname()} since {since} ({command})"
    return note.encode(errors="replace")[:_MOST_BYTES]


def holder_of(lock_file: Path) -> str:
    """Who holds a lock, by the note in its file."""
    try:
        note = read_whole(lock_file, MOST_BYTES).decode(errors="replace")
    except OSError:
        return "another process"
    return note[:_MOST_BYTES].strip() or "another process"


def file_sha256(path: str | os.PathLike[str]) -> str:
    """SHA-256 of a file, or of a folder (a zarr store): its files' paths and hashes, in order.

    Raises: InputError if there is nothing at the path, or no permission to read all of it.
    """
    path = Path(path)
    try:
        if not path.is_dir():
            return _digest(path)
        folders = os.walk(path, onerror=_stop)
        files = [Path(folder, name) for folder, _, names in folders for name in names]
        lines = sorted(f"{file.relative_to(path).as_posix()}  {_digest(file)}\n" for file in files)
        return hashlib.sha256("".join(lines).encode()).hexdigest()
    except OSError as error:
        raise InputError(f"{path}: cannot be read: {error.strerror or error}.") from error


def _stop(error: OSError) -> NoReturn:
    # By default `os.walk` leaves out a folder that it may not read; half a hash is none.
    raise error


def _digest(file: Path) -> str:
    if file.exists() and not file.is_file():  # to open a pipe is to wait for its writer
        raise OSError(errno.EINVAL, f"{file.name} is no file", str(file))
    with file.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()
