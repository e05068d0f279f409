"""Running one benchmark, and what it gives: rows, each a thing measured.

A script has a docstring whose first line says what it measures, and `rows`, which yields one
dictionary for each thing measured, units in the key names. Whatever `rows` takes as arguments is an
option of the benchmark; one with `draw(rows, file)` can be drawn, too.
"""

import inspect
import math
import sys
from contextlib import redirect_stdout
from dataclasses import dataclass
from pathlib import Path
from typing import Any, final

from impindiff._errors import InputError
from impindiff.benchmark._measure import machine
from impindiff.benchmark._scripts import load_benchmark


@final
@dataclass(frozen=True)
class Measured:
    """What a benchmark gave, and on what machine.

    Attributes:
        benchmark: its name.
        machine: what the figures were taken on.
        rows: a dictionary for each thing measured.
    """

    benchmark: str
    machine: dict[str, Any]
    rows: list[dict[str, Any]]

    def as_dict(self) -> dict[str, Any]:
        """Plain objects, ready for JSON, which has no NaN: what is not finite becomes None."""

        def plain(value: Any) -> Any:
            return None if isinstance(value, float) and not math.isfinite(value) else value

        rows = [{key: plain(value) for key, value in row.items()} for row in self.rows]
        return {"benchmark": self.benchmark, "machine": self.machine, "rows": rows}

    def table(self) -> str:
        """A line of text for each row; a dash where a row has no such figure."""
        about = ", ".join(f"{key} {value}" for key, value in self.machine.items())
        columns = list(
            dict.fromkeys(key for row in self.rows for key in row if not isinstance(row[key], list))
        )
        lines = [columns, *([_cell(row.get(column)) for column in columns] for row in self.rows)]
        widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
        aligned = (
            "  ".join(text.ljust(width) for text, width in zip(line, widths, strict=True)).rstrip()
            for line in lines
        )
        return "\n".join([f"{self.benchmark} on {about}", *aligned])


def run_benchmark(name: str, *, plot: Path | None = None, **options: Any) -> Measured:
    """Measure, saying on standard error what is being measured.

    Args:
        name: one of `list_benchmarks()`.
        plot: image file to draw the rows in.
        options: the benchmark's own.

    Raises: InputError for another name, an option that the benchmark does not have, or a `plot` in
        a folder that does not exist.
    """
    script = load_benchmark(name)
    allowed = list(inspect.signature(script.rows).parameters)
    if hasattr(script, "draw"):
        allowed.append("plot")
    given = [*options, *(["plot"] if plot else [])]
    for option in given:
        if option not in allowed:
            has = ", ".join(f"--{each}" for each in allowed) or "no options of its own"
            raise InputError(f"the benchmark {name!r} does not take --{option}; it has {has}.")
    if plot and not plot.absolute().parent.is_dir():
        raise InputError(f"{plot} cannot be written: there is no folder {str(plot.parent)!r}.")
    # Standard output is for the result alone, whatever the libraries that are measured may print.
    with redirect_stdout(sys.stderr):
        rows = list(script.rows(**options))
        if plot:
            script.draw(rows, plot)
    return Measured(name, machine(), rows)


def _cell(value: Any) -> str:
    if value is None:
        return "-"
    return f"{value:.4g}" if isinstance(value, float) else str(value)
