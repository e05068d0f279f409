"""The user's Python in a run: a copy that the run works from ever after, its hashes and seal.

A config may name functions, and a run keeps the files that they stand in. Whoever opens the run
has them executed. A run is therefore sealed when it is made: with a key that only its user can
read, for the names of its functions and the hashes of its files. What carries no such seal came
from somebody else, or was changed.
"""

import hashlib
import hmac
import json
import os
import secrets
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from tempfile import TemporaryDirectory

from pydantic import BaseModel, ValidationError

from impindiff._errors import InputError, warn_caller
from impindiff._files import read_whole
from impindiff.config import Config, build_system, config_sha256, known_grid, load_config
from impindiff.runs._folder import RunFolder

Hashes = dict[str, str]


class Readings(BaseModel):
    """What a run was trained on.

    Attributes:
        variables: their names.
        times: of the readings.
        samples: a hash for each training sample, see `readings_of`.
    """

    variables: list[str]
    times: list[float]
    samples: list[str]


class Evidence(BaseModel):
    """What of a run's provenance is compared with what there is.

    Attributes:
        data: of the data file.
        code: SHA-256 of each of the user's Python files.
        config_sha256: of the config that the run was begun with; older runs have none.
    """

    class Data(BaseModel):
        """The data that the run was begun with; of older runs the file alone is known."""

        sha256: str
        trained: Readings | None = None

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
    """Say where the config is not the one that the run was begun with, or nothing tells.

    Warns: RuntimeWarning.
    """
    if not (folder.path / "provenance.json").exists():
        return
    begun_with = evidence_of(folder).config_sha256
    # By its bytes first: another version may read more into the same file.
    as_written = hashlib.sha256(read_whole(folder.config_file)).hexdigest()
    if begun_with is None and folder.identity:  # no earlier version
        warn_caller(
            f"{folder.path / 'provenance.json'} does not tell the hash of the config: whether "
            f"{folder.config_file.name} was edited after the run was begun is not known."
        )
    if begun_with not in (None, as_written, config_sha256(config)):
        warn_caller(
            f"{folder.config_file} was edited after the run was begun (its hash is not the one in "
            "provenance.json). What was learned is read as the edited config describes it.",
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


SEAL = "seal"
_OWN = "impindiff"
_KEY_BYTES = 32


def functions_of(config: Config) -> list[str]:
    """The functions that a config names, as `module:function`, but for the package's own."""
    named = [config.data.observe, config.system.build, *config.training.functions]
    return sorted(name for name in named if name and name.split(":")[0].split(".")[0] != _OWN)


def seal_of(config: Config, code: Mapping[str, str]) -> dict[str, str]:
    """The entry of a run's provenance that says whose code it brings.

    Empty where there is no code, or no place to keep a key in.
    """
    functions, key = functions_of(config), _key()
    return {SEAL: _sealed(functions, code, key)} if functions and key else {}


def check_trusted(
    folder: RunFolder, *, trust: bool = False, ask: Callable[[str], bool] | None = None
) -> None:
    """Refuse to execute the code of a run that this user did not make.

    Args:
        folder: the run.
        trust: whether the user has said that it is to be executed.
        ask: puts a question to the user; None where nobody is there.

    Raises: InputError that names the files.
    """
    config = folder.config()
    functions = functions_of(config)
    if trust or not functions:
        return
    made, code = folder.read_json("provenance.json"), folder.code_hashes()
    # A user who has made no run yet has no key, and yet a place for it.
    key, seal = _key(), made.get(SEAL)
    if key and _is_seal(seal, _sealed(functions, code, key)):
        return
    if seal is None and not key and _is_owner(folder.path):
        return  # there was no place for a key, and is none now
    files = ", ".join(str(folder.path / name) for name in code) or "modules found elsewhere"
    what = f"{folder.path} brings Python code, {', '.join(functions)} ({files})"
    if ask is not None and ask(f"{what}. You did not make this run here. Execute its code?"):
        if key:
            with suppress(InputError):  # a folder of somebody else's: asked again the next time
                folder.write_json("provenance.json", made | {SEAL: _sealed(functions, code, key)})
        return
    raise InputError(
        f"{what}, and was not made by you on this machine, or was changed since: to open it is to "
        "execute that code. Read it first, then say --trust. `report` and what the run holds as "
        "data (forecast.nc, summary.json, config.toml) need no code."
    )


def open_config(
    path: Path,
    changes: Sequence[str] = (),
    *,
    trust: bool = False,
    ask: Callable[[str], bool] | None = None,
) -> Config:
    """Read a config file. Where it is that of a run, its code is the run's and not the user's.

    Args:
        path: the file.
        changes: see `load_config`.
        trust: see `check_trusted`.
        ask: see there.

    Raises: InputError as `load_config` and, of a run, `check_trusted` do.
    """
    config, folder = load_config(path, changes), RunFolder(path.parent)
    # The one is written before the config, the other is left where that was lost.
    marks = (folder.path / "provenance.json", folder.checkpoints.folder)
    if path.name != folder.config_file.name or not any(mark.exists() for mark in marks):
        return config
    check_trusted(folder, trust=trust, ask=ask)
    return folder.with_own_code(config)


def _is_seal(found: object, seal: str) -> bool:
    # Text that is not ASCII is not compared, but raises.
    return isinstance(found, str) and found.isascii() and hmac.compare_digest(found, seal)


def _sealed(functions: list[str], code: Mapping[str, str], key: bytes) -> str:
    content = json.dumps([functions, sorted(code.items())]).encode()
    return hmac.new(key, content, hashlib.sha256).hexdigest()


def _key() -> bytes | None:
    """The user's key, made the first time; None where it cannot be, or is damaged."""
    try:
        state = os.environ.get("XDG_STATE_HOME") or Path.home() / ".local" / "state"
        path = Path(state, _OWN, "key")
        if not path.exists():
            path.parent.mkdir(parents=True, exist_ok=True)
            draft = path.with_name(f".key.{os.getpid()}")
            with os.fdopen(
                os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "wb"
            ) as to:
                to.write(secrets.token_bytes(_KEY_BYTES))
            # The first of two that make one at once wins, and both read the same.
            with suppress(FileExistsError):
                os.link(draft, path)
            draft.unlink()
        key = read_whole(path)
    except (OSError, RuntimeError):
        return None
    return key if len(key) == _KEY_BYTES else None


def _is_owner(path: Path) -> bool:
    return not hasattr(os, "getuid") or path.stat().st_uid == os.getuid()
