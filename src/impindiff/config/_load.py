"""Config files: read, checked, and written as resolved."""

import copy
import hashlib
import tomllib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import tomli_w
from pydantic import ValidationError

from impindiff._errors import InputError
from impindiff._files import MOST_BYTES, read_whole
from impindiff.config._explain import explain
from impindiff.config._schema import Config

_MOST_LEVELS = 50
# What `system.kind = "advection-diffusion"` of earlier configs stood for.
_BUILD = "impindiff.cases.advection_diffusion_steady.system:build"
_KIND = "advection-diffusion"


def load_config(path: Path, changes: Sequence[str] = ()) -> Config:
    """Read a config file.

    Args:
        path: the file.
        changes: see `changed`.

    Raises: InputError naming the file, the key, what was found and what is allowed.
    """
    try:
        text = read_whole(path, MOST_BYTES).decode("utf-8")
    except FileNotFoundError:
        raise InputError(f"{path}: there is no such config file.") from None
    except OSError as error:
        reason = error.strerror or error
        raise InputError(f"{path}: the config cannot be read ({reason}).") from None
    except UnicodeDecodeError as error:
        raise InputError(f"{path}: the config cannot be read ({error}).") from None
    try:
        tables = changed(tomllib.loads(text), changes)
        _check_depth(tables, str(path))
        return parse_config(tables, str(path), path.parent)
    except InputError:  # a ValueError, too, which says what is wrong already
        raise
    except tomllib.TOMLDecodeError as error:
        raise InputError(f"{path} is not valid TOML: {error}.") from None
    except RecursionError:
        raise InputError(f"{path}: tables or lists are nested too deeply to be read.") from None
    except ValueError as error:  # whole numbers of thousands of digits
        raise InputError(f"{path}: a number is too long to be read ({error}).") from None


def _check_depth(tables: dict[str, Any], source: str) -> None:
    """Refuse what could be read, and not be written as resolved."""
    level: list[Any] = [tables]
    for _ in range(_MOST_LEVELS):
        inside = [each.values() if isinstance(each, dict) else each for each in level]
        level = [one for each in inside for one in each if isinstance(one, dict | list)]
    if level:
        raise InputError(f"{source}: tables or lists are nested more than {_MOST_LEVELS} deep.")


def changed(tables: dict[str, Any], changes: Sequence[str]) -> dict[str, Any]:
    """The tables of a config with some keys set, each by `key.of.table=VALUE`.

    A value is TOML; text may stand without quotes. A position stands for the key of a list.
    Raises: InputError for a change without a key or value, inside of what is no table, or whose
        value looks like a number, a list or a truth value and is none in TOML.
    """
    tables = copy.deepcopy(tables)
    for change in changes:
        key, is_given, text = change.partition("=")
        *parents, last = key.strip().split(".")
        if not (is_given and last):
            raise InputError(f"--set {change!r}: write KEY=VALUE, such as time.dt=0.01.")
        value = _value(change, text.strip())
        place: Any = tables
        try:
            for parent in parents:
                place = (
                    place[int(parent)] if isinstance(place, list) else place.setdefault(parent, {})
                )
            place[int(last) if isinstance(place, list) else last] = value
        except (ValueError, IndexError, TypeError, AttributeError):
            raise InputError(
                f"--set {change!r}: there is no table {'.'.join(parents)!r} with a key {last!r}."
            ) from None
    return tables


def _value(change: str, text: str) -> Any:
    """What a change sets: TOML, or text as it is."""
    try:
        tables = tomllib.loads(f"value = {text}")
    except RecursionError:
        raise InputError(f"--set {change:.80}: lists are nested too deeply to be read.") from None
    except ValueError:
        # Taken for text these would reach functions of the user's own, where 'False' is true.
        if text in ("", "True", "False", "None") or text[0] in "[{(\"'" or _is_number(text):
            raise InputError(
                f"--set {change!r}: {text!r} is no value of TOML: write true, 0.5, [1, 2], or text "
                "in quotes, 'KEY=\"text\"'."
            ) from None
        return text
    return tables["value"] if len(tables) == 1 else text


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True


def parse_config(tables: dict[str, Any], source: str, folder: Path | None = None) -> Config:
    """Check the tables of a config.

    Args:
        tables: nested dictionaries, as `tomllib` gives them.
        source: what messages call the config.
        folder: where the functions that it names are found; by default where one stands.

    Raises: InputError as for `load_config`.
    """
    try:
        return Config.model_validate(_with_function(tables)).beside(folder or Path())
    except ValidationError as error:
        details = error.errors(include_url=False)
        lines = [explain(detail) for detail in details[:5]]
        if len(details) > 5:
            lines.append(f"and {len(details) - 5} more")
        raise InputError(f"{source}: " + "; ".join(lines)) from None


def _with_function(tables: dict[str, Any]) -> dict[str, Any]:
    """The tables of a config with `system.kind` replaced by the function that it stood for.

    Others are returned as they are, and so are those with another kind, which never was one.
    """
    system = tables.get("system")
    if not isinstance(system, Mapping) or "build" in system or system.get("kind") != _KIND:
        return tables
    options = {key: _without_kind(value) for key, value in system.items() if key != "kind"}
    if field := _field(tables.get("data")):
        options["field"] = field
    return tables | {"system": {"build": _BUILD, "options": options}}


def _without_kind(value: Any) -> Any:
    """A table of an unknown: its keys tell its kind."""
    if not isinstance(value, Mapping):
        return value
    return {key: inner for key, inner in value.items() if key != "kind"}


def _field(data: Any) -> str | None:
    """The one field of such a config; None where the table is wrong, which is found out later."""
    if not isinstance(data, Mapping):
        return None
    named = data.get("field", data.get("fields"))
    if isinstance(named, list) and len(named) == 1:
        named = named[0]
    return named if isinstance(named, str) else None


def dump_config(config: Config) -> str:
    """The config as TOML, every key written out."""
    return tomli_w.dumps(config.model_dump(exclude_none=True))


def config_sha256(config: Config) -> str:
    """Hash of what the config says, comments and order aside."""
    return hashlib.sha256(dump_config(config).encode()).hexdigest()
