"""How much memory a gradient needs, known before it is computed: shapes decide.

XLA reports what the compiled gradient takes. With snapshots that is linear in their number, so
that two compilations tell how many fit, and a third confirms it.
"""

from collections.abc import Callable
from functools import partial
from math import ceil
from typing import Any, final

import equinox as eqx
import jax
import numpy as np
from jaxtyping import PyTree

from impindiff._errors import InputError, NumericsError
from impindiff.integrate import AbstractStepper
from impindiff.rollout import KeepAll, MemoryBudget, MemoryPolicy, Snapshots, format_bytes
from impindiff.systems import System
from impindiff.train._batch import Batch
from impindiff.train._objective import Evaluation, make_objective

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
