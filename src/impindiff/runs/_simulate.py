"""A run of what is known alone: the forward model, forecast and scored as a trained one is."""

import time
from collections.abc import Callable
from pathlib import Path

from impindiff._errors import InputError
from impindiff.config import Config
from impindiff.forecast import Scores
from impindiff.latent import latents_of
from impindiff.report import write_report
from impindiff.runs._code import check_complete
from impindiff.runs._finish import finish
from impindiff.runs._folder import RunFolder
from impindiff.runs._plan import RunPlan
from impindiff.runs._provenance import provenance
from impindiff.runs._stability import check_stable


def simulate_run(
    config: Config,
    data_file: Path,
    folder: RunFolder,
    *,
    say: Callable[[str], None] = lambda text: None,
) -> Scores:
    """Forecast the test samples by a system that leaves nothing to learn, and write the run folder.

    How far its forecasts are from the truth is what no training can be better than, but by chance:
    the error of steps and cells that the config asks for.

    Args:
        config: what to do; of its training nothing is done.
        data_file: the data.
        folder: where to write; must not hold a run.
        say: called with a line of text as each part of the work begins.

    Returns: the errors of the forecast.
    Raises: InputError before any computation for whatever does not fit, and for a system with
        something to learn; NumericsError where a step fails.
    """
    folder.check_free()
    plan = RunPlan.make(config, data_file, folder.path, learns=False)
    if latents := latents_of(plan.system):
        raise InputError(
            f"the system has {latents[0].names[0]!r} to learn: train it, or give what is known in "
            "its place."
        )
    check_stable(plan)
    check_complete(plan.config)
    began = time.perf_counter()
    with folder.claimed():
        folder.create(plan.config, provenance(plan.config, plan.data_file))
        folder.keep_metrics(0)
        say("forecasting")
        scores = finish(plan, plan.system, folder, began)
        say("drawing the report")
        write_report(folder.path)
    return scores
