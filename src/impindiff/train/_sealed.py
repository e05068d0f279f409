"""A folder that the array store wrote, sealed with the hash of each file, and known to be whole.

A store that finds a file damaged may say so only in a thread of its own, when the reading is
over, and some damage it does not find. Here every byte is compared before anything is read.

The store takes some names for patterns, and changes others: `[1]`, `*` and a backslash. It is
given a path of plain letters that leads to the folder.
"""

import hashlib
import json
import re
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from impindiff._errors import InputError

_SEAL = "sha256.json"
_PLAIN = re.compile(r"[A-Za-z0-9/._+-]*")


def seal(folder: Path) -> None:
    """Write down what is in a folder.

    Raises: OSError if a file cannot be read back, or the seal not written.
    """
    (folder / _SEAL).write_text(json.dumps(_hashes(folder), indent=1) + "\n", encoding="ascii")


def damage_of(folder: Path) -> str | None:
    """What of a sealed folder is not as it was written, in words; None where all of it is."""
    try:
        known = json.loads((folder / _SEAL).read_text(encoding="ascii"))
        found = _hashes(folder)
    except FileNotFoundError:
        return f"{_SEAL} is missing"
    except OSError as error:
        return f"{Path(error.filename or folder).name} cannot be read: {error.strerror or error}"
    except (ValueError, RecursionError):
        return f"{_SEAL} is damaged"
    if not isinstance(known, dict) or not known:
        return f"{_SEAL} is damaged"
    for name in sorted({*known, *found}):
        if known.get(name) != found.get(name):
            what = "is missing" if name not in found else "was changed or cut short"
            return f"{name} {what if name in known else 'does not belong there'}"
    return None


@contextmanager
def plain_path(folder: Path) -> Iterator[Path]:
    """A path to a folder, of characters that every store takes for themselves.

    Args:
        folder: absolute.

    Raises: InputError if there is no place for a link to a folder of another name.
    """
    if _PLAIN.fullmatch(str(folder)):
        yield folder
        return
    places = [place for place in (tempfile.gettempdir(), "/tmp", "/var/tmp") if _is_plain(place)]
    try:
        temporary = tempfile.TemporaryDirectory(prefix="impindiff-", dir=places[0])
    except (IndexError, OSError) as error:
        raise InputError(
            f"{folder}: its name has characters that the array store does not take, and a link to "
            f"it cannot be made ({error}). Set TMPDIR to a folder that can be written to, with a "
            "name of plain letters, or choose a place of such a name."
        ) from None
    with temporary as place:
        link = Path(place, "folder")
        link.symlink_to(folder, target_is_directory=True)
        yield link


def _is_plain(place: str) -> bool:
    return bool(_PLAIN.fullmatch(place)) and Path(place).is_dir()


def _hashes(folder: Path) -> dict[str, str]:
    """SHA-256 of each file, by its path from the folder."""
    files = {path.relative_to(folder).as_posix(): path for path in sorted(folder.rglob("*"))}
    # No fifo: opening one waits for a writer.
    return {
        name: hashlib.sha256(path.read_bytes()).hexdigest() if path.is_file() else "no file"
        for name, path in files.items()
        if not path.is_dir() and name != _SEAL
    }
