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


def read_whole(path: Path) -> bytes:
    """The content of a file, or of a pipe that is being written.

    Raises: OSError, for a folder and for a pipe without a writer too.
    """
    handle = os.open(path, os.O_RDONLY | os.O_NONBLOCK)
    try:
        kind = os.fstat(handle).st_mode
        if not stat.S_ISREG(kind) and not stat.S_ISFIFO(kind):
            raise OSError(errno.EINVAL, "is no file", str(path))
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
    content = read_whole(path)
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
