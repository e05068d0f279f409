"""Many steps: from an initial state to the states at the times asked for."""

from collections.abc import Mapping
from functools import partial
from typing import Any, final

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jax.core import Tracer
from jaxtyping import Array, Float

from impindiff._errors import InputError, NumericsError, leak_errors
from impindiff._types import GivenState, Scalar, State, real_state, without_mask
from impindiff.integrate import (
    AbstractDynamics,
    AbstractStepper,
    AbstractSystem,
    StepContext,
    check_is_stepper,
)
from impindiff.rollout._failures import (
    OnFailure,
    StepOutcome,
    StepResult,
    check_on_failure,
    is_known,
    judge_step,
    nan_like,
    nan_unless,
)
from impindiff.rollout._initial_state import (
    begin_consistently,
    blame_coefficients,
    blame_start,
    check_coefficients,
    check_start,
    explain_range,
)
from impindiff.rollout._memory import KEEP_ALL, MemoryPolicy, Snapshots
from impindiff.rollout._solver_choice import prepare_for_any, resolve_stepper
from impindiff.rollout._stability import advise
from impindiff.rollout._sweep import Steps, carried, keep_all, keep_snapshots, nothing_lost
from impindiff.rollout._times import TimeGrid, start_clock


@final
class StepFailed(NumericsError):
    """A step whose solve failed, or that left the limits of a field.

    Attributes:
        message: what is said of it.
        step: the step's number, counted from 0.
        sample: position of the sample.
        result: why it failed.
        time_grid: the steps that it is one of.
        is_finite: whether it failed in spite of finite numbers.
    """

    def __init__(
        self, message: str, step: int, sample: int, result: StepResult, time_grid: TimeGrid
    ) -> None:
        self.message, self.step, self.sample = message, step, sample
        self.result, self.time_grid = result, time_grid
        self.is_finite = result != StepResult.NOT_FINITE
        # Who has the system can look himself: see `impindiff.rollout.cause_of`.
        look = (
            ""
            if self.is_finite
            else " `system.check(state, t)` names a function that is not finite."
        )
        super().__init__(message + look)

    def adding(self, more: str) -> "StepFailed":
        """The same, with something more to say."""
        message = f"{self.message} {more}" if more else self.message
        return StepFailed(message, self.step, self.sample, self.result, self.time_grid)


@final
class Trajectory(eqx.Module):
    """States at the saved times, and how every step on the way was solved.

    Attributes:
        states: for each field, an array with the saved times along a leading axis.
        outcome: of every step, along a leading axis (behind the samples' axis, if batched by
            `vmap`).
        lost: what rounding has left out of the state after the last step, field by field; None in
            double precision, where that is nothing to speak of.
    """

    states: State
    outcome: StepOutcome
    lost: State | None = None

    def check(self, time_grid: TimeGrid) -> None:
        """Raise NumericsError at the first step whose solve failed or that left a field's limits.

        Says which, where and how badly. So it does where a step that solves nothing has led to NaN
        or infinity. Not under `jit`: this is where outcomes become errors.
        """
        failed = np.asarray(self.outcome.result) > StepResult.ROUND_OFF
        if not failed.any():
            self._check_finite(time_grid)
            return

        def per_sample(values):
            return np.reshape(values, (-1, time_grid.num_steps))

        failed, result = per_sample(failed), per_sample(self.outcome.result)
        step = int(np.argmax(failed.any(axis=0)))
        sample = int(np.argmax(failed[:, step]))
        residual = per_sample(self.outcome.relative_residual)[sample, step]
        iterations = per_sample(self.outcome.iterations)[sample, step]
        time = time_grid.starts[step] + time_grid.lengths[step]
        reason = StepResult(int(result[sample, step]))
        if reason.is_of_the_state and self.outcome.violation:
            found = self.outcome.violation.message(sample * time_grid.num_steps + step)
            found += f" ({failed.sum()} of {failed.size} steps failed)"
        else:
            found = f"the solve ended with '{reason.label}' after {iterations} iterations at "
            found += f"relative residual {residual:.2g} ({failed.sum()} of {failed.size} solves "
            found += "failed)"
        raise StepFailed(
            f"step {step + 1} of {time_grid.num_steps} (to t = {time:.10g}), sample {sample}: "
            f"{found}: {reason.explanation}",
            step,
            sample,
            reason,
            time_grid,
        )

    def _check_finite(self, time_grid: TimeGrid) -> None:
        for field, values in self.states.items():
            if isinstance(values, Tracer) or np.isfinite(values).all():
                continue
            each = np.moveaxis(np.asarray(values), self.outcome.result.ndim - 1, 0)
            at = next(k for k, u in enumerate(each) if not np.isfinite(u).all())
            cell = np.argwhere(~np.isfinite(each[at]))[0]
            place = f" at {', '.join(map(str, cell))}" if cell.size else ""
            raise NumericsError(
                f"{field!r} is not finite{place} at t = {time_grid.saved[at]:.10g}, after steps of "
                f"{time_grid.lengths.max():g}: lower dt or use an implicit method, if states grew "
                "without end; else call system.check(state), which names a function that is not "
                "finite."
            )


