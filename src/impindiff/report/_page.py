"""The page put together: everything it needs inside, nothing that comes from the run ever executed.

Jinja escapes what it inserts, data for the script travel as JSON with `<`, `>` and `&` written
as escapes, and a content security policy names the one script by its hash: the browser runs no
other and loads nothing.
"""

import base64
import hashlib
from collections.abc import Mapping
from importlib.resources import files
from pathlib import Path
from typing import Any

from jinja2 import Environment, StrictUndefined
from markupsafe import Markup

from impindiff._errors import InputError
from impindiff.data import replace_file
from impindiff.report._codes import colour_table
from impindiff.report._facts import balances_of, cost_of, provenance_of, scalars_of, setting_of
from impindiff.report._format import unit_of
from impindiff.report._frames import variables_of
from impindiff.report._load import RunFolder, load_run, numbers
from impindiff.report._plots import plot_errors, plot_iterations, plot_loss
from impindiff.report._viewer import make_viewer
from impindiff.report._words import cards_of, question_of, title_of, verdict_of

# Before base64, which adds a third: the page stays below 5 MB with half a megabyte to spare.
_FIELD_BYTES = 2_600_000
_LATENT_BYTES = 750_000


def write_report(run: Path) -> Path:
    """Write `report.html` into a run folder.

    One file that needs no network: figures, maps over time with a slider, and the run's settings.
    An older report is replaced in one step, so that a reader never sees half a page.

    Args:
        run: the folder that a run or a training wrote; only its own files are read.

    Returns: the path of the report.
    Raises: InputError if this is no run folder, or if its summary or forecast cannot be read.
    """
    page = _page(load_run(Path(run)))
    path = Path(run) / "report.html"
    try:
        # Names of files need not be text; their bytes are then shown as such.
        replace_file(path, page.encode("utf-8", errors="backslashreplace"))
    except OSError as error:
        raise InputError(
            f"{path} cannot be written ({error.strerror}). Free some space, or copy the run folder "
            "to a place where you may write."
        ) from error
    return path


def _page(run: RunFolder) -> str:
    fields, latents = variables_of(run.forecast)
    training_times = numbers(run.summary.get("training_times"))
    time = run.forecast.get("time")
    time_unit = unit_of(str(time.attrs.get("units", ""))) if time is not None else ""
    script = _resource("viewer.js")
    context: Mapping[str, Any] = {
        "title": title_of(run),
        "question": question_of(run, fields, latents),
        "cards": cards_of(run, fields),
        "verdict": verdict_of(run, fields),
        "field_viewer": make_viewer(fields, run.forecast, training_times, _FIELD_BYTES),
        "latent_viewer": make_viewer(latents, run.forecast, training_times, _LATENT_BYTES),
        "scalars": scalars_of(latents),
        "error_plot": plot_errors(run.errors, training_times, time_unit, run.time_digits),
        "loss_plot": plot_loss(run.history, numbers(run.summary.get("validation_samples"))),
        "iteration_plot": plot_iterations(run.history),
        "unreadable_lines": run.history.unreadable_lines,
        "learned_nothing": run.learned_nothing,
        "missing_epochs": run.history.missing_epochs,
        "setting": setting_of(run),
        "cost": cost_of(run),
        "balances": balances_of(run),
        "provenance": provenance_of(run),
        "config": run.config,
        "colours": {"forecast": colour_table("viridis"), "error": colour_table("RdBu_r")},
        "style": Markup(_resource("style.css")),
        "script": Markup(script),
        "script_hash": base64.b64encode(hashlib.sha256(script.encode()).digest()).decode(),
    }
    environment = Environment(
        autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    # NaN is no JSON: better an error here than a page that stays blank.
    environment.policies["json.dumps_kwargs"] = {"allow_nan": False}
    return environment.from_string(_resource("template.html.j2")).render(context)


def _resource(name: str) -> str:
    return files("impindiff.report").joinpath(name).read_text(encoding="utf-8")
