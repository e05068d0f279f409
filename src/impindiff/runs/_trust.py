"""Whether the Python code that a run folder brings is this user's own.

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

from impindiff._errors import InputError
from impindiff.config import Config, load_config
from impindiff.runs._code import Hashes
from impindiff.runs._folder import RunFolder

SEAL = "seal"
_OWN = "impindiff"
_KEY_BYTES = 32


def functions_of(config: Config) -> list[str]:
    """The functions that a config names, as `module:function`, but for the package's own."""
    table = config.training
    named = [config.data.observe, getattr(config.system, "build", None), table.regularise]
    named += [stage for stage in table.stages if isinstance(stage, str)]
    return sorted(name for name in named if name and name.split(":")[0].split(".")[0] != _OWN)


def seal_of(config: Config, code: Mapping[str, str]) -> dict[str, str]:
    """The entry of a run's provenance that says whose code it brings.

    Empty where there is no code, or no place to keep a key in.
    """
    functions, key = functions_of(config), _key(make=True)
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
    made = folder.read_json("provenance.json")
    code: Hashes = dict(made.get("code") or {})
    key, seal = _key(make=False), made.get(SEAL)
    if key and isinstance(seal, str) and hmac.compare_digest(seal, _sealed(functions, code, key)):
        return
    if seal is None and not key and _is_owner(folder.path):
        return  # there was no place for a key, and is none now
    files = ", ".join(str(folder.path / name) for name in code) or "modules found elsewhere"
    what = f"{folder.path} brings Python code, {', '.join(functions)} ({files})"
    if ask is not None and ask(f"{what}. You did not make this run here. Execute its code?"):
        if key:
            with suppress(OSError):
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


def _sealed(functions: list[str], code: Mapping[str, str], key: bytes) -> str:
    content = json.dumps([functions, sorted(code.items())]).encode()
    return hmac.new(key, content, hashlib.sha256).hexdigest()


def _key(*, make: bool) -> bytes | None:
    """The user's key; None where there is none, and none can be made."""
    try:
        state = os.environ.get("XDG_STATE_HOME") or Path.home() / ".local" / "state"
        path = Path(state, _OWN, "key")
        if make and not path.exists():
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
        key = path.read_bytes()
    except (OSError, RuntimeError):
        return None
    return key if len(key) == _KEY_BYTES else None


def _is_owner(path: Path) -> bool:
    return not hasattr(os, "getuid") or path.stat().st_uid == os.getuid()
