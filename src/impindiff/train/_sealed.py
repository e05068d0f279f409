"""What makes a folder a checkpoint: the run that it belongs to, and the hashes of its files.

Both are written last, before the folder gets its name. orbax alone finds only some damage, and
reports it late, in a thread of its own; and arrays of the same shapes may be of any run.

Earlier versions wrote neither. Their checkpoints are read, by runs that have no identity either.
"""

import hashlib
import json
from pathlib import Path

from impindiff._files import read_object

_SEAL = "sha256.json"
_OWNER = "run.json"


def seal(folder: Path, run: str | None) -> None:
    """Write down whose checkpoint a folder is, and what is in it.

    Args:
        folder: a complete checkpoint.
        run: identity of its run; None outside runs.

    Raises: OSError if a file cannot be read back, or the seal not written.
    """
    (folder / _OWNER).write_text(json.dumps({"run": run or None}) + "\n", encoding="ascii")
    (folder / _SEAL).write_text(json.dumps(_hashes(folder), indent=1) + "\n", encoding="ascii")


def is_unsealed(folder: Path) -> bool:
    """Whether an earlier version wrote a checkpoint, or somebody took out all that we know it by.

    Then only its parts tell that it is one.
    """
    unsealed = not any((folder / name).exists() for name in (_SEAL, _OWNER))
    return unsealed and all((folder / part).is_dir() for part in ("learned", "progress"))


def damage_of(folder: Path) -> str | None:
    """What of a checkpoint is not as it was written, in words; None where nothing is known of it.

    Of one without a seal nothing is.
    """
    if is_unsealed(folder):
        return None
    try:
        known = read_object(folder / _SEAL)
        found = _hashes(folder)
    except FileNotFoundError:
        return f"{_SEAL} is missing"
    except OSError as error:
        return f"{Path(error.filename or folder).name} cannot be read: {error.strerror or error}"
    except ValueError:
        return f"{_SEAL} is damaged"
    if not known:
        return f"{_SEAL} is damaged"
    for name in sorted({*known, *found}):
        if known.get(name) != found.get(name):
            what = "is missing" if name not in found else "was changed or cut short"
            return f"{name} {what if name in known else 'does not belong there'}"
    return None


def owner_of(folder: Path) -> str | None:
    """Identity of the run that a checkpoint belongs to; None where it names none.

    Raises: OSError, ValueError if it is damaged; those of earlier versions name none.
    """
    try:
        run = read_object(folder / _OWNER).get("run")
    except FileNotFoundError:
        return None
    return run if isinstance(run, str) else None


def _hashes(folder: Path) -> dict[str, str]:
    """SHA-256 of each file, by its path from the folder."""
    files = {path.relative_to(folder).as_posix(): path for path in sorted(folder.rglob("*"))}
    # No fifo: opening one waits for a writer.
    return {
        name: _digest(path) if path.is_file() else "no file"
        for name, path in files.items()
        if not path.is_dir() and name != _SEAL
    }


def _digest(path: Path) -> str:
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()
