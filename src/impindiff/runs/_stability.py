"""Whether an explicit scheme can take the steps that a config asks of it."""

import math

import jax

from impindiff._errors import InputError
from impindiff.rollout import stable_dt
from impindiff.runs._plan import RunPlan


def check_stable(plan: RunPlan) -> None:
    """Refuse explicit steps that let round-off grow.

    At the first training sample, or at each where they have settings of their own, with what is
    learned as it is before training.
    Raises: InputError that says how many substeps are stable.
    """
    time, stepper = plan.config.time, plan.stepper
    if time.accept_unstable or not stepper.is_explicit:
        return
    known, start = plan.observations, float(plan.observations.start)

    def limit_of(sample: int) -> float:
        first, given = jax.tree.map(lambda values: values[sample], (known.initial, known.settings))
        return stable_dt(plan.system.with_settings(given), first, stepper, start)

    limit = min(limit_of(sample) for sample in range(known.num_samples if known.settings else 1))
    longest = max([time.dt, *(stage.dt for stage in plan.stages if stage.dt is not None)])
    # Power iteration finds the limit to a few percent.
    if longest > 1.05 * limit:
        enough = math.ceil(time.substeps * longest / limit)
        raise InputError(
            f"time.dt is {longest:g}, but {time.scheme!r} is stable for steps of at most "
            f"{limit:.2g} here: give time.substeps = {enough} or more, an implicit scheme "
            "('crank-nicolson', 'sdirk-2'), or time.accept_unstable = true to see it grow."
        )
