"""The user's Python in a run: a copy that the run works from ever after, and its hashes."""

import hashlib
from pathlib import Path
from tempfile import TemporaryDirectory

from impindiff._errors import InputError
from impindiff.config import Config, build_system, known_grid
from impindiff.runs._folder import RunFolder

Hashes = dict[str, str]


def hashes_of(config: Config) -> Hashes:
    """SHA-256 of each file that was read for a config's functions, by its path beside it."""
    files = sorted(config.code.files.items())
    return {name: hashlib.sha256(content).hexdigest() for name, content in files}


def check_complete(config: Config) -> None:
    """Refuse functions that need more than is kept of them.

    Args:
        config: as resolved, its functions called.

    Raises: InputError if from copies of what was read the system cannot be built again, or if one
        of these would take the place of a file of the run.
    """
    if not config.code.files:
        return
    if taken := RunFolder.own_names() & {name.partition("/")[0] for name in config.code.files}:
        raise InputError(
            f"{config.code.folder / taken.pop()}: a run has a file of this name itself, and keeps "
            "the files that its config names beside it: give it another name."
        )
    with TemporaryDirectory() as scratch:
        for name, content in config.code.files.items():
            path = Path(scratch, name)
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(content)
        try:
            build_system(config.beside(Path(scratch)), known_grid(config), learns=False)
        except InputError as error:
            raise InputError(
                f"a run keeps {', '.join(config.code.files)}, and with these alone: {error} Name "
                "the files that are read besides as system.files."
            ) from None


def check_kept(folder: RunFolder) -> None:
    """Refuse a copy that was changed since.

    Raises: InputError.
    """
    for name, known in folder.read_json("provenance.json").get("code", {}).items():
        path = folder.path / name
        found = hashlib.sha256(path.read_bytes()).hexdigest() if path.is_file() else None
        if found != known:
            what = "is missing" if found is None else "was changed"
            raise InputError(
                f"{path} {what} since the run was begun, and what was learned belongs to the "
                "file as it was. Put it back; to change the system, train another run."
            )


def check_same_code(config: Config, folder: RunFolder) -> None:
    """Refuse to go on with other functions than a run was begun with.

    Raises: InputError that names the file.
    """
    made = folder.read_json("provenance.json")
    if not made:
        return  # stopped before it was written
    stored, found = made.get("code", {}), hashes_of(config)
    if changed := [name for name in {**stored, **found} if stored.get(name) != found.get(name)]:
        raise InputError(
            f"{config.code.folder / changed[0]} is not what the run in {folder.path} was begun "
            f"with (its hash differs). Resume with {folder.config_file}, beside which the run "
            "keeps its copy, or choose another --out."
        )
