"""The end of a run: the forecast of its test samples, their scores, and the summary."""

import json
import resource
import time
from collections.abc import Sequence

import equinox as eqx
import jax
import jax.numpy as jnp
import xarray as xr

from impindiff._errors import NumericsError
from impindiff.config import build_observations
from impindiff.data import is_sample_parameter, save_dataset
from impindiff.forecast import (
    HALVED,
    SOLVER,
    STEPS,
    UNSEEN,
    Scores,
    Seen,
    evaluate,
    is_table,
    predict,
    truth_at,
)
from impindiff.latent import learned
from impindiff.rollout import Choice, StepControl, spans_of, time_error
from impindiff.runs._folder import RunFolder
from impindiff.runs._provenance import now
from impindiff.runs._run_plan import RunPlan, precision
from impindiff.systems import System
from impindiff.train import Progress, Stage, moving


def finish(
    plan: RunPlan,
    system: System,
    folder: RunFolder,
    began: float,
    choices: Sequence[Choice] = (),
    remarks: Sequence[str] = (),
) -> Scores:
    """Forecast the test samples, score them, and write what the report is drawn from.

    Args:
        plan: of the run.
        system: with what was learned; of what is known alone, nothing was.
        folder: where to write.
        began: when, by `time.perf_counter`.
        choices: how the steps of each stage of training were solved.
        remarks: what is to be said of how training ended.

    Returns: the errors of the forecast.
    """
    config = plan.config
    forecast = predict(
        system,
        plan.dataset,
        times=plan.forecast_times,
        dt=config.time.dt,
        start=plan.start,
        stepper=plan.stepper,
        samples=plan.test.positions,
        dtype=precision(config),
        control=config.time.control,
    )
    is_trained = bool(jax.tree.leaves(eqx.filter(system, learned(system))))
    seen = Seen(plan.train_samples, plan.observations.times) if is_trained else UNSEEN
    scores = evaluate(
        forecast,
        plan.dataset,
        plan.test.positions,
        observe=build_observations(config, system) or (),
        grid=system.grid,
        seen=seen,
    )
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
        "trainable_parameters": num_trainable(system, plan.stages) if is_trained else 0,
        "training_times": list(seen.times),
        "training_samples": list(seen.samples),
        "validation_samples": list(plan.validation.positions) if is_trained else [],
        "start": plan.start,
        "dt": config.time.dt,
        "time_scheme": config.time.scheme,
    }
    choices_made = {
        "training": [choice.reason for choice in choices],
        "forecast": forecast.attrs.get(SOLVER),
    }
    if choices_made["forecast"]:  # of what the config names there is nothing to say
        summary["solver"] = choices_made
    if STEPS in forecast.attrs:
        error, steps = _time_error(plan, system), forecast.attrs[STEPS]
        if error is not None:
            steps += f"; compared with half of that, all together come to {error:.1g}"
        summary |= {"steps": steps, "time_error": error}
    if scores.readings:
        about = {name: plan.dataset[name].attrs for name in scores.readings}
        summary["reading_units"] = {name: str(of.get("units", "")) for name, of in about.items()}
    if remarks:
        summary["warnings"] = list(remarks)
    if HALVED in forecast.attrs:
        summary["halved_steps"] = forecast.attrs[HALVED]
    folder.write_json("summary.json", summary)
    made = folder.read_json("provenance.json")
    folder.write_json("provenance.json", made | {"finished": now()})
    return scores


def _time_error(plan: RunPlan, system: System) -> float | None:
    """What the errors of the forecast's steps come to; None where finer steps fail."""
    initial = plan.test.initial_of(system)
    like = next(iter(initial.values()))
    initial |= {name: jnp.zeros_like(like) for name in system.integrals}
    spans = spans_of(plan.start, plan.forecast_times)
    control = plan.config.time.control or StepControl()
    try:
        return time_error(
            system, initial, spans, plan.stepper, control, plan.test.sample_parameters
        )
    except NumericsError:
        return None


def num_trainable(system: System, stages: Sequence[Stage]) -> int:
    """How many learned numbers there are that some stage changes.

    Args:
        system: the equations.
        stages: with the names of the latents that each freezes.
    """
    arrays = eqx.filter(system, learned(system))
    moved = [moving(arrays, stage.freeze) for stage in stages]
    is_moved = jax.tree.map(lambda *each: any(each), *moved)
    return sum(a.size for a in jax.tree.leaves(eqx.filter(arrays, is_moved)))


def _with_truth(forecast: xr.Dataset, plan: RunPlan) -> xr.Dataset:
    """The forecast with the truth beside it, where the data has it, as NAME_truth."""
    truth = plan.dataset.isel(sample=plan.test.positions).drop_duplicates("time")
    num_times, known = forecast.sizes["time"], plan.known_times
    beside = {}
    for name in (name for name in forecast.data_vars if name in truth.data_vars):
        if is_sample_parameter(forecast[name]):
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
