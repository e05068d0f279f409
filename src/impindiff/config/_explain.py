"""What is wrong with a config, in words: which key, what was found, what is allowed."""

import difflib
import textwrap
from typing import Any, get_args

from pydantic import AliasChoices, BaseModel
from pydantic_core import ErrorDetails

from impindiff.config._schema import Config
from impindiff.config._training import OPTIMISERS

# What pydantic puts into a location to say which table of a union it tried.
_TAGS = ("known", "listed", "by-name", *OPTIMISERS)


def explain(detail: ErrorDetails) -> str:
    """One of pydantic's complaints as half a sentence."""
    location, kind = detail["loc"], detail["type"]
    if kind == "extra_forbidden":
        return _unknown_key(location)
    key = ".".join(str(part) for part in location if part not in _TAGS)
    found = textwrap.shorten(repr(detail["input"]), 80, placeholder=" ...")
    wanted, limits = detail["msg"], detail.get("ctx", {})
    match kind:
        case "missing":
            return f"key {key!r} is missing"
        case "value_error":
            reason = wanted.removeprefix("Value error, ")
            return f"{key!r}: {reason}" if key else reason
        case "model_type" | "model_attributes_type":
            wanted = "a table"
        case "too_short":
            wanted = f"a list of at least {limits['min_length']}"
        case "too_long":
            wanted = f"a list of at most {limits['max_length']}"
    return f"{key!r} is {found}: it should be {wanted.removeprefix('Input should be ')}"


def _unknown_key(location: tuple[int | str, ...]) -> str:
    *parents, last = location
    key = ".".join(str(part) for part in (*(p for p in parents if p not in _TAGS), last))
    allowed = sorted({key for table in _tables_at(parents) for key in _keys_of(table)})
    near = difflib.get_close_matches(str(last), allowed, n=1)
    hint = f"did you mean {near[0]!r}?" if near else f"allowed are {', '.join(allowed)}"
    return f"unknown key {key!r}; {hint}"


def _keys_of(table: type[BaseModel]) -> list[str]:
    keys: list[str] = []
    for name, field in table.model_fields.items():
        alias = field.validation_alias
        keys += map(str, alias.choices) if isinstance(alias, AliasChoices) else [name]
    return keys


def _tables_at(parents: list[int | str]) -> list[type[BaseModel]]:
    """The tables that may stand at a location."""
    tables: list[type[BaseModel]] = [Config]
    for part in parents:
        fields = [table.model_fields[part] for table in tables if part in table.model_fields]
        # A position in a list changes nothing; a union's tag narrows the choice.
        tagged = [table for table in tables if part in _tags_of(table)]
        tables = [t for field in fields for t in _tables_in(field.annotation)] or tagged or tables
    return tables


def _tags_of(table: type[BaseModel]) -> list[str]:
    fields = (table.model_fields.get(name) for name in ("kind", "optimiser"))
    return [tag for field in fields if field for tag in get_args(field.annotation)]


def _tables_in(annotation: Any) -> list[type[BaseModel]]:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return [annotation]
    return [table for inner in get_args(annotation) for table in _tables_in(inner)]
