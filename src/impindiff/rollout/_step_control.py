r"""Steps as long as their error allows: found while a rollout is done.

The estimate $e$ of a step's error is compared with what is allowed, in each field: `rtol` times
$S$, the field's scale or, where it has none, how far it ranges at the start and has moved since.
Adding a constant to a field changes nothing. Where `atol` is given, allowed is instead
`atol` + `rtol` $|u|$, as in solvers of ordinary differential equations. The steps follow a PI
controller (K. Gustafsson, ACM Trans. Math. Softw. 17 (1991) 533).

What is found is a `TimeGrid`: a rollout by these steps can be differentiated like any other, with
the steps held fixed.
"""

from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.core import Tracer

from impindiff._dates import as_seconds
from impindiff._errors import InputError, NumericsError, warn_caller
from impindiff._types import GivenState, State, real_state
from impindiff.integrate import (
    ESDIRK4,
    AbstractDynamics,
    AbstractStepper,
    AbstractSystem,
    tendency_at,
)
from impindiff.rollout._failures import StepOutcome, StepResult
from impindiff.rollout._initial_state import check_before, check_start
from impindiff.rollout._march import Begun, March, march
from impindiff.rollout._remember import remember
from impindiff.rollout._simulate import check_kinds
from impindiff.rollout._solver_choice import prepare_for_any
from impindiff.rollout._stability import find_stiffness
from impindiff.rollout._step_error import Allowed
from impindiff.rollout._times import TimeGrid, start_clock
from impindiff.rollout._tolerances import StepControl, check_is_control, describe_steps


class ControlledTrajectory(NamedTuple):
    """A rollout whose steps were found on the way.

    Attributes:
        states: at the saved times, for each field an array `(time, *shape)`.
        time_grid: the steps that were taken.
        outcome: of each of them.
        num_refused: how many more were tried and were too long.
        begun: what a rollout begins with that goes on from the last state.
        is_limited: whether an explicit method's stability decided on the steps, not their error.
    """

    states: State
    time_grid: TimeGrid
    outcome: StepOutcome
    num_refused: int
    begun: Begun | None = None
    is_limited: bool = False

    def message(self, control: StepControl) -> str:
        """How many steps there were, of what length, and how exact each is."""
        lengths, dtype = self.time_grid.lengths, jnp.result_type(*self.states.values())
        if not len(lengths):
            return "none"
        return describe_steps(len(lengths), lengths.min(), lengths.max(), control, dtype)


def simulate_controlled(
    system: AbstractSystem,
    initial: GivenState,
    times: Sequence[float] | np.ndarray,
    stepper: AbstractStepper | None = None,
    control: StepControl | None = None,
    *,
    start: float | None = None,
) -> ControlledTrajectory:
    """Advance a state by steps as long as their error allows, each of `times` the end of one.

    Not under `jit`, `vmap` or `grad`. For a gradient, `simulate` with the steps found here.

    Args:
        system: the equations.
        initial: see `simulate`.
        times: where to save, increasing.
        stepper: a method with an estimate of its error; ESDIRK4 by default.
        control: how exact the steps are to be.
        start: when the first step begins; by default at the first of `times`, of which there must
            then be two or more.

    Raises: InputError as `simulate`, for a single time without a start, for a stepper without an
        estimate, and where anything is traced; NumericsError where steps would become too short or
        too many: it names the field and the place that ask for them. Warns (RuntimeWarning) where
        the steps of an explicit method are limited by its stability and not by their errors.
    """
    times = np.atleast_1d(as_seconds(times))
    if start is None and times.size < 2:
        raise InputError(
            f"times holds {times.size} time(s), {times.tolist()}, and start is not given, so that "
            "there is nothing to advance: say start=0.0, or give the start as the first of times."
        )
    begin = float(times[0] if start is None else as_seconds(start))
    if any(isinstance(leaf, Tracer) for leaf in jax.tree.leaves((system, initial, stepper))):
        raise InputError(
            "the length of a step is decided by its error, which cannot be seen while it is traced "
            "by jit, vmap or grad: call simulate_controlled outside of these, and within them "
            "simulate(system, initial, found.time_grid, stepper)."
        )
    spans = spans_of(begin, times)
    stepper = ESDIRK4() if stepper is None else stepper
    check_kinds(system, initial, spans, stepper)
    state = real_state(initial)
    found = control_samples(system, _as_samples(state), spans, stepper, control or StepControl())
    return found._replace(states=_first_of(found.states))


