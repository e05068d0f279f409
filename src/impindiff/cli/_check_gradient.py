"""The command that certifies gradients."""

import json
from pathlib import Path
from typing import Annotated

import typer

from impindiff.cli._console import answer, ask
from impindiff.cli._errors import reported
from impindiff.cli._options import AsJson, Changes, Trust


@reported
def check_gradient(
    target: Annotated[Path, typer.Argument(metavar="CONFIG.toml|RUN", help="What to check.")],
    data: Annotated[
        Path | None, typer.Option("--data", help="Data file; the config's or run's own by default.")
    ] = None,
    directions: Annotated[
        int, typer.Option("--directions", min=1, help="Random directions for each part.")
    ] = 3,
    changes: Changes = None,
    trust: Trust = False,
    as_json: AsJson = False,
) -> None:
    """Certify the gradients that training takes: Taylor tests along random directions."""
    from impindiff.cli._errors import NUMERICS_FAILED
    from impindiff.cli._show import certificate_table
    from impindiff.runs import RunFolder, certify, check_trusted, open_config

    folder = RunFolder(target) if target.is_dir() else None
    if folder and changes:
        raise typer.BadParameter("--set changes a config; the gradients of a run are its own.")
    if folder:
        check_trusted(folder, trust=trust, ask=ask)
        config = folder.config()
    else:
        config = open_config(target, changes or [], trust=trust, ask=ask)
    named = config.data.file
    home = target if folder else target.parent
    found = certify(config, data or (home / named if named else None), folder, directions)
    answer(json.dumps(found.as_dict()) if as_json else certificate_table(found))
    if not found.passed:
        raise typer.Exit(NUMERICS_FAILED)
