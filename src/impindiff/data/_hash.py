"""The fingerprint of a data file: kept beside a result, it tells which data that came from."""

import hashlib
import os
from pathlib import Path
from typing import NoReturn

from impindiff._errors import InputError


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
    with file.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()