def simulate(
    system: AbstractSystem,
    initial: GivenState,
    time_grid: TimeGrid,
    stepper: AbstractStepper,
    *,
    probe: Float[Array, " 4"] | None = None,
    rtol: Scalar | None = None,
    memory: MemoryPolicy = KEEP_ALL,
    on_failure: OnFailure = "raise",
    lost: State | None = None,
) -> Trajectory:
    """Advance a state through a time grid.

    Steady coefficients, learned ones included, are evaluated once, outside the loop over steps, and
    so is what the stepper sets up for them.
    The trajectory holds the states at `time_grid.saved` only: the initial state is among them where
    its time is the first of these, as in `TimeGrid.build(0.0, [0.0, 0.1], dt)`.
    Unbatched: for many samples `jax.vmap` over `initial`, and they share those evaluations.

    Args:
        system: the equations.
        initial: fields at the first step's start, by name, each of the grid's shape. Whole numbers
            take the precision of the other fields, or JAX's default one. Those of algebraic
            fields are a guess where the stepper begins with the rates at the start.
        time_grid: the steps, and where to save.
        stepper: advances one step.
        probe: `AdjointOutcome.probe()`; its gradient is the outcome of the adjoint solves.
        rtol: a looser tolerance than the solvers' own, forward and adjoint.
        memory: which states are kept for a gradient: `KeepAll()` or `Snapshots(count)`.
        on_failure: what is done where the solve of a step fails, or a step leaves a field's limits.
            "raise" raises. Inside `jit` and `vmap` nothing can be raised: there all states from
            the failed step on are NaN, which a caller cannot go on with by mistake, so are
            gradients, and `Trajectory.check` says why. "nan" does that everywhere. "keep" gives
            the states as the failed solve left them, for callers that look at
            `Trajectory.outcome` themselves.
        lost: `Trajectory.lost` of the rollout that this one continues. Without it, what each piece
            changes by less than a digit of the state would be lost between two of them.

    Raises: StepFailed, which is a NumericsError, at the first step that failed, see `on_failure`.
        InputError where the stepper cannot advance the system, the initial fields are not
        real, of one precision, and of the system's names and shapes, or known to be outside of its
        limits, a coefficient that is known to have the wrong sign (a negative diffusivity), a
        function of the time would see it rounded to more than a thousandth of a step,
        there are more snapshots than steps, or an argument is something else.
    """
    if not isinstance(memory, MemoryPolicy):
        raise InputError(
            f"memory is {memory!r}: a rollout takes KeepAll() or Snapshots(count). A budget in "
            "bytes is for training, which knows what a whole gradient takes."
        )
    check_kinds(system, initial, time_grid, stepper)
    check_on_failure(on_failure)
    initial = real_state(initial)
    types = {field: str(u.dtype) for field, u in initial.items()}
    dtype = jnp.result_type(*(types.values() or [bool]))
    if len(set(types.values())) != 1 or not jnp.issubdtype(dtype, jnp.floating):
        raise InputError(
            f"the initial fields have types {types}: there must be at least one, and all must "
            "be real and of one precision, float32 or float64."
        )
    dynamics, clock = start_clock(system.prepare(dtype), time_grid, dtype)
    stepper.check(dynamics)
    dynamics = check_coefficients(dynamics, time_grid)
    wrong = dynamics.ill_posed(initial) if time_grid.num_steps else None
    setup, start, begun = None, check_start(dynamics, initial), initial
    if time_grid.num_steps:
        mean = jnp.asarray(time_grid.lengths.mean(), dtype)
        with leak_errors("a function of the system"):
            stepper = _resolve(system, dynamics, initial, time_grid, stepper)
        with leak_errors("a function of the system"):
            initial = begin_consistently(dynamics, clock[0], initial, stepper, probe)
        setup = stepper.setup(dynamics, clock[0], mean, initial)
    learned, rest = eqx.partition((dynamics, probe), eqx.is_inexact_array)
    fixed, static = eqx.partition((rest, stepper, setup, rtol), eqx.is_array)

    def advance(learned, fixed, state, lost, step: Steps, roots=(None, None)):
        rest, stepper, setup, rtol = eqx.combine(fixed, static)
        dynamics, probe = eqx.combine(learned, rest)
        root, stages = roots
        context = StepContext(probe, step.number, rtol, root, stages)
        of_step = (dynamics, step.time, step.dt, state, setup, context)
        taken = stepper.advance(*of_step)
        after, lost = carried(state, taken, lost)
        end = step.time + step.dt
        outcome = judge_step(dynamics, after, end, step.dt, taken.outcome)
        if on_failure != "keep":
            after = nan_like(root, nan_unless(outcome.converged, after))
        return after, lost, outcome, taken.stages

    # Steps that end between saved times write to one slot more than is kept.
    num_slots = len(time_grid.saved) + 1
    saved = jax.tree.map(lambda u: jnp.zeros((num_slots, *u.shape), u.dtype), initial)
    if time_grid.saves_start:
        saved = jax.tree.map(lambda store, u: store.at[0].set(u), saved, initial)
    steps = Steps(
        jnp.arange(time_grid.num_steps),
        clock,
        jnp.asarray(time_grid.lengths, dtype),
        jnp.asarray(time_grid.slots),
    )
    sweep = keep_all
    if isinstance(memory, Snapshots) and time_grid.num_steps:
        if memory.count > time_grid.num_steps:
            raise InputError(
                f"{memory.count} snapshots of {time_grid.num_steps} steps: there must be from 1 to "
                f"{time_grid.num_steps}. KeepAll() keeps every step's."
            )
        sweep = partial(keep_snapshots, memory.count)
    if start is not None and on_failure != "keep":
        initial = nan_unless(~start.is_outside, initial)
    if wrong is not None and on_failure != "keep":
        initial = nan_unless(~wrong.is_outside, initial)
    with leak_errors("a function of the system"):
        lost = nothing_lost(initial) if lost is None else lost
        saved, lost, outcome = sweep(advance, learned, fixed, initial, lost, saved, steps)
    outcome = blame_start(outcome, start) if time_grid.num_steps else outcome
    outcome = blame_coefficients(outcome, wrong)
    trajectory = Trajectory(jax.tree.map(lambda store: store[:-1], saved), outcome, lost)
    if not is_known(outcome):
        return trajectory
    if on_failure == "raise":
        try:
            trajectory.check(time_grid)
        except StepFailed as error:
            raise error.adding(explain_range(begun)) from None
    if outcome.converged.all():  # of what a failed solve left there is nothing more to be said
        advise(dynamics, initial, trajectory.states, time_grid, stepper)
    return trajectory


