"""Training a run, from its first epoch or from where it stopped."""

import resource
import time
from collections.abc import Callable
from pathlib import Path

import equinox as eqx
import jax
import xarray as xr

from impindiff._errors import InputError
from impindiff.config import Config, dump_config
from impindiff.data import file_sha256, save_dataset, select_samples
from impindiff.forecast import Scores, evaluate, predict
from impindiff.latent import learned
from impindiff.report import write_report
from impindiff.runs._folder import RunFolder
from impindiff.runs._plan import RunPlan, precision
from impindiff.runs._provenance import now, provenance
from impindiff.systems import System
from impindiff.train import EpochRecord, Progress, Trainer, Watcher

StageReport = Callable[[str], None]


def train_run(
    config: Config,
    data_file: Path,
    folder: RunFolder,
    *,
    resume: bool = False,
    watch: Watcher | None = None,
    say: StageReport = lambda text: None,
) -> Scores:
    """Train, forecast the test samples, score, and write the run folder.

    Args:
        config: what to do.
        data_file: the data.
        folder: where to write; must not hold a run, unless `resume`.
        resume: go on from the last checkpoint. A folder that holds no run is begun.
        watch: called with every epoch's record.
        say: called with a line of text as each part of the work begins.

    Returns: the errors of the forecast.
    Raises: InputError before any computation for whatever does not fit; NumericsError if training
        fails, with what was learned saved.
    """
    plan = RunPlan.make(config, data_file.resolve(), folder.path.resolve())
    began = time.perf_counter()
    if resume and folder.holds_run:
        _check_same(plan, folder)
    else:
        folder.create(plan.config)
        folder.write_json("provenance.json", provenance(plan.config, plan.data_file))
    checkpoints = folder.checkpoints
    done = (checkpoints.progress() if resume else None) or Progress()
    folder.keep_metrics(done.epoch)

    def observe(record: EpochRecord) -> None:
        folder.log(record)
        if watch:
            watch(record)

    trainer = Trainer(
        plan.system,
        plan.observations,
        plan.stepper,
        plan.config.time.dt,
        plan.stages,
        validate=plan.validator(),
        validate_every=plan.config.training.validate_every,
        checkpoints=checkpoints,
        checkpoint_every=plan.config.training.checkpoint_every,
    )
    say("training")
    system = trainer.run(observe, resume=resume)
    say("forecasting")
    scores = _finish(plan, system, folder, began - done.seconds)
    say("drawing the report")
    write_report(folder.path)
    return scores


def _check_same(plan: RunPlan, folder: RunFolder) -> None:
    """Refuse to go on with another config or other data than a run was begun with."""
    stored, wanted = folder.config(), plan.config
    same_place = wanted.data.model_copy(update={"file": stored.data.file})
    wanted = wanted.model_copy(update={"data": same_place})
    if stored != wanted:
        pairs = zip(
            dump_config(stored).splitlines(), dump_config(wanted).splitlines(), strict=False
        )
        here, there = next(((a, b) for a, b in pairs if a != b), ("", ""))
        raise InputError(
            f"{folder.config_file}: the run was begun with another config: there {here!r}, now "
            f"{there!r}. "
            f"Resume with {folder.config_file}, or choose another --out."
        )
    known = folder.read_json("provenance.json").get("data", {}).get("sha256")
    if known is not None and known != file_sha256(plan.data_file):
        raise InputError(
            f"{plan.data_file} is not the data that the run in {folder.path} was begun with (its "
            f"hash differs). "
            "Give the same file, or choose another --out."
        )


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
    arrays = jax.tree.leaves(eqx.filter(system, learned(system)))
    summary = scores.model_dump() | {
        "title": config.title,
        "question": config.question,
        "training_seconds": progress.seconds,
        "total_seconds": time.perf_counter() - began,
        "epochs": progress.epoch,
        "peak_memory_bytes": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024,
        "trainable_parameters": sum(a.size for a in arrays),
        "training_times": list(plan.observations.times),
        "training_samples": select_samples(plan.dataset, config.data.train_samples),
        "dt": config.time.dt,
        "time_scheme": config.time.scheme,
    }
    folder.write_json("summary.json", summary)
    made = folder.read_json("provenance.json")
    folder.write_json("provenance.json", made | {"finished": now()})
    return scores


def _with_truth(forecast: xr.Dataset, plan: RunPlan) -> xr.Dataset:
    """The forecast with the truth beside it, where the data has it, as NAME_truth."""
    truth = plan.dataset.isel(sample=plan.test_samples)
    names = [name for name in forecast.data_vars if name in truth.data_vars]
    # Matched by position in time: the two differ in how their times were rounded.
    num_times = min(forecast.sizes["time"], truth.sizes["time"])
    beside = {}
    for name in names:
        variable = truth[name].variable
        if "time" in variable.dims:
            variable = variable.isel(time=slice(num_times))
            short = forecast.sizes["time"] - num_times
            if short:
                variable = variable.pad(time=(0, short))
        beside[f"{name}_truth"] = variable.copy()
        beside[f"{name}_truth"].attrs = {
            **forecast[name].attrs,
            "long_name": f"{forecast[name].attrs['long_name']}, truth",
        }
    return forecast.assign(beside)
