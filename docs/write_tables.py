"""Write the table of optimisers in docs/config.md: python docs/write_tables.py, or `make tables`.

Names, keys and defaults are those of the config's own tables, so the page cannot promise others.
"""

import json
from pathlib import Path

from impindiff.config import OPTIMISERS, StageTable

PAGE = Path(__file__).parent / "config.md"
BEGIN, END = "<!-- written by `make tables` -->\n\n", "\n<!-- end of what is written -->"


def rows() -> str:
    """The table: a line for each optimiser, and one for the keys that all stages have."""
    lines = ["| `optimiser` | in Python | further keys |", "|---|---|---|"]
    common = {name: ... for name in StageTable.model_fields}
    lines.append(f"| any | `Stage` | {_keys(StageTable, {})} |")
    for name, table in OPTIMISERS.items():
        python = table.__name__.removesuffix("Table")
        lines.append(f'| `"{name}"` | `{python}` | {_keys(table, {"optimiser": ..., **common})} |')
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


def written(page: str) -> str:
    """The page with the table as it should be.

    Raises: SystemExit for a page without the two comments.
    """
    head, begin, rest = page.partition(BEGIN)
    _, end, tail = rest.partition(END)
    if not (begin and end):
        raise SystemExit(
            f"{PAGE.name} has no place for the table: {BEGIN.strip()} ... {END.strip()}"
        )
    return f"{head}{BEGIN}{rows()}{END}{tail}"


if __name__ == "__main__":
    PAGE.write_text(written(PAGE.read_text(encoding="utf-8")), encoding="utf-8")
