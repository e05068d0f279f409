"""Configs that name the advection-diffusion equation by `kind`, as runs of version 0.1.0 do.

Today the system is always a function. What these tables say are arguments of one of the cases.
"""

from collections.abc import Mapping
from typing import Any

_BUILD = "impindiff.cases.advection_diffusion_steady.system:build"
_KIND = "advection-diffusion"


def with_function(tables: dict[str, Any]) -> dict[str, Any]:
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
