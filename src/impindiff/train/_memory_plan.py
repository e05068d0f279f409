"""The memory and time of one gradient, predicted for each memory policy: shapes decide.

XLA reports what the compiled gradient takes. With snapshots that is linear in their number, so
that two compilations tell how many fit, and a third confirms it.
"""

from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from functools import cache, partial
from math import ceil, sqrt
from pathlib import Path
from time import perf_counter
from typing import Any, Unpack, final

import equinox as eqx
import jax
import numpy as np
import psutil
import xarray as xr
from jaxtyping import PyTree

from impindiff._errors import InputError, NumericsError
from impindiff.integrate import AbstractStepper
from impindiff.latent import learned as learned_mask
from impindiff.rollout import (
    KeepAll,
    MemoryBudget,
    MemoryPolicy,
    Snapshots,
    TimeGrid,
    format_bytes,
    least_steps,
    parse_bytes,
)
from impindiff.systems import System
from impindiff.train._batches import WHOLE, Batch, whole
from impindiff.train._fit_options import FitOptions, FittedData
from impindiff.train._objective import Evaluation, make_objective
from impindiff.train._observations import Observations
from impindiff.train._time_steps import steps_of

CONTROL_GROUP = Path("/sys/fs/cgroup")


def available_bytes(control_group: Path = CONTROL_GROUP) -> int:
    """What a run may take on the device it would run on [bytes].

    An accelerator's own memory; else the machine's that is free, a container's or batch system's
    limit included.
    """
    # Not every backend keeps such statistics; that of the CPU has none.
    limit = (jax.local_devices()[0].memory_stats() or {}).get("bytes_limit")
    return int(limit) if limit else free_bytes(control_group)


def free_bytes(control_group: Path = CONTROL_GROUP) -> int:
    """The machine's memory that is free, its control group's limit included [bytes]."""
    free, limit = psutil.virtual_memory().available, control_group_limit(control_group)
    return free if limit is None else min(free, limit)


def control_group_limit(folder: Path = CONTROL_GROUP) -> int | None:
    """The memory limit of the control group [bytes], versions 2 and 1; None where there is none."""
    limits = []
    for file in (folder / "memory.max", folder / "memory" / "memory.limit_in_bytes"):
        text = file.read_text().strip() if file.is_file() else "max"
        if text.isdigit() and int(text) < 2**60:  # version 1 writes "no limit" as about 2**63
            limits.append(int(text))
    return min(limits, default=None)


# So many are needed for a slope; two might be laid out in some special way.
_FEW, _MORE = 2, 18


@final
class Work(eqx.Module):
    """One gradient of a training loss.

    Attributes:
        learned: the system's learned arrays.
        frozen: the system without them.
        batch: what is fitted.
        stepper: advances one step.
        samples_at_once: how many samples' states are held at a time; all where None.

    Raises: InputError for none at a time.
    """

    learned: PyTree
    frozen: System
    batch: Batch
    stepper: AbstractStepper
    samples_at_once: int | None = eqx.field(static=True, default=None)

    def __check_init__(self) -> None:
        """Refuse parts without samples."""
        if self.samples_at_once is not None and self.samples_at_once < 1:
            raise InputError(f"samples_at_once is {self.samples_at_once}: it must be at least 1.")

    @property
    def num_steps(self) -> int:
        """Steps of the rollout."""
        return self.batch.time_grid.num_steps

    @property
    def state_bytes(self) -> int:
        """Of one state of all samples that are held at a time."""
        samples = self.batch.num_samples
        all_bytes = sum(u.nbytes for u in self.batch.initial.values())
        return all_bytes * min(self.samples_at_once or samples, samples) // samples

    def evaluate(self, memory: MemoryPolicy) -> Evaluation:
        """The loss and its gradient."""
        objective = make_objective(
            self.frozen,
            self.batch,
            self.stepper,
            memory=memory,
            samples_at_once=self.samples_at_once,
        )
        return objective(self.learned)

    def compiled(
        self, run: Callable[["Work"], PyTree], options: dict[str, Any] | None = None
    ) -> tuple[jax.stages.Compiled, PyTree]:
        """A function of this work, compiled with XLA's options, and the arrays to call it with."""
        arrays, static = eqx.partition(self, lambda leaf: isinstance(leaf, jax.Array | np.ndarray))
        lowered = jax.jit(lambda a: run(eqx.combine(a, static))).lower(arrays)
        return lowered.compile(options), arrays


