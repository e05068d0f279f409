"""The user's Python in a run: a copy that the run works from ever after, and its hashes."""

import hashlib
import warnings
from pathlib import Path
from tempfile import TemporaryDirectory

from pydantic import BaseModel, ValidationError

from impindiff._errors import InputError
from impindiff.config import Config, build_system, config_sha256, known_grid
from impindiff.runs._folder import RunFolder

Hashes = dict[str, str]


class Evidence(BaseModel):
    """What of a run's provenance is compared with what there is.

    Attributes:
        data: of the data file.
        code: SHA-256 of each of the user's Python files.
        config_sha256: of the config that the run was begun with; older runs have none.
    """

    class Data(BaseModel):
        """The data that the run was begun with."""

        sha256: str

    data: Data
    code: Hashes = {}
    config_sha256: str | None = None


def evidence_of(folder: RunFolder) -> Evidence:
    """The hashes that a run was begun with.

    Raises: InputError if there are none.
    """
    made = folder.read_json("provenance.json")
    try:
        return Evidence.model_validate(made)
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        key = ".".join(map(str, first["loc"]))
        raise InputError(
            f"{folder.path / 'provenance.json'}: {key!r}: {first['msg']}: the file was changed. "
            "Put it back as it was, or train another run."
        ) from None


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


def warn_of_edits(config: Config, folder: RunFolder) -> None:
    """Say where the config is not the one that the run was begun with.

    Warns: RuntimeWarning.
    """
    if not (folder.path / "provenance.json").exists():
        return
    begun_with = evidence_of(folder).config_sha256
    # By its bytes first: another version may read more into the same file.
    as_written = hashlib.sha256(folder.config_file.read_bytes()).hexdigest()
    if begun_with not in (None, as_written, config_sha256(config)):
        warnings.warn(
            f"{folder.config_file} was edited after the run was begun (its hash is not the one in "
            "provenance.json). What was learned is read as the edited config describes it.",
            RuntimeWarning,
            stacklevel=3,
        )


def check_same_code(config: Config, folder: RunFolder) -> None:
    """Refuse to go on with other functions than a run was begun with.

    Raises: InputError that names the file.
    """
    stored, found = evidence_of(folder).code, hashes_of(config)
    if changed := [name for name in {**stored, **found} if stored.get(name) != found.get(name)]:
        raise InputError(
            f"{config.code.folder / changed[0]} is not what the run in {folder.path} was begun "
            f"with (its hash differs). Resume with {folder.config_file}, beside which the run "
            "keeps its copy, or choose another --out."
        )
