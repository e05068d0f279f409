"""Rollouts that go on where a step fails: it is taken in halves, and again, until it succeeds.

The steps are data of a rollout, so this is decided outside of what is compiled, from its outcome.
No gradient goes through it: a step is as long as its neighbours or it is not. Training does the
same by `impindiff.optimisers.Rescue`. Where no halving helps, the function that is to blame is
looked for.
"""

from collections.abc import Callable, Sequence
from typing import NamedTuple, final

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jax.core import Tracer

from impindiff._errors import InputError
from impindiff._types import GivenState, State, real_state
from impindiff.integrate import AbstractStepper, AbstractSystem
from impindiff.rollout._failures import StepResult
from impindiff.rollout._initial_state import check_before, explain_range
from impindiff.rollout._simulate import StepFailed, Trajectory, check_kinds, simulate
from impindiff.rollout._times import TimeGrid

MAX_HALVINGS = 3
# States that are held to look for the cause of a failure, at most [bytes].
_MOST_BYTES = 2**30

_YIELDING = [result for result in StepResult if result.yields_to_shorter_steps]
_OF_THE_STATE = [result for result in StepResult if result.is_of_the_state]
# Of more halved steps than these a note says how many there are.
_MOST_NAMED = 20


class HalvedStep(NamedTuple):
    """A step that was taken in parts, because it failed as a whole.

    Attributes:
        start: where it begins.
        end: where it ends.
        parts: how many equal ones: 2, 4, 8 ...
    """

    start: float
    end: float
    parts: int


@final
class RescuedTrajectory(NamedTuple):
    """A rollout that succeeded, and what it took.

    Attributes:
        trajectory: as `simulate` gives it.
        time_grid: the steps that were taken.
        halved: those of the steps asked for that were taken in parts.
    """

    trajectory: Trajectory
    time_grid: TimeGrid
    halved: tuple[HalvedStep, ...]


@eqx.filter_jit
def _run(
    system: AbstractSystem, initial: State, time_grid: TimeGrid, stepper: AbstractStepper
) -> Trajectory:
    return simulate(system, initial, time_grid, stepper, on_failure="keep")


def simulate_with_rescue(
    system: AbstractSystem,
    initial: GivenState,
    time_grid: TimeGrid,
    stepper: AbstractStepper,
    *,
    max_halvings: int = MAX_HALVINGS,
) -> RescuedTrajectory:
    """The same as `simulate`, with steps halved where they fail: for use as it is, underived.

    A step is halved where its solve fails for a reason that a shorter step may help, or where it
    leaves the limits of a field or ends at a negative diffusivity. The rollout is then done again.
    Not under `jit` or `vmap`.

    Args:
        system: see `simulate`, as for all but the last.
        initial: fields at the first step's start.
        time_grid: the steps.
        stepper: advances one step.
        max_halvings: how often one step may be halved.

    Raises: InputError as `simulate`, for a number of halvings that is negative or none, and where
        anything is traced; NumericsError where a step fails that halving does not help.
    """
    if isinstance(max_halvings, bool) or not isinstance(max_halvings, int) or max_halvings < 0:
        raise InputError(
            f"max_halvings is {max_halvings!r}: it must be a whole number, 0 for no halving."
        )
    check_kinds(system, initial, time_grid, stepper)
    if any(isinstance(leaf, Tracer) for leaf in jax.tree.leaves((system, initial, stepper))):
        raise InputError(
            "simulate_with_rescue looks at what became of the steps, so that it cannot be traced "
            "by jit, vmap or grad: call it outside of these, and use `simulate` within."
        )
    initial = real_state(initial)
    # Where it starts is known here, and not in what is compiled.
    check_before(system, initial, time_grid)

    def run(steps: TimeGrid) -> Trajectory:
        return _run(system, initial, steps, stepper)

    try:
        return rescue(run, time_grid, max_halvings=max_halvings)
    except StepFailed as error:
        raise error.adding(explain_range(initial)) from None


