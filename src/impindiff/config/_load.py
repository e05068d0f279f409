"""Config files: read, checked, and written as resolved."""

import difflib
import hashlib
import tomllib
from pathlib import Path
from typing import Any, get_args

import tomli_w
from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails

from impindiff._errors import InputError
from impindiff.config._schema import Config


def load_config(path: Path) -> Config:
    """Read a config file.

    Raises: InputError naming the file, the key, what was found and what is allowed.
    """
    try:
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError:
        raise InputError(f"{path}: there is no such config file.") from None
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"{path}: the config cannot be read ({error}).") from None
    try:
        tables = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise InputError(f"{path} is not valid TOML: {error}.") from None
    return parse_config(tables, str(path))


def parse_config(tables: dict[str, Any], source: str) -> Config:
    """Check the tables of a config.

    Args:
        tables: nested dictionaries, as `tomllib` gives them.
        source: what messages call the config.

    Raises: InputError as for `load_config`.
    """
    try:
        return Config.model_validate(tables)
    except ValidationError as error:
        details = error.errors(include_url=False)
        lines = [_explain(detail) for detail in details[:5]]
        if len(details) > 5:
            lines.append(f"and {len(details) - 5} more")
        raise InputError(f"{source}: " + "; ".join(lines)) from None


def dump_config(config: Config) -> str:
    """The config as TOML, every key written out."""
    return tomli_w.dumps(config.model_dump(exclude_none=True))


def config_sha256(config: Config) -> str:
    """Hash of what the config says, comments and order aside."""
    return hashlib.sha256(dump_config(config).encode()).hexdigest()


def _explain(detail: ErrorDetails) -> str:
    names = [
        str(part) for part in detail["loc"] if part not in ("known", "sine-field", "parameter")
    ]
    names = [
        n
        for i, n in enumerate(names)
        if not (n in ("adam", "lbfgs") and i and names[i - 1].isdigit())
    ]
    key = ".".join(names) or "the config"
    found = detail["input"]
    match detail["type"]:
        case "extra_forbidden":
            allowed = _keys_beside(detail["loc"])
            near = difflib.get_close_matches(names[-1], allowed, n=1)
            hint = f"; did you mean {near[0]!r}?" if near else f"; allowed are {', '.join(allowed)}"
            return f"unknown key {key!r}{hint}"
        case "missing":
            return f"key {key!r} is missing"
        case "value_error":
            return detail["msg"].removeprefix("Value error, ")
        case "union_tag_invalid" | "union_tag_not_found":
            allowed = detail.get("ctx", {}).get("expected_tags", "")
            return f"{key!r} is {found!r}: its kind must be one of {allowed}"
        case _:
            wanted = detail["msg"].removeprefix("Input should be ")
            return f"{key!r} is {found!r}: it should be {wanted}"


def _keys_beside(location: tuple[int | str, ...]) -> list[str]:
    """The keys that the table of an unknown key does allow."""
    tables: list[type[BaseModel]] = [Config]
    for part in location[:-1]:
        fields = [t.model_fields[part] for t in tables if part in t.model_fields]
        # A position in a list, or a union's tag, which only narrows the choice.
        tagged = [t for t in tables if part in _tags(t)]
        tables = [m for f in fields for m in _tables_in(f.annotation)] or tagged or tables
    return sorted({key for table in tables for key in table.model_fields})


def _tags(table: type[BaseModel]) -> list[str]:
    fields = (table.model_fields.get(name) for name in ("kind", "optimiser"))
    return [tag for field in fields if field for tag in get_args(field.annotation)]


def _tables_in(annotation: Any) -> list[type[BaseModel]]:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return [annotation]
    return [table for inner in get_args(annotation) for table in _tables_in(inner)]
