"""Arguments and options that several commands share."""

from pathlib import Path
from typing import Annotated

import typer

CaseName = Annotated[str, typer.Argument(metavar="CASE", help="A built-in case, see 'cases'.")]
RunPath = Annotated[Path, typer.Argument(metavar="RUN", help="A run folder.")]
Out = Annotated[Path | None, typer.Option("--out", help="Run folder to write; new by default.")]
Seed = Annotated[
    int, typer.Option("--seed", min=0, max=2**32 - 1, help="Seed of the random numbers.")
]
Samples = Annotated[
    int | None,
    typer.Option("--samples", min=1, help="How many; what its config needs by default."),
]
DataFile = Annotated[
    Path | None, typer.Option("--data", help="Data file; the config's own by default.")
]
Memory = Annotated[
    str | None,
    typer.Option("--memory", help="Most for a gradient, such as 2GiB.", show_default=False),
]
Changes = Annotated[
    list[str] | None,
    typer.Option(
        "--set",
        metavar="KEY=VALUE",
        help="Set a key of the config, such as time.dt=0.01; may be given several times.",
        show_default=False,
    ),
]
AsJson = Annotated[bool, typer.Option("--json", help="Print one JSON object and nothing else.")]
Trust = Annotated[
    bool, typer.Option("--trust", help="Execute the code of a run that you did not make.")
]
