"""The command that measures."""

import json
from pathlib import Path
from typing import Annotated

import typer

from impindiff.cli._console import answer
from impindiff.cli._errors import reported
from impindiff.cli._options import AsJson


@reported
def benchmark(
    name: Annotated[
        str | None, typer.Argument(metavar="NAME", help="What to measure; without it, a list.")
    ] = None,
    quick: Annotated[bool, typer.Option("--quick", help="Leave out what takes long.")] = False,
    reference: Annotated[
        Path | None, typer.Option("--reference", help="Data made by the paper's own code.")
    ] = None,
    case: Annotated[
        str | None, typer.Option("--case", help="The built-in case to measure; all by default.")
    ] = None,
    out: Annotated[
        Path | None, typer.Option("--out", help="Folder that keeps what was trained, to go on.")
    ] = None,
    plot: Annotated[
        Path | None, typer.Option("--plot", help="Image file to draw the result in.")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Measure speed, memory and accuracy on this machine, beside other libraries.

    Which options a benchmark has differs. Without NAME: what can be measured, a line each.
    """
    from impindiff.benchmark import list_benchmarks, run_benchmark

    if name is None:
        names = list_benchmarks()
        lines = (f"{one}  {measures}" for one, measures in names.items())
        answer(json.dumps({"benchmarks": names}) if as_json else "\n".join(lines))
        return
    options = {"quick": quick, "reference": reference, "case": case, "out": out, "plot": plot}
    found = run_benchmark(name, **{option: value for option, value in options.items() if value})
    answer(json.dumps(found.as_dict()) if as_json else found.table())