# Compiled, so that a call for each of many fields does not take longer than the rollout of a few
# numbers.
_as_samples = jax.jit(lambda state: jax.tree.map(lambda u: u[None], state))
_first_of = jax.jit(lambda states: jax.tree.map(lambda u: u[0], states))


def spans_of(start: float, times: np.ndarray) -> TimeGrid:
    """A step from each saved time to the next."""
    last = times[-1] if times.size else start
    whole = float(last - start) if np.isfinite(last) else 1.0
    return TimeGrid.build(start, times, whole if whole > 0 else 1.0)


def control_samples(
    system: Any,
    initial: State,
    spans: TimeGrid,
    stepper: AbstractStepper,
    control: StepControl,
    sample_parameters: State | None = None,
    at_most: int | None = None,
    begun: Begun | None = None,
) -> ControlledTrajectory:
    """The same for many samples, which share their steps: the most exacting one decides.

    Args:
        system: the equations.
        initial: for each field an array `(sample, *grid)`.
        spans: a step from each saved time to the next.
        stepper: a method with an estimate of its error.
        control: how exact the steps are to be.
        sample_parameters: the sample parameters that the system misses, `(sample,)` each.
        at_most: so many steps, where these are fewer than the control allows.
        begun: what went before, where `initial` is not the start; see `ControlledTrajectory`.

    Raises: as `simulate_controlled`.
    """
    check_is_control(control)
    if stepper.error_order is None:
        raise InputError(
            f"{stepper.name} has no estimate of the error of a step: give dt, or a "
            "method that has one, such as ESDIRK4(), or Tsitouras5() where nothing is stiff."
        )
    dtype = jnp.result_type(*initial.values())
    sample_parameters = sample_parameters or {}
    first, given = _first_of((initial, sample_parameters))

    def look() -> tuple[AbstractDynamics | None, list[str]]:
        prepared, fields = _look(system, given, first, spans, stepper)
        return None if prepared is system else prepared, fields

    if sample_parameters:
        prepared, fields = look()
    else:
        shapes = tuple((field, u.shape) for field, u in first.items())
        looked_at = dtype, stepper, shapes, spans.starts.tobytes(), spans.saved.tobytes()
        prepared, fields = remember(system, looked_at, look)
    prepared = system if prepared is None else prepared
    check_start(prepared, first)
    if not spans.num_steps:
        return _at_start(initial, spans)
    # So many units of round-off that the clock and what comes of it tell the two sides apart.
    spacing = float(jnp.finfo(dtype).eps) * float(np.abs(spans.elapsed_saved).max())
    # Of dates, seconds since 1970, even double precision knows a few to a millionth only.
    margin = 4 * max(spacing, float(np.spacing(np.abs(spans.saved).max())))
    spans = spans.cut_at(np.asarray(control.breakpoints), margin)
    is_sliver = (spans.lengths < 3 * margin) & bool(control.breakpoints)
    absolute = {f: np.asarray(tol, dtype) for f, tol in control.absolute(fields).items()}
    # All at once: array by array it would take longer than a rollout of a few numbers.
    rtol, absolute, max_dt = jax.device_put(
        (np.asarray(control.relative(dtype), dtype), absolute, np.asarray(control.max_dt, dtype))
    )
    allowed = Allowed(rtol, absolute)
    if stepper.is_open:
        stepper = prepare_for_any(prepared, stepper)
    at_most = min(control.max_steps, at_most or control.max_steps)
    most = max_dt, jnp.asarray(at_most), control.max_steps
    is_begun = begun is not None
    if begun is None:
        begun = Begun.nothing(initial, jnp.asarray(spans.lengths.sum(), dtype))
    rollout = system, initial, sample_parameters, spans, stepper, allowed, *most, begun
    found = march(*rollout, is_sliver)
    taken = int(found.num_taken)
    advice = ""
    if stepper.stability_limit is not None:
        shared: Any = system.prepare_shared(dtype) if sample_parameters else prepared

        def dynamics_of(given: State) -> AbstractDynamics:
            return (shared.with_sample_parameters(given) if given else shared).prepare(dtype)

        reached = sample_parameters, found.state, _reached(found, spans)
        advice = find_stiffness(dynamics_of, *reached, np.asarray(found.lengths[:taken]), stepper)
    if int(found.span) < spans.num_steps:
        raise _failure(found, spans, fields, control, advice)
    if advice:
        warn_caller(advice)
    outcome, lengths, number = jax.device_get((found.outcome, found.lengths, found.spans))
    outcome = jax.device_put(jax.tree.map(lambda each: each[:taken].T, outcome))
    lengths, number = lengths[:taken], number[:taken]
    parts = _by_time(lengths, number, spans)
    to_start = [np.empty(0)] * spans.saves_start
    cut = partial(TimeGrid.from_lengths, spans.starts[0], spans.saved, to_start + parts)
    if (alone := cut()).coarse:
        # So short are they that functions saw the time rounded: refused as by `simulate`.
        dynamics, clock = start_clock(prepared, alone, dtype)
        tendency_at(dynamics, clock[0], first)(first)
    begun = Begun(
        first=found.first,
        lost=found.lost,
        moved=found.moved,
        dt=found.dt,
        error=found.error,
        elapsed=begun.elapsed + jnp.asarray(spans.lengths.sum(), dtype),
        whole=begun.whole,
    )
    time_grid = cut(like=spans) if is_begun else alone
    refused = int(found.num_refused)
    saved = _saved(found.saved)
    return ControlledTrajectory(saved, time_grid, outcome, refused, begun, bool(advice))


