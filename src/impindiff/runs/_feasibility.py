"""Whether the steps and the memory of a config suffice, known before anything is computed."""

import math
from collections.abc import Iterator, Sequence
from pathlib import Path

import equinox as eqx
import jax
import numpy as np
import xarray as xr

from impindiff._errors import InputError
from impindiff.config import Config, asks_for_grid, build_stages, build_stepper
from impindiff.data import select_samples
from impindiff.latent import learned
from impindiff.rollout import KeepAll, format_bytes, parse_bytes, stable_dt
from impindiff.runs._example import made_up_problem
from impindiff.runs._run_plan import RunPlan, precision, use_precision
from impindiff.systems import System
from impindiff.train import (
    Batches,
    MemoryPlan,
    Observations,
    Stage,
    Work,
    available_bytes,
    gradient_bytes,
    plan_memory,
    steps_of,
)


def check_stable(plan: RunPlan) -> None:
    """Refuse explicit steps that let round-off grow.

    At the first training sample, or at each where there are sample parameters, with what is learned
    as it is before training.
    Raises: InputError that says how many substeps are stable.
    """
    time, stepper = plan.config.time, plan.stepper
    if time.accept_unstable or not stepper.is_explicit:
        return
    given = [dt for dt in (time.dt, *(stage.dt for stage in plan.stages)) if dt is not None]
    if not given:  # steps that follow their error notice themselves
        return
    longest, known, start = max(given), plan.observations, float(plan.observations.start)

    def limit_of(sample: int) -> float:
        first, given = jax.tree.map(
            lambda values: values[sample], (known.initial, known.sample_parameters)
        )
        return stable_dt(plan.system.with_sample_parameters(given), first, stepper, start)

    limit = min(
        limit_of(sample) for sample in range(known.num_samples if known.sample_parameters else 1)
    )
    # Power iteration finds the limit to a few percent.
    if longest > 1.05 * limit:
        enough = math.ceil(time.substeps * longest / limit)
        raise InputError(
            f"time.dt is {longest:g}, but {time.scheme!r} is stable for steps of at most "
            f"{limit:.2g} here: give time.substeps = {enough} or more, an implicit scheme "
            "('crank-nicolson', 'sdirk-2'), or time.accept_unstable = true to see it grow."
        )


# Where the states alone take less than this share of what there is, the rest will not take all of
# it: a program need not be compiled to know that.
_HARMLESS_SHARE = 0.05


def plan_run(config: Config, data_file: Path | None, memory: str | None = None) -> MemoryPlan:
    """What a gradient of a config takes, by what is kept; of the stage that takes most.

    Args:
        config: as loaded.
        data_file: the data. Without them, fields are made up on the config's grid, at time 0 first:
            shapes decide.
        memory: an amount such as "2GiB"; the config's own by default, or else what is available.

    Raises: InputError for what does not fit together, no amount of memory, or where neither data
        nor the config say how much there is to compute.
    """
    memory = memory or config.training.memory
    limit = available_bytes() if memory is None else parse_bytes(memory)
    if data_file is None:
        system, observations = _made_up(config)
        works = _works(config, system, observations, build_stages(config, system))
    else:
        plan = RunPlan.make(config, data_file, data_file.parent)
        works = _works(config, plan.system, plan.observations, plan.stages)
    return plan_memory(max(works, key=_kept_bytes), limit)


def check_memory(plan: RunPlan) -> None:
    """Refuse to keep the states of all steps where that takes more memory than there is.

    Raises: InputError, with the way out.
    """
    if plan.config.training.memory is not None:
        return  # chosen to fit
    works = _works(plan.config, plan.system, plan.observations, plan.stages)
    work = max(works, key=_kept_bytes)
    there_is = available_bytes()
    needed = _kept_bytes(work)
    if needed < _HARMLESS_SHARE * there_is:
        return
    if needed <= there_is:
        needed = gradient_bytes(work, KeepAll())
    if needed > there_is:
        raise InputError(
            f"a gradient of {work.num_steps} steps would take {format_bytes(needed)} or more with "
            f"the states of all steps kept, and {format_bytes(there_is)} are available. Keep some "
            f"and compute the others again: give --memory {int(0.8 * there_is / 2**20)}MiB, say, "
            "or training.memory in the config; 'impindiff plan' says what fits."
        )


def _works(
    config: Config,
    system: System,
    observations: Observations,
    stages: Sequence[Stage],
) -> Iterator[Work]:
    """The gradient that each stage computes."""
    stepper = build_stepper(config, system)
    arrays, frozen = eqx.partition(system, learned(system))
    for stage in stages:
        longest, batches = stage.dt or config.time.dt, stage.batches
        steps = steps_of(observations, batches, longest, stepper, config.time.control)
        batch = Batches.make(observations, steps.grids(steps.find(system)), batches).first
        yield Work(arrays, frozen, batch, stepper, config.training.samples_at_once)


def _made_up(config: Config) -> tuple[System, Observations]:
    """The config's system, and observations of the shapes that it names."""
    if config.grid is None and asks_for_grid(config):
        raise InputError(
            "the config names neither data nor a grid, and what memory a gradient takes depends on "
            "the number of cells: give --data FILE, or data.file or [[grid]] in the config."
        )
    if min(config.data.train_times) <= 0:
        raise InputError(
            f"data.train_times begin at {min(config.data.train_times):g}: without data time begins "
            "at 0, and what is trained on must come later. Give --data FILE."
        )
    selection = config.data.train_samples
    counts = [
        len(select_samples(xr.Dataset(coords={"sample": np.arange(size)}), selection))
        for size in (10_000, 20_000)
    ]
    if counts[0] != counts[1]:
        raise InputError(
            f"data.train_samples is {selection!r}, which without data has no end: name its end, or "
            "give --data FILE."
        )
    use_precision(config)
    system, observations, _ = made_up_problem(config, counts[0], precision(config))
    return system, observations


def _kept_bytes(work: Work) -> int:
    return work.num_steps * work.state_bytes
