"""Write the tables of names in docs/config.md: python docs/write_tables.py, or `make tables`.

Names, keys and defaults are those of the config's own tables, so the page cannot promise others.
"""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from impindiff.config import (
    ALONG_LINES,
    DIRECT,
    EXPLICIT,
    IMPLICIT,
    KRYLOV,
    OPTIMISERS,
    PRECONDITIONERS,
    StageTable,
)

PAGE = Path(__file__).parent / "config.md"
BEGIN, END = "<!-- written by `make tables`: {} -->\n\n", "\n<!-- end of what is written -->"


def optimisers() -> str:
    """A line for each optimiser, and one for the keys that all stages have."""
    lines = ["| `optimiser` | in Python | further keys |", "|---|---|---|"]
    common = {name: ... for name in StageTable.model_fields}
    lines.append(f"| any | `Stage` | {_keys(StageTable, {})} |")
    for name, table in OPTIMISERS.items():
        further = _keys(table, {"optimiser": ..., **common})
        lines.append(f'| `"{name}"` | `{table.python.__name__}` | {further} |')
    return "\n".join(lines) + "\n"


def solving() -> str:
    """A line for each scheme, linear solver and preconditioner."""
    groups: list[tuple[str, Mapping[str, Any], str]] = [
        ("time.scheme", IMPLICIT, ""),
        ("time.scheme", EXPLICIT, "`time.substeps = 1`, `time.accept_unstable = false`"),
        ("solver.method", KRYLOV, "`solver.max_steps`"),
        ("solver.method", DIRECT, ""),
        ("solver.preconditioner", PRECONDITIONERS, ""),
        ("solver.preconditioner", ALONG_LINES, "`solver.line_axis`, the name of the axis"),
    ]
    lines = ["| key | value | in Python | goes with |", "|---|---|---|---|"]
    for key, named, further in groups:
        for name, python in named.items():
            lines.append(f'| `{key}` | `"{name}"` | `{python.__name__}` | {further} |')
    return "\n".join(lines) + "\n"


def _keys(table: type[StageTable], known: dict[str, object]) -> str:
    """The keys that are not known yet, each with its default."""
    found = {name: field for name, field in table.model_fields.items() if name not in known}
    return ", ".join(
        f"`{name}`"
        if field.is_required() or field.default is None
        else f"`{name} = {json.dumps(field.default)}`"
        for name, field in found.items()
    )


TABLES = {"optimisers": optimisers, "solving": solving}


def written(page: str) -> str:
    """The page with the tables as they should be.

    Raises: SystemExit for a page without the two comments of a table.
    """
    for name, table in TABLES.items():
        opening = BEGIN.format(name)
        head, begin, rest = page.partition(opening)
        _, end, tail = rest.partition(END)
        if not (begin and end):
            raise SystemExit(
                f"{PAGE.name} has no place for the table: {opening.strip()} ... {END.strip()}"
            )
        page = f"{head}{begin}{table()}{end}{tail}"
    return page


if __name__ == "__main__":
    PAGE.write_text(written(PAGE.read_text(encoding="utf-8")), encoding="utf-8")
