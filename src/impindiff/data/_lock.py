"""One writer at a time for what grows in place.

A store is read before it is added to. Whoever else adds in between is overwritten, so the lock is
held from the reading to the last file. The system drops it with the process, however that ends.
"""

import os
import shlex
import socket
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from impindiff._errors import InputError
from impindiff.data._disk import disk_errors

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

    Raises: InputError that names the other writer, or for a folder that cannot be written.
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
                f"{path}: {_holder(lock_file)} is writing to it. Wait until that ends, or write "
                "to another store."
            ) from None
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
    command = shlex.join([Path(sys.argv[0]).name, *sys.argv[1:]])
    with suppress(OSError):
        os.ftruncate(descriptor, 0)
        note = f"process {os.getpid()} on {socket.gethostname()} ({command})"
        os.pwrite(descriptor, note.encode(errors="replace")[:_MOST_BYTES], 0)


def _holder(lock_file: Path) -> str:
    try:
        return lock_file.read_text(errors="replace").strip() or "another process"
    except OSError:
        return "another process"
