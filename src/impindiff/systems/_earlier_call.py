"""Calls of `System` as version 0.1.0 had them: one mapping by field for each thing that is said.

Today all about a field stands in its `Field`. For one version such calls are still understood.
"""

from collections.abc import Mapping, Sequence
from typing import Any

from impindiff._errors import InputError, warn_caller
from impindiff.systems._fields import Field

_OF_FIELDS = {
    "boundaries": "boundaries",
    "storage": "storage",
    "capacities": "capacity",
    "initial": "initial",
    "scales": "scale",
    "limits": "bounds",
}


def as_stated_today(
    fields: Mapping[str, Any], positional: Sequence[Any], named: Mapping[str, Any]
) -> tuple[Mapping[str, Any], dict[str, Any]]:
    """The fields with what was said beside them, and the named arguments that are left.

    Args:
        fields: of `System`, each a `Field` or a list of terms.
        positional: further arguments by position; the boundaries were the third.
        named: further arguments by name.

    Warns: DeprecationWarning that says where it stands today.
    Raises: InputError for what is said of no field, or of one that is a `Field` already.
    """
    arguments = dict(named)
    if len(positional) == 1 and "boundaries" not in arguments:
        arguments["boundaries"] = positional[0]
    elif positional:
        raise InputError(
            "System(grid, fields) takes nothing else by position; found "
            f"{positional[0]!r:.80}. Boundaries stand with their field, "
            "{'c': Field([term, ...], {'x': conditions})}; all else is given by keyword."
        )
    earlier = {
        name: arguments[name]
        for name in _OF_FIELDS
        if not isinstance(arguments.get(name), Mapping | None) or arguments.get(name)
    }
    rest = {name: value for name, value in arguments.items() if name not in _OF_FIELDS}
    if settings := rest.pop("settings", None):
        rest["parameters"] = settings
    if not earlier or not isinstance(fields, Mapping):
        return fields, rest
    stated: dict[str, dict[str, Any]] = {}
    for keyword, by_field in earlier.items():
        if not isinstance(by_field, Mapping):
            raise InputError(f"{_remedy(keyword)} Found {by_field!r:.80}.")
        if strange := [name for name in by_field if name not in fields]:
            raise InputError(
                f"{keyword} names {strange[0]!r}, of which the system has no equation: its fields "
                f"are {', '.join(fields)}."
            )
        for name, value in by_field.items():
            stated.setdefault(name, {})[_OF_FIELDS[keyword]] = value
    if twice := [name for name in stated if isinstance(fields[name], Field)]:
        raise InputError(f"{twice[0]!r} is a Field already. {_remedy(next(iter(earlier)))}")
    warn_caller(_remedy(next(iter(earlier))), DeprecationWarning)
    return {
        name: Field(terms, **stated[name]) if name in stated else terms
        for name, terms in fields.items()
    }, rest


def _remedy(keyword: str) -> str:
    return (
        f"System(..., {keyword}=...): this is said of each field where it stands, "
        f"{{'c': Field([term, ...], {_OF_FIELDS[keyword]}=...)}}."
    )


def warn_of_settings(earlier: str, today: str) -> None:
    """Say what an attribute of a system is called today.

    Args:
        earlier: its name in version 0.1.0.
        today: its name.
    """
    warn_caller(f"System.{earlier} is System.{today} now.", DeprecationWarning)
