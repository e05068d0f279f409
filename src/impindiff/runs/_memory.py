"""The memory that a config's gradients need, beside what there is."""

import os
from collections.abc import Iterator
from pathlib import Path

import equinox as eqx

from impindiff._errors import InputError
from impindiff.config import Config
from impindiff.latent import learned
from impindiff.rollout import KeepAll, format_bytes, parse_bytes
from impindiff.runs._plan import RunPlan
from impindiff.train import (
    Batches,
    MemoryPlan,
    Work,
    available_bytes,
    divided,
    gradient_bytes,
    plan_memory,
)

# Where the states alone take less than this share of what there is, the rest will not take all of
# it: a program need not be compiled to know that.
_HARMLESS_SHARE = 0.05


def plan_run(config: Config, data_file: Path, memory: str | None = None) -> MemoryPlan:
    """What a gradient of a config takes, by what is kept; of the stage that takes most.

    Args:
        config: as loaded.
        data_file: the data.
        memory: an amount such as "2GiB"; the config's own by default, or else what is available.

    Raises: InputError for what does not fit together, or no amount of memory.
    """
    memory = memory or config.training.memory
    limit = available_bytes() if memory is None else parse_bytes(memory)
    data_file = Path(os.path.abspath(data_file))
    plan = RunPlan.make(config, data_file, data_file.parent)
    return plan_memory(max(_works(plan), key=_kept_bytes), limit)


def check_memory(plan: RunPlan) -> None:
    """Refuse to keep the states of all steps where that takes more memory than there is.

    Raises: InputError, with the way out.
    """
    if plan.config.training.memory is not None:
        return  # chosen to fit
    work, there_is = max(_works(plan), key=_kept_bytes), available_bytes()
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


def _works(plan: RunPlan) -> Iterator[Work]:
    """The gradient that each stage computes."""
    arrays, frozen = eqx.partition(plan.system, learned(plan.system))
    at_once = plan.config.training.samples_at_once
    for stage in plan.stages:
        data = divided(plan.observations, stage.dt or plan.config.time.dt, stage.batching)
        batch = data.first if isinstance(data, Batches) else data
        yield Work(arrays, frozen, batch, plan.stepper, at_once)


def _kept_bytes(work: Work) -> int:
    return work.num_steps * work.state_bytes