def _look(
    system: Any, given: State, first: State, spans: TimeGrid, stepper: AbstractStepper
) -> tuple[AbstractDynamics, list[str]]:
    """The prepared system of a sample, and the fields whose error is estimated.

    Raises: InputError for what can be known to be wrong before a step is taken.
    """
    dtype = jnp.result_type(*first.values())
    prepared = (system.with_sample_parameters(given) if given else system).prepare(dtype)
    stepper.check(prepared)
    check_before(prepared, first, spans)
    tendency = prepared.at(jnp.zeros((), dtype))
    # Where all fields follow from their equations, no step has an error, but a solve may fail.
    fields = [field for field in first if field not in tendency.algebraic] or list(first)
    return prepared, fields


@jax.jit
def _saved(states: State) -> State:
    """States that were saved, samples first, without the place where nothing is."""
    return {field: jnp.moveaxis(each[:-1], 0, 1) for field, each in states.items()}


def time_error(
    system: Any,
    initial: State,
    spans: TimeGrid,
    stepper: AbstractStepper,
    control: StepControl,
    sample_parameters: State | None = None,
) -> float:
    """About what the errors of all steps come to, relative to how far a field ranges.

    The largest difference, at the saved times, to the states that half the tolerance gives with
    none of the steps more than half the longest.

    Args:
        system: see `control_samples`, as for all that follows.
        initial: for each field an array `(sample, *grid)`.
        spans: a step from each saved time to the next.
        stepper: a method with an estimate of its error.
        control: how exact the steps are to be.
        sample_parameters: `(sample,)` each.

    Raises: as `simulate_controlled`.
    """
    given = system, initial, spans, stepper
    found = control_samples(*given, control, sample_parameters)
    if not found.time_grid.num_steps:
        return 0.0
    # Steps that only their own growth limits would be the same by any tolerance.
    longest = float(found.time_grid.lengths.max()) / 2
    finer = replace(control.tightened(0.5, jnp.result_type(*initial.values())), max_dt=longest)
    exact = control_samples(*given, finer, sample_parameters).states
    errors = [0.0]
    for field, states in exact.items():
        ends = [(float(u.min()), float(u.max())) for u in (initial[field], states)]
        spread = max(high for _, high in ends) - min(low for low, _ in ends)
        difference = float(jnp.abs(found.states[field] - states).max())
        errors.append(difference / spread if spread else 0.0)
    return max(errors)


