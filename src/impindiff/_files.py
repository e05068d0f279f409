"""Reading a file whole, whatever stands under its name.

A name may lead to a folder, to itself, or to a pipe into which nobody writes: opened as a file, the
last would be waited for.
"""

import errno
import json
import os
import stat
from pathlib import Path
from typing import Any

MOST_BYTES = 2**26
"""No config, and nothing of a run that is written as one JSON object, is longer."""


def read_whole(path: Path, most: int | None = None) -> bytes:
    """The content of a file, or of a pipe that is being written.

    Args:
        path: the file.
        most: bytes that it may have; any number by default.

    Raises: OSError, for a folder, a pipe without a writer and too long a file too.
    """
    handle = os.open(path, os.O_RDONLY | os.O_NONBLOCK)
    try:
        status = os.fstat(handle)
        kind = status.st_mode
        if not stat.S_ISREG(kind) and not stat.S_ISFIFO(kind):
            raise OSError(errno.EINVAL, "is no file", str(path))
        if most is not None and status.st_size > most:
            raise OSError(
                errno.EFBIG,
                f"is {status.st_size / 2**20:.0f} MiB long, and at most {most / 2**20:.0f} MiB are "
                "read",
                str(path),
            )
        os.set_blocking(handle, True)
        with open(handle, "rb", closefd=False) as stream:
            content = stream.read()
    finally:
        os.close(handle)
    if stat.S_ISFIFO(kind) and not content:
        raise OSError(errno.EINVAL, "is a pipe, and nobody writes into it", str(path))
    return content


def read_object(path: Path) -> dict[str, Any]:
    """The content of a JSON file that holds an object.

    Raises: OSError as `read_whole`; ValueError that says what else the file holds.
    """
    content = read_whole(path, MOST_BYTES)
    if not content.strip():
        raise ValueError("is empty")
    try:
        found = json.loads(content)
    except ValueError as error:
        raise ValueError(f"is damaged or cut short ({error})") from None
    except RecursionError:
        raise ValueError("is nested too deeply") from None
    if not isinstance(found, dict):
        raise ValueError(f"holds a JSON {type(found).__name__}, not an object")
    return found
