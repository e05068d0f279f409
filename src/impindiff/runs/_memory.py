"""The memory that a config's gradients need, beside what there is."""

import os
from pathlib import Path

import numpy as np

from impindiff._errors import InputError
from impindiff.config import Config
from impindiff.rollout import TimeGrid, format_bytes, parse_bytes
from impindiff.runs._plan import RunPlan
from impindiff.train import MemoryPlan, available_bytes, plan_memory


def plan_run(config: Config, data_file: Path, memory: str | None = None) -> MemoryPlan:
    """What a gradient of a config takes, by what is kept; of the stage with the most steps.

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
    return plan_memory(plan.system, plan.observations, plan.stepper, plan.finest_dt, limit)


def check_memory(plan: RunPlan) -> None:
    """Refuse to keep the states of all steps where they alone are more than there is.

    Raises: InputError, with the way out.
    """
    if plan.config.training.memory is not None:
        return  # chosen to fit
    observations = plan.observations
    times = np.array(observations.times)
    num_steps = TimeGrid.build(observations.start, times, plan.finest_dt).num_steps
    least = num_steps * sum(u.nbytes for u in observations.initial.values())
    there_is = available_bytes()
    if least > there_is:
        raise InputError(
            f"a gradient of {num_steps} steps would keep {format_bytes(least)} of states and more, "
            f"and {format_bytes(there_is)} are available. Keep some and compute the others again: "
            f"give --memory {int(0.8 * there_is / 2**20)}MiB, say, or training.memory in the "
            "config; 'impindiff plan' says what fits."
        )
