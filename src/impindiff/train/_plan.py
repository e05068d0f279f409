"""What a gradient will take of memory and time, by what is kept of its rollout."""

from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from functools import cache, partial
from math import ceil, sqrt
from time import perf_counter
from typing import Any, Unpack, final

import equinox as eqx
import jax
import numpy as np
import xarray as xr

from impindiff.latent import learned as learned_mask
from impindiff.rollout import KeepAll, MemoryPolicy, Snapshots, TimeGrid, least_steps, parse_bytes
from impindiff.systems import System
from impindiff.train._available import available_bytes
from impindiff.train._batch import whole
from impindiff.train._memory_plan import Work, gradient_bytes, within_budget
from impindiff.train._observations import Observations
from impindiff.train._options import FitOptions, FittedData

# Steps of the two short rollouts that are timed, and how often.
_SHORT, _LONGER, _REPEATS = 4, 12, 3


@final
@dataclass(frozen=True)
class PolicyPlan:
    """What one gradient takes under one policy.

    Attributes:
        policy: "keep-all", "snapshots", or "budget": the least recomputation within the memory.
        snapshots: states kept at a time; as many as steps where all are.
        peak_bytes: arguments, results and temporaries of the compiled gradient, by XLA's account.
        extra_forward_steps: steps taken again.
        seconds: of one gradient, extrapolated from short rollouts; None where none was timed.
        fits: whether `peak_bytes` is within the memory.
    """

    policy: str
    snapshots: int
    peak_bytes: int
    extra_forward_steps: int
    seconds: float | None
    fits: bool


@final
@dataclass(frozen=True)
class MemoryPlan:
    """What one gradient takes, by policy.

    Attributes:
        num_steps: steps of the rollout.
        state_bytes: of one state of all samples that are held at a time.
        memory_bytes: what there is, or may be taken.
        policies: a plan each.
    """

    num_steps: int
    state_bytes: int
    memory_bytes: int
    policies: list[PolicyPlan]

    def as_dict(self) -> dict[str, Any]:
        """As documented for `plan --json`."""
        return asdict(self)


def plan(
    system: System,
    data: xr.Dataset,
    *,
    dt: float,
    memory: int | str | None = None,
    calibrate: bool = True,
    options: FitOptions = FitOptions(),
    **fitted: Unpack[FittedData],
) -> MemoryPlan:
    """Predict the memory and time of one gradient of `fit`, for each memory policy.

    Args:
        system: the equations.
        data: see `fit`.
        dt: longest step.
        memory: bytes, as a number or as `"2GiB"`; what is available by default.
        calibrate: whether to time short rollouts, to say how long a gradient will take.
        options: see `fit`; what changes neither memory nor time does not matter.
        fitted: `samples`, `times`, `start`, `observe` and `regularise` as `fit` takes them.

    Raises: InputError for data that do not fit the system, or no amount of memory.
    """
    limit = available_bytes() if memory is None else parse_bytes(memory)
    observations = Observations.of(system, data, dtype=options.dtype, **fitted)
    learned, frozen = eqx.partition(system, learned_mask(system))
    batch = whole(observations, dt)
    work = Work(learned, frozen, batch, options.stepper, options.samples_at_once)
    return plan_memory(work, limit, calibrate)


def plan_memory(work: Work, memory_bytes: int, calibrate: bool = True) -> MemoryPlan:
    """See `plan`."""
    num_steps = work.num_steps
    needed = cache(partial(gradient_bytes, work))
    seconds = _calibrated(work) if calibrate else None

    def planned(name: str, policy: MemoryPolicy) -> PolicyPlan:
        if isinstance(policy, Snapshots):
            # The first sweep, which every policy takes, is one of those steps each but the last.
            extra = least_steps(num_steps, policy.count) - (num_steps - 1)
            count = policy.count
        else:
            extra, count = 0, num_steps
        peak = needed(policy)
        time = None if seconds is None else seconds(num_steps, extra)
        return PolicyPlan(name, count, peak, extra, time, peak <= memory_bytes)

    chosen, _ = within_budget(needed, num_steps, memory_bytes)
    policies = [
        planned("keep-all", KeepAll()),
        planned("snapshots", Snapshots(ceil(sqrt(num_steps)))),
        planned("budget", chosen),
    ]
    return MemoryPlan(num_steps, work.state_bytes, memory_bytes, policies)


def _calibrated(work: Work) -> Callable[[int, int], float]:
    """Seconds of a gradient, by its steps and those taken again."""
    step, start = float(np.max(work.batch.time_grid.lengths)), float(work.batch.time_grid.starts[0])

    def measure(steps: int, of_gradient: bool) -> float:
        time_grid = TimeGrid.even(start, np.array([start + steps * step]), steps)
        short = replace(
            work.batch,
            observed={name: u[:, :1] for name, u in work.batch.observed.items()},
            deviations={name: u[:, :1] for name, u in work.batch.deviations.items()},
            time_grid=time_grid,
            rows=(),
        )

        def run(work: Work):
            evaluation = work.evaluate(KeepAll())
            return (evaluation.loss, evaluation.gradient if of_gradient else None)

        compiled, arrays = eqx.tree_at(lambda w: w.batch, work, short).compiled(run)
        jax.block_until_ready(compiled(arrays))
        times = []
        for _ in range(_REPEATS):
            began = perf_counter()
            jax.block_until_ready(compiled(arrays))
            times.append(perf_counter() - began)
        return min(times)

    forward, gradient = ([measure(n, g) for n in (_SHORT, _LONGER)] for g in (False, True))
    a_step, a_gradient_step = (
        max(0.0, (long - short) / (_LONGER - _SHORT)) for short, long in (forward, gradient)
    )
    once = max(0.0, gradient[0] - _SHORT * a_gradient_step)
    return lambda num_steps, extra: once + num_steps * a_gradient_step + extra * a_step
