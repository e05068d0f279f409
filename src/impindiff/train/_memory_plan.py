"""How much memory a gradient needs, known before it is computed: shapes decide.

XLA reports what the compiled gradient takes. With snapshots that is linear in their number, so
that two compilations tell how many fit, and a third confirms it.
"""

from collections.abc import Callable

import equinox as eqx
import jax
from jaxtyping import PyTree

from impindiff._errors import InputError, NumericsError
from impindiff.integrate import AbstractStepper
from impindiff.rollout import KeepAll, MemoryBudget, MemoryPolicy, Snapshots, format_bytes
from impindiff.systems import System
from impindiff.train._objective import make_objective, time_grid_of
from impindiff.train._observations import Observations

# So many are needed for a slope; two might be laid out in some special way.
_FEW, _MORE = 2, 18


def gradient_bytes(
    learned: PyTree,
    frozen: System,
    observations: Observations,
    stepper: AbstractStepper,
    dt: float,
    memory: MemoryPolicy,
) -> int:
    """Arguments, results and temporaries of the compiled gradient [bytes]; compiles, runs nothing.

    Args:
        learned: the system's learned arrays.
        frozen: the system without them.
        observations: what is fitted.
        stepper: advances one step.
        dt: longest step.
        memory: which states are kept.
    """
    arrays, static = eqx.partition((learned, frozen, observations, stepper), eqx.is_array)

    def evaluate(arrays):
        learned, frozen, observations, stepper = eqx.combine(arrays, static)
        return make_objective(frozen, observations, stepper, dt, memory=memory)(learned)

    needed = jax.jit(evaluate).lower(arrays).compile().memory_analysis()
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


def choose_policy(
    learned: PyTree,
    frozen: System,
    observations: Observations,
    stepper: AbstractStepper,
    dt: float,
    memory: MemoryPolicy | MemoryBudget,
) -> MemoryPolicy:
    """The policy that a budget leaves, see `within_budget`; any other is returned as it is.

    Raises: InputError for more snapshots than steps, or a budget that is too small.
    """
    num_steps = time_grid_of(observations, dt).num_steps
    if isinstance(memory, Snapshots) and memory.count > num_steps:
        raise InputError(
            f"{memory.count} snapshots of {num_steps} steps of dt = {dt:g}: there must be from 1 "
            f"to {num_steps}."
        )
    if not isinstance(memory, MemoryBudget):
        return memory

    def needed(policy: MemoryPolicy) -> int:
        return gradient_bytes(learned, frozen, observations, stepper, dt, policy)

    policy, least = within_budget(needed, num_steps, memory.num_bytes)
    if least > memory.num_bytes:
        raise InputError(
            f"a memory budget of {format_bytes(memory.num_bytes)} is too small: with one snapshot, "
            f"the least, a gradient of {num_steps} steps needs {format_bytes(least)}. Give that "
            "much, or train on fewer samples."
        )
    return policy


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
