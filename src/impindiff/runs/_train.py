"""Training a run, from its first epoch or from where it stopped."""

import json
import os
import resource
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import equinox as eqx
import jax
import xarray as xr

from impindiff._errors import InputError
from impindiff.config import (
    Config,
    build_early_stopping,
    build_memory,
    build_progressive_tolerance,
    build_rescue,
)
from impindiff.data import file_sha256, is_setting, save_dataset
from impindiff.forecast import Scores, evaluate, is_table, predict, truth_at
from impindiff.latent import learned
from impindiff.report import write_report
from impindiff.runs._code import check_complete, check_same_code
from impindiff.runs._compiled_beside import CompiledBeside
from impindiff.runs._folder import RunFolder
from impindiff.runs._memory import check_memory
from impindiff.runs._plan import RunPlan, precision
from impindiff.runs._provenance import now, provenance
from impindiff.runs._stability import check_stable
from impindiff.systems import System
from impindiff.train import (
    AbstractOptimiser,
    EpochRecord,
    Progress,
    Trainer,
    Watcher,
    moving,
)

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
    # Not resolved: a link's target need not have a data file's suffix.
    plan = RunPlan.make(config, _absolute(data_file), _absolute(folder.path))
    check_memory(plan)
    check_stable(plan)
    check_complete(plan.config)
    trainer = _trainer(plan, folder)
    began = time.perf_counter()
    with folder.claimed():
        if going_on:
            _check_same(plan, folder)
        else:
            folder.create(plan.config)
            folder.write_json("provenance.json", provenance(plan.config, plan.data_file))
        done = (folder.checkpoints.progress() if resume else None) or Progress()
        folder.keep_metrics(done.epoch)

        def observe(record: EpochRecord) -> None:
            folder.log(record)
            if watch:
                watch(record)

        say("training")
        expect(sum(stage.epochs for stage in plan.stages))
        system = trainer.run(observe, resume=resume)
        say("forecasting")
        scores = _finish(plan, system, folder, began - done.seconds)
        say("drawing the report")
        write_report(folder.path)
    return scores


def _absolute(path: Path) -> Path:
    return Path(os.path.abspath(path))


def _trainer(plan: RunPlan, folder: RunFolder) -> Trainer:
    validator = plan.validator()
    beside = CompiledBeside(validator) if validator else None
    return Trainer(
        plan.system,
        plan.observations,
        plan.stepper,
        plan.config.time.dt,
        plan.stages,
        validate=beside,
        on_traced=beside.begin if beside else None,
        validate_every=plan.config.training.validate_every,
        checkpoints=folder.checkpoints,
        checkpoint_every=plan.config.training.checkpoint_every,
        rescue=build_rescue(plan.config),
        progressive_tolerance=build_progressive_tolerance(plan.config),
        memory=build_memory(plan.config),
        samples_at_once=plan.config.training.samples_at_once,
        freeze=plan.config.training.freeze,
        early_stopping=build_early_stopping(plan.config),
        seed=plan.config.seed,
    )


def _check_same(plan: RunPlan, folder: RunFolder) -> None:
    """Refuse to go on with another config or other data than a run was begun with."""
    stored, wanted = (_entries(config.model_dump()) for config in (folder.config(), plan.config))
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
    known = folder.read_json("provenance.json").get("data", {}).get("sha256")
    if known is not None and known != file_sha256(plan.data_file):
        raise InputError(
            f"{plan.data_file} is not the data that the run in {folder.path} was begun with (its "
            "hash differs). Give the same file, or choose another --out."
        )


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


def _finish(plan: RunPlan, system: System, folder: RunFolder, began: float) -> Scores:
    """Forecast the test samples, score them, and write what the report is drawn from."""
    config = plan.config
    forecast = predict(
        system,
        plan.dataset,
        times=plan.forecast_times,
        dt=config.time.dt,
        stepper=plan.stepper,
        samples=plan.test_samples,
        dtype=precision(config),
    )
    scores = evaluate(forecast, plan.dataset, plan.test_samples)
    save_dataset(_with_truth(forecast, plan), folder.forecast_file, overwrite=True)
    progress = folder.checkpoints.progress() or Progress()
    # By way of JSON, which has no infinity: null stands for the error of what is zero in truth.
    summary = json.loads(scores.model_dump_json()) | {
        "title": config.title,
        "question": config.question,
        "training_seconds": progress.seconds,
        "total_seconds": time.perf_counter() - began,
        "epochs": progress.epoch,
        "stopped_early": progress.stopped_early,
        "peak_memory_bytes": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024,
        "trainable_parameters": num_trainable(system, config.training.freeze, plan.stages),
        "training_times": list(plan.observations.times),
        "training_samples": plan.train_samples,
        "dt": config.time.dt,
        "time_scheme": config.time.scheme,
    }
    folder.write_json("summary.json", summary)
    made = folder.read_json("provenance.json")
    folder.write_json("provenance.json", made | {"finished": now()})
    return scores


def num_trainable(
    system: System, freeze: Sequence[str], stages: Sequence[AbstractOptimiser]
) -> int:
    """How many learned numbers there are that some stage changes.

    Args:
        system: the equations.
        freeze: names of latents that keep their values throughout.
        stages: with names of their own.
    """
    arrays = eqx.filter(system, learned(system))
    moved = [moving(arrays, (*freeze, *stage.freeze)) for stage in stages]
    is_moved = jax.tree.map(lambda *each: any(each), *moved)
    return sum(a.size for a in jax.tree.leaves(eqx.filter(arrays, is_moved)))


def _with_truth(forecast: xr.Dataset, plan: RunPlan) -> xr.Dataset:
    """The forecast with the truth beside it, where the data has it, as NAME_truth."""
    truth = plan.dataset.isel(sample=plan.test_samples)
    num_times, known = forecast.sizes["time"], plan.known_times
    beside = {}
    for name in (name for name in forecast.data_vars if name in truth.data_vars):
        if is_setting(forecast[name]):
            continue
        exact = truth_at(forecast[name], truth[name]) if is_table(forecast[name]) else truth[name]
        if exact is None:
            continue
        variable = exact.variable
        if "time" in variable.dims:
            variable = variable.isel(time=slice(known)).pad(time=(0, num_times - known))
        beside[f"{name}_truth"] = variable.copy()
        beside[f"{name}_truth"].attrs = {
            **forecast[name].attrs,
            "long_name": f"{forecast[name].attrs['long_name']}, truth",
        }
    return forecast.assign(beside)