def _resolve(
    system: AbstractSystem,
    dynamics: AbstractDynamics,
    initial: State,
    time_grid: TimeGrid,
    stepper: AbstractStepper,
) -> AbstractStepper:
    """The stepper with a solver, if it names none; the steps themselves may be traced."""
    first, lengths = time_grid.starts[0], time_grid.lengths
    if isinstance(lengths, Tracer) or isinstance(first, Tracer):
        return prepare_for_any(dynamics, stepper) if stepper.is_open else stepper
    return resolve_stepper(
        system,
        dynamics,
        initial,
        float(np.mean(lengths)),
        stepper,
        time=float(first),
        num_steps=time_grid.num_steps,
    )


def check_kinds(system: Any, initial: Any, time_grid: Any, stepper: Any) -> None:
    """Refuse what is another kind of thing altogether."""
    if not isinstance(system, AbstractSystem):
        raise InputError(
            f"the system is {system!r:.60}: give the equations, System(grid, {{'c': [terms]}})."
        )
    if not isinstance(initial, Mapping):
        raise InputError(
            f"the initial state is {type(initial).__name__}: give each field by its name, "
            "{'c': array}."
        )
    for name, value in initial.items():
        try:
            jnp.asarray(without_mask(value))
        except (TypeError, ValueError) as error:
            raise InputError(
                f"the field {name!r} is {value!r:.60}: it must be an array of real numbers."
            ) from error
    if not isinstance(time_grid, TimeGrid):
        raise InputError(
            f"the time grid is {time_grid!r:.80}: cut the time into steps, "
            "TimeGrid.build(start, times, dt)."
        )
    check_is_stepper(stepper)