def rescue(
    run: Callable[[TimeGrid], Trajectory],
    time_grid: TimeGrid,
    max_halvings: int = MAX_HALVINGS,
) -> RescuedTrajectory:
    """Run with steps halved where they fail.

    Args:
        run: makes the trajectory, of one sample or of many, by these steps.
        time_grid: the steps.
        max_halvings: how often one step may be halved.

    Raises: StepFailed where a step fails that halving does not help.
    """
    halvings = np.zeros(time_grid.num_steps, int)
    while True:
        steps = time_grid.halved(halvings.tolist()) if halvings.any() else time_grid
        trajectory = run(steps)
        try:
            # Of states that nothing solved for, callers say more.
            Trajectory({}, trajectory.outcome).check(steps)
        except StepFailed as error:
            origin = np.repeat(np.arange(time_grid.num_steps), 2**halvings)
            result = np.asarray(trajectory.outcome.result).reshape(-1, steps.num_steps)
            failed = result > StepResult.ROUND_OFF
            first = np.argmax(failed, axis=1)[failed.any(axis=1)]
            to_blame = result[failed.any(axis=1), first]
            beyond_help = ~np.isin(to_blame, _YIELDING) | (halvings[origin[first]] >= max_halvings)
            if beyond_help.any():
                raise error.adding(_tried(time_grid, halvings)) from None
            where = np.unique(origin[own_failures(result).any(axis=0)])
            halvings[where] = np.minimum(halvings[where] + 1, max_halvings)
        else:
            return RescuedTrajectory(trajectory, steps, _halved(time_grid, halvings))


def own_failures(result: np.ndarray) -> np.ndarray:
    """Which steps failed in a way of their own that shorter ones may help.

    What only goes on from a state that is not allowed is no step's own failure.

    Args:
        result: `StepResult` of each step, `(sample, step)`.
    """
    later = np.cumsum(result > StepResult.ROUND_OFF, axis=1) > 1
    return np.isin(result, _YIELDING) & ~(later & np.isin(result, _OF_THE_STATE))


def describe_halvings(halved: Sequence[HalvedStep]) -> str:
    """Which steps were taken in parts, for people."""
    named = [f"t = {a:.10g} to {b:.10g} in {parts} parts" for a, b, parts in halved[:_MOST_NAMED]]
    more = len(halved) - len(named)
    return "; ".join([*named, f"and {more} more"] if more else named)


def _halved(time_grid: TimeGrid, halvings: np.ndarray) -> tuple[HalvedStep, ...]:
    return tuple(
        HalvedStep(
            float(time_grid.starts[step]),
            float(time_grid.starts[step] + time_grid.lengths[step]),
            int(2 ** halvings[step]),
        )
        for step in np.flatnonzero(halvings)
    )


def _tried(time_grid: TimeGrid, halvings: np.ndarray) -> str:
    halved = _halved(time_grid, halvings)
    return f"Halving steps did not help: {describe_halvings(halved)}." if halved else ""


def cause_of(
    system: AbstractSystem,
    initial: State,
    stepper: AbstractStepper,
    time_grid: TimeGrid,
    count: int,
) -> str:
    """The function that is not finite where a rollout fails, as a sentence; empty if none is found.

    The rollout is taken again, to the last state that is finite.

    Args:
        system: the equations.
        initial: of the sample that failed.
        stepper: advances one step.
        time_grid: the steps.
        count: how many of them, the one that failed included.
    """
    if count * sum(u.nbytes for u in initial.values()) > _MOST_BYTES:
        return ""
    starts, lengths = time_grid.starts[:count], time_grid.lengths[:count]
    given = starts, lengths, starts + lengths, np.arange(count), False
    steps = TimeGrid(*given, elapsed=time_grid.elapsed[:count], like=time_grid)
    after = jax.device_get(_run(system, initial, steps, stepper).states)
    # By step: what it starts from.
    states = {f: np.concatenate([np.asarray(u)[None], after[f][:-1]]) for f, u in initial.items()}
    is_finite = [all(np.isfinite(u[k]).all() for u in states.values()) for k in range(count)]
    last = count - 1 if all(is_finite) else max(int(np.argmin(is_finite)) - 1, 0)
    state = {field: jnp.asarray(u[last]) for field, u in states.items()}
    for time in (starts[last], starts[last] + lengths[last] / 2, starts[last] + lengths[last]):
        try:
            system.check(state, time)
        except InputError as error:
            return f"At t = {time:.10g}, {error}"
    return ""
