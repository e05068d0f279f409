"""A run in one call: training, or the known model alone, then forecast, scores and report."""

import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

from impindiff._errors import InputError, warn_caller
from impindiff.config import Config, build_options
from impindiff.data import file_sha256
from impindiff.forecast import Scores
from impindiff.latent import latents_of
from impindiff.report import write_report
from impindiff.runs._feasibility import check_memory, check_stable
from impindiff.runs._finish import finish
from impindiff.runs._folder import RunFolder
from impindiff.runs._provenance import provenance
from impindiff.runs._run_plan import RunPlan
from impindiff.runs._seen import readings_of
from impindiff.runs._user_code import (
    check_complete,
    check_same_code,
    evidence_of,
    warn_of_edits,
)
from impindiff.runs._validator import CompiledBeside
from impindiff.train import Checkpoints, EpochRecord, Progress, Trainer, Watcher

StageReport = Callable[[str], None]


def train_run(
    config: Config,
    data_file: Path,
    folder: RunFolder,
    *,
    resume: bool = False,
    watch: Watcher | None = None,
    say: StageReport = lambda text: None,
    expect: Callable[[int], None] = lambda num_epochs: None,
) -> Scores:
    """Train, forecast the test samples, score, and write the run folder.

    Args:
        config: what to do.
        data_file: the data.
        folder: where to write; must not hold a run, unless `resume`.
        resume: go on from the last checkpoint. A folder that holds no run is begun.
        watch: called with every epoch's record.
        say: called with a line of text as each part of the work begins.
        expect: called before the first epoch, with the most that there will be.

    Returns: the errors of the forecast.
    Raises: InputError before any computation for whatever does not fit; NumericsError if training
        fails, with what was learned saved.
    """
    going_on = resume and folder.holds_run
    if not going_on:
        folder.check_free()
    plan = RunPlan.make(config, data_file, folder.path)
    check_memory(plan)
    check_stable(plan)
    check_complete(plan.config)

    def observe(record: EpochRecord) -> None:
        folder.log(record)
        if watch:
            watch(record)

    made = {}
    if not going_on:
        made = provenance(plan.config, plan.data_file, readings_of(plan))
    run = folder.identity if going_on else made["run"]
    checkpoints = Checkpoints(folder.checkpoints.folder, plan.config.training.checkpoint_every, run)
    trainer = _trainer(plan, checkpoints, observe)
    began = time.perf_counter()
    with folder.claimed():
        if going_on:
            _check_same(plan, folder)
        else:
            folder.create(plan.config, made)
        done = folder.checkpoints.progress() if resume else None
        if done is None and folder.metrics_file.exists():
            warn_caller(
                f"{folder.checkpoints.folder} holds no checkpoint: the training starts again, and "
                f"what {folder.metrics_file.name} says is written again.",
            )
        done = done or Progress()
        folder.keep_metrics(done.epoch)
        say("training")
        expect(sum(stage.epochs for stage in plan.stages))
        system = trainer.run(resume=resume)
        remarks = trainer.remarks
        for remark in remarks:
            say(f"warning: {remark}")
        say("forecasting")
        done_by = trainer.choices, remarks
        scores = finish(plan, system, folder, began - done.seconds, *done_by)
        say("drawing the report")
        write_report(folder.path)
    return scores


def _trainer(plan: RunPlan, checkpoints: Checkpoints, watch: Watcher) -> Trainer:
    validator = plan.validator()
    beside = CompiledBeside(validator) if validator else None
    options = build_options(plan.config, plan.stepper)
    options = replace(
        options,
        validation=replace(options.validation, error=beside),
        watch=watch,
        checkpoints=checkpoints,
    )
    return Trainer(
        plan.system,
        plan.observations,
        plan.config.time.dt,
        plan.stages,
        options,
        on_traced=beside.begin if beside else None,
    )


def _check_same(plan: RunPlan, folder: RunFolder) -> None:
    """Refuse to go on with another config or other data than a run was begun with.

    Also where provenance does not say which run this is: its checkpoints could not be checked.

    Warns: RuntimeWarning where the run's own config was edited: it agrees with itself.
    """
    begun_with = folder.config()
    stored, wanted = (_entries(config.model_dump()) for config in (begun_with, plan.config))
    # The data may have moved; their hash tells whether they are the same.
    wanted["data.file"] = stored["data.file"]
    # Another machine may have less; the gradients are the same.
    for key in ("training.memory", "training.samples_at_once"):
        wanted[key] = stored[key]
    changed = [
        f"{key} was {stored.get(key)!r}, is {wanted.get(key)!r}"
        for key in {**stored, **wanted}
        if stored.get(key) != wanted.get(key)
    ]
    if changed:
        raise InputError(
            f"{folder.config_file}: the run was begun with another config: {'; '.join(changed)}. "
            f"Resume with {folder.config_file}, or choose another --out."
        )
    check_same_code(plan.config, folder)
    if folder.identity is None:
        raise InputError(
            f"{folder.path / 'provenance.json'}: 'run' is no text: it does not tell which run this "
            "is, and the checkpoints may be of another. Put it back as it was, or train another "
            "run."
        )
    if evidence_of(folder).data.sha256 != file_sha256(plan.data_file):
        raise InputError(
            f"{plan.data_file} is not the data that the run in {folder.path} was begun with (its "
            "hash differs). Give the same file, or choose another --out."
        )
    warn_of_edits(begun_with, folder)


def _entries(value: Any, key: str = "") -> dict[str, Any]:
    """The numbers and texts of nested tables, by dotted key."""
    if not isinstance(value, dict | list):
        return {key: value}
    pairs = value.items() if isinstance(value, dict) else enumerate(value)
    return {
        inner_key: inner
        for name, part in pairs
        for inner_key, inner in _entries(part, f"{key}.{name}" if key else str(name)).items()
    }


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