def gradient_bytes(work: Work, memory: MemoryPolicy) -> int:
    """Arguments, results and temporaries of the compiled gradient [bytes]; compiles, runs nothing.

    Raises: NumericsError where the backend does not say.
    """
    # Buffers are laid out before code is generated: that need not be good, and takes a third less.
    options = {"xla_backend_optimization_level": 0} if jax.default_backend() == "cpu" else None
    compiled, _ = work.compiled(lambda work: work.evaluate(memory), options)
    needed = compiled.memory_analysis()
    if needed is None:
        raise NumericsError(
            f"the backend {jax.default_backend()!r} does not say what memory a program takes: give "
            "KeepAll() or Snapshots(count) instead of a budget."
        )
    return (
        needed.argument_size_in_bytes
        + needed.output_size_in_bytes
        + needed.temp_size_in_bytes
        - needed.alias_size_in_bytes
    )


def choose_policy(work: Work, memory: MemoryPolicy | MemoryBudget) -> MemoryPolicy:
    """The policy that a budget leaves, see `within_budget`; any other is returned as it is.

    Raises: InputError for what is no policy, more snapshots than steps, or a budget that is too
        small.
    """
    if not isinstance(memory, MemoryPolicy | MemoryBudget):
        raise InputError(
            f"memory is {memory!r}: give KeepAll(), Snapshots(count) or MemoryBudget('2GiB')."
        )
    num_steps = work.num_steps
    if isinstance(memory, Snapshots) and memory.count > num_steps:
        raise InputError(
            f"{memory.count} snapshots of {num_steps} steps: there must be from 1 to {num_steps}. "
            "KeepAll() keeps every step's."
        )
    if not isinstance(memory, MemoryBudget):
        return memory
    policy, least = within_budget(partial(gradient_bytes, work), num_steps, memory.num_bytes)
    if least > memory.num_bytes:
        raise InputError(
            f"a memory budget of {format_bytes(memory.num_bytes)} is too small: with one snapshot, "
            f"the least, a gradient of {num_steps} steps needs {ceil(least / 1024)}KiB. Give that "
            "much, or hold fewer samples at a time (samples_at_once)."
        )
    # As many also where a rescue halves steps: the budget holds for those, too.
    return Snapshots(num_steps) if isinstance(policy, KeepAll) else policy


def within_budget(
    needed: Callable[[MemoryPolicy], int], num_steps: int, budget: int
) -> tuple[MemoryPolicy, int]:
    """The policy that recomputes least among those within a budget, and what it needs.

    Where none is, that which needs least.

    Args:
        needed: what a policy needs [bytes].
        num_steps: how many steps there are, at least one.
        budget: [bytes].
    """
    policy: MemoryPolicy = KeepAll()
    bytes_needed = needed(policy)
    if bytes_needed <= budget or num_steps == 1:
        return policy, bytes_needed
    few, more = min(_FEW, num_steps), min(_MORE, num_steps)
    points = [(count, needed(Snapshots(count))) for count in sorted({few, more})]
    while True:
        count = min(num_steps, max(1, _on_line(points, budget)))
        policy = Snapshots(count)
        bytes_needed = needed(policy)
        if bytes_needed <= budget or count == 1:
            return policy, bytes_needed
        # Not quite a line: again between what fits and what turned out not to.
        below = max((p for p in points if p[1] <= budget), default=(1, 0))
        points = [below, (count, bytes_needed)]


def _on_line(points: list[tuple[int, int]], budget: int) -> int:
    """The most snapshots within a budget, if bytes lay on the line through two points."""
    (few, at_few), (more, at_more) = points[0], points[-1]
    slope = max(1.0, (at_more - at_few) / max(1, more - few))
    return few + int((budget - at_few) // slope)


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
    dt: float | None = None,
    memory: int | str | None = None,
    calibrate: bool = True,
    options: FitOptions = FitOptions(),
    **fitted: Unpack[FittedData],
) -> MemoryPlan:
    """Predict the memory and time of one gradient of `fit`, for each memory policy.

    Args:
        system: the equations.
        data: see `fit`.
        dt: longest step; where None, steps follow their error, with what is learned as it is now.
        memory: bytes, as a number or as `"2GiB"`; what is available by default.
        calibrate: whether to time short rollouts, to say how long a gradient will take.
        options: see `fit`; what changes neither memory nor time does not matter.
        fitted: `samples`, `times`, `start`, `observe` and `regularise` as `fit` takes them.

    Raises: InputError for data that do not fit the system, or no amount of memory.
    """
    limit = available_bytes() if memory is None else parse_bytes(memory)
    observations = Observations.of(system, data, dtype=options.dtype, **fitted)
    learned, frozen = eqx.partition(system, learned_mask(system))
    stepper = options.stepper_for(dt)
    steps = steps_of(observations, WHOLE, dt, stepper, options.control)
    batch = whole(observations, steps.whole(steps.find(system)))
    work = Work(learned, frozen, batch, stepper, options.samples_at_once)
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