def _by_time(lengths: np.ndarray, number: np.ndarray, spans: TimeGrid) -> list[np.ndarray]:
    """The lengths of the steps to each saved time, from the number of the span of each."""
    saves = np.flatnonzero(spans.slots < len(spans.saved))
    return np.split(lengths, np.searchsorted(number, saves[:-1], side="right"))


def _at_start(initial: State, spans: TimeGrid) -> ControlledTrajectory:
    """A rollout that is over where it begins."""
    none = jnp.zeros((len(next(iter(initial.values()))), 0))
    outcome = StepOutcome(none.astype(int), none.astype(int), none, none.astype(int))
    states = jax.tree.map(lambda u: u[:, None], initial)
    return ControlledTrajectory(states, spans, outcome, 0)


def _reached(last: March, spans: TimeGrid) -> float:
    """The time that a rollout has come to."""
    number, passed = int(last.span), float(last.passed[0]) + float(last.passed[1])
    return float(spans.starts[number] + passed if number < spans.num_steps else spans.saved[-1])


def _failure(
    last: March, spans: TimeGrid, fields: Sequence[str], control: StepControl, advice: str
) -> NumericsError:
    """What is said of a rollout that does not get through."""
    time, dt = _reached(last, spans), float(last.dt)
    errors = np.asarray(last.errors)
    worst = int(np.argmax(np.nan_to_num(errors, nan=np.inf)))
    sample, field = divmod(worst, errors.shape[1])
    results = [StepResult(int(each)) for each in np.ravel(last.result)]
    failed = [result for result in results if result > StepResult.ROUND_OFF]
    name = fields[field]
    shape = np.shape(last.state[name])[1:]
    cell = tuple(int(k) for k in np.unravel_index(int(last.places[sample, field]), shape))
    place = f" at cell {cell[0] if len(cell) == 1 else cell}" if cell else ""
    where = f"the error of {name!r}{place} (sample {sample})"
    if int(last.num_taken) >= control.max_steps:
        return NumericsError(
            f"after max_steps = {control.max_steps} steps t = {time:.10g} is reached, of "
            f"{spans.saved[-1]:.10g}; the last was {dt:.3g} long, and {where} decided on it. Raise "
            "StepControl(max_steps=...) or rtol, or look at what changes so fast there. " + advice
        )
    if failed:
        return NumericsError(
            f"at t = {time:.10g} steps as short as {dt:.3g} fail: {failed[0].explanation}"
        )
    if not np.isfinite(errors).all():
        return NumericsError(
            f"at t = {time:.10g} steps as short as {dt:.3g} lead to NaN or infinity in {name!r}"
            f"{place} (sample {sample}): look at its coefficients there. `system.check(state, t)` "
            "names a function that is not finite."
        )
    return NumericsError(
        f"at t = {time:.10g} {where} asks for steps shorter than {dt:.3g}, below the rounding of "
        "the time: name the times of jumps and kinks in StepControl(breakpoints=[...]), raise its "
        "rtol, give atol for a field that has no scale, or look at what grows without end there."
    )
