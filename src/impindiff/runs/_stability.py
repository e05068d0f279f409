"""Whether an explicit scheme can take the steps that a config asks of it."""

import math

from impindiff._errors import InputError
from impindiff.integrate import ForwardEuler, RungeKutta4
from impindiff.rollout import stable_dt
from impindiff.runs._plan import RunPlan


def check_stable(plan: RunPlan) -> None:
    """Refuse explicit steps that let round-off grow.

    At the first training sample, with what is learned as it is before training.
    Raises: InputError that says how many substeps are stable.
    """
    time, stepper = plan.config.time, plan.stepper
    if time.accept_unstable or not isinstance(stepper, ForwardEuler | RungeKutta4):
        return
    first = {field: values[0] for field, values in plan.observations.initial.items()}
    start = plan.observations.start
    limit = stable_dt(plan.system, first, stepper, float(start))
    longest = max([time.dt, *(stage.dt for stage in plan.stages if stage.dt is not None)])
    # Power iteration finds the limit to a few percent.
    if longest > 1.05 * limit:
        enough = math.ceil(stepper.substeps * longest / limit)
        raise InputError(
            f"time.dt is {longest:g}, but {time.scheme!r} is stable for steps of at most "
            f"{limit:.2g} here: give time.substeps = {enough} or more, an implicit scheme "
            "('crank-nicolson', 'sdirk-2'), or time.accept_unstable = true to see it grow."
        )
