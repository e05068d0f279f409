"""Forecasts: initial fields carried forward by a trained system, or by all of an ensemble."""

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import xarray as xr
from jaxtyping import Array, DTypeLike

from impindiff._dates import as_seconds
from impindiff._errors import InputError, NumericsError, numerics_errors, warn_caller
from impindiff._types import State
from impindiff.data import Start, has_dates, is_sample_parameter, with_dates
from impindiff.forecast._initial_condition import InitialCondition
from impindiff.forecast._ledger import ATTRIBUTE
from impindiff.integrate import AbstractStepper
from impindiff.rollout import (
    Choice,
    HalvedStep,
    StepControl,
    StepFailed,
    TimeGrid,
    Trajectory,
    advice_of,
    cause_of,
    check_before,
    control_samples,
    describe_halvings,
    explain_range,
    has_failed_solve,
    nothing_lost,
    rescue,
    select_for_samples,
    simulate,
    spans_of,
    stepper_for,
    vanishing,
)
from impindiff.systems import Ensemble, PreparedSystem, System, carriers, oscillating

# Of so many samples it is looked at whether their steps ring.
_FEW_SAMPLES = 4
# The times are held in memory, if not the states: beyond this it is the interval that is mistaken.
_MOST_TIMES = 10_000_000

HALVED = "halved_steps"
SOLVER = "solver"
STEPS = "steps"


@eqx.filter_jit
def _run(
    system: System,
    initial: State,
    stepper: AbstractStepper,
    time_grid: TimeGrid,
    sample_parameters: State,
    lost: State | None,
) -> Trajectory:
    run_one = partial(simulate, time_grid=time_grid, stepper=stepper, on_failure="keep")
    if not sample_parameters:
        return jax.vmap(lambda state, lost: run_one(system, state, lost=lost))(initial, lost)
    shared = system.prepare_shared(jnp.result_type(*initial.values()))

    def run(state: State, lost: State | None, given: State) -> Trajectory:
        return run_one(shared.with_sample_parameters(given), state, lost=lost)

    return jax.vmap(run)(initial, lost, sample_parameters)


class Carried(NamedTuple):
    """States at the saved times, `(sample, time, *grid)`, and what it took.

    Attributes:
        states: the fields.
        halved: the steps that were halved.
        choice: how the steps' systems were solved.
        lost: what rounding has left out of the last states, see `Trajectory`.
    """

    states: State
    halved: tuple[HalvedStep, ...]
    choice: Choice
    lost: State | None


def carry_forward(
    system: System,
    initial: State,
    stepper: AbstractStepper,
    time_grid: TimeGrid,
    sample_parameters: State | None = None,
) -> Mapping[str, Array]:
    """States of many samples at the saved times: for each field an array `(sample, time, *grid)`.

    Args:
        system: the equations.
        initial: for each field an array `(sample, *grid)`.
        stepper: advances one step.
        time_grid: the steps.
        sample_parameters: those that the system misses, `(sample,)` each.

    Raises: NumericsError as `carry`.
    """
    return carry(system, initial, stepper, time_grid, sample_parameters).states


def compile_forward(
    system: System,
    initial: State,
    stepper: AbstractStepper,
    time_grid: TimeGrid,
    sample_parameters: State | None = None,
) -> None:
    """Compile the program of `carry_forward`, which then finds it ready; of values nothing is used.

    May be called in a thread: most of the time is spent outside of Python.
    """
    stepper = select_for_samples(system, initial, time_grid, stepper, sample_parameters).stepper
    sample_parameters = sample_parameters or {}
    _run.lower(
        system, initial, stepper, time_grid, sample_parameters, nothing_lost(initial)
    ).compile()


def carry(
    system: System,
    initial: State,
    stepper: AbstractStepper,
    time_grid: TimeGrid,
    sample_parameters: State | None = None,
    lost: State | None = None,
    prepared: PreparedSystem | None = None,
) -> Carried:
    """The same, with what it took: steps that fail are halved for all samples, see `rescue`.

    Args:
        system: see `carry_forward`, as for all but the last two.
        initial: see there.
        stepper: see there.
        time_grid: see there.
        sample_parameters: see there.
        lost: of the piece of a forecast before this one, which this one goes on with.
        prepared: the system of the first sample, see `prepare_first`; made where it is None.

    Raises: NumericsError at the first step that failed and that halving did not help, or where a
        state is not finite; it names a function of the system that is not finite there.
    """
    sample_parameters = sample_parameters or {}
    lost = nothing_lost(initial) if lost is None else lost
    first = {field: values[0] for field, values in initial.items()}
    check_before(prepared or prepare_first(system, initial, sample_parameters), first, time_grid)
    chosen = select_for_samples(system, initial, time_grid, stepper, sample_parameters)
    stepper = chosen.stepper

    def cause(sample: int, step: int, steps: TimeGrid) -> str:
        state, given = jax.tree.map(lambda values: values[sample], (initial, sample_parameters))
        return cause_of(system.with_sample_parameters(given), state, stepper, steps, step + 1)

    def run(steps: TimeGrid) -> Trajectory:
        found = _run(system, initial, stepper, steps, sample_parameters, lost)
        if chosen.fallback is None or not has_failed_solve(found.outcome):
            return found
        # Before any step is halved: it may be what was chosen that does not fit any more.
        return _run(system, initial, chosen.fallback, steps, sample_parameters, lost)

    try:
        trajectory, time_grid, halved = rescue(run, time_grid)
    except StepFailed as error:
        if error.is_finite or not (found := cause(error.sample, error.step, error.time_grid)):
            raise error.adding(explain_range(initial)) from None
        raise NumericsError(f"{error.message} {found}") from None
    for field, values in trajectory.states.items():
        wild = np.argwhere(~np.isfinite(values))
        if wild.size:
            sample, at = wild[np.argmin(wild[:, 1]), :2]
            ends = np.flatnonzero(time_grid.slots == at)
            found = cause(int(sample), int(ends[0]), time_grid) if ends.size else ""
            raise NumericsError(
                f"{field!r} of sample {sample} is not finite at t = {time_grid.saved[at]:.10g}, "
                f"after steps of {time_grid.lengths.max():g}. "
                f"{found or 'Lower dt, or use an implicit time scheme.'}"
            )
    return Carried(trajectory.states, halved, chosen, trajectory.lost)


def prepare_first(system: System, initial: State, sample_parameters: State) -> PreparedSystem:
    """The system of the first sample, prepared: its coefficients are looked at before steps are."""
    given = {name: values[0] for name, values in sample_parameters.items()}
    return system.with_sample_parameters(given).prepare(jnp.result_type(*initial.values()))


def advise(
    system: System,
    initial: State,
    states: Mapping[str, Any],
    time_grid: TimeGrid,
    sample_parameters: State,
    stepper: AbstractStepper,
    before: Mapping[str, np.ndarray] | None = None,
    prepare: Callable[[], PreparedSystem] | None = None,
) -> bool:
    """Warn of the first sample whose forecast shows that something is amiss, `RuntimeWarning`.

    Args:
        system: the equations.
        initial: for each field an array `(sample, *grid)`.
        states: for each field an array `(sample, time, *grid)`.
        time_grid: the steps.
        sample_parameters: those that the system misses, `(sample,)` each.
        stepper: took them.
        before: for each field an array `(sample, values)` of what it has had in the pieces of the
            same forecast before this one.
        prepare: gives the system prepared for all samples, if it has been before; made where None.

    Returns: whether there was one.
    """
    if found := vanishing(initial, states):
        warn_caller(found[0])
        return True
    quiet = not (oscillating(system.equations) or carriers(system.equations))
    looks_at_all = not quiet or stepper.implicit_weight is None
    if not (looks_at_all or stepper.rings):
        return False
    dtype = jnp.result_type(*initial.values())
    shared = system.prepare_shared(dtype) if prepare is None else prepare()
    count = len(next(iter(initial.values())))
    some = np.unique(np.linspace(0, count - 1, min(count, _FEW_SAMPLES)).round().astype(int))
    for sample in range(count) if looks_at_all else some.tolist():
        one = jax.tree.map(
            lambda values, at=sample: values[at],
            (initial, dict(states), sample_parameters, dict(before or {})),
        )
        first, found, given, earlier = one
        if advice := advice_of(
            shared.with_sample_parameters(given), first, found, time_grid, stepper, earlier
        ):
            warn_caller(f"sample {sample}: {advice[0]}")
            return True
    return False


def halved_attrs(halved: Sequence[HalvedStep], before: str = "") -> dict[str, str]:
    """What a forecast says of halved steps, as attributes, after what was said of those before."""
    notes = "; ".join(filter(None, [before, describe_halvings(halved)]))
    return {HALVED: notes} if notes else {}


def solver_attrs(choice: Choice) -> dict[str, str]:
    """What a forecast says of how its steps were solved; nothing where the stepper named it."""
    return {} if choice.name == "given" else {SOLVER: choice.reason}


@numerics_errors()
def predict(
    system: System,
    dataset: xr.Dataset,
    *,
    times: Sequence[float] | np.ndarray,
    dt: float | None = None,
    start: Start | None = None,
    stepper: AbstractStepper | None = None,
    samples: str | Sequence[int] | None = None,
    dtype: DTypeLike | None = None,
    control: StepControl | None = None,
) -> xr.Dataset:
    """Forecast the samples of a dataset from one of its times on.

    All states are held in memory; see `forecast_to` for more of them than that. Without `dt` steps
    are as long as their error allows, see `impindiff.steppers.simulate_controlled`.

    Args:
        system: the equations, trained.
        dataset: holds the initial fields, and the sample parameters that the system misses.
        times: where to save; the initial time may be the first of them. Numbers, or dates where
            those of the data are dates: then `dt` is in seconds, and the forecast has dates.
        dt: longest step; every saved time is the end of one. Where None it follows the error.
        start: the initial time: "first" or "last" of the dataset's, or the time itself. By default
            the first. Where the system gives initial values, they hold at t = 0, or at the time
            that the dataset's attribute `begun` names, and elsewhere `start` must say when; it
            need not be one of the dataset's times if the system gives those of all fields.
        stepper: advances one step; Crank-Nicolson by default, and ESDIRK4 without `dt`.
        samples: which samples, such as "5:10"; all by default.
        dtype: precision of the computation and of the forecast; where None that of the data, as far
            as JAX computes in it (double precision needs `jax_enable_x64`).
        control: how exact steps without `dt` are to be.

    Returns: a dataset in the documented layout, with the learned coefficients beside the fields;
        its attribute `begun` is the time that it, or the forecast it goes on from, began at;
        `halved_steps` names the steps that failed as a whole and were halved, if any, `steps` says
        how many there were of what length where they follow their error, `solver` what
        was chosen where the stepper names none, and `balances` says as JSON how well the system's
        balances hold.
    Raises: InputError for a dataset of another layout or grid, starts outside of the fields'
        limits, times before the initial one, an initial time that is not known, and `control`
        beside `dt`; NumericsError where a step fails, in eighths too.
    """
    stepper = stepper_for(dt, stepper, control)
    begin = InitialCondition.of(system, dataset, start, samples, dtype)
    times = np.atleast_1d(as_seconds(times))
    begin.check_times(times)
    if dt is None:
        control = StepControl() if control is None else control
        given = (
            system,
            begin.state,
            spans_of(begin.time, times),
            stepper,
            control,
            begin.sample_parameters,
        )
        states, time_grid, *_ = found = control_samples(*given)
        notes = {STEPS: found.message(control)}
    else:
        time_grid = TimeGrid.build(begin.time, times, dt)
        states, halved, choice, _ = carry(
            system, begin.state, stepper, time_grid, begin.sample_parameters
        )
        notes = halved_attrs(halved) | solver_attrs(choice)
    advise(system, begin.state, states, time_grid, begin.sample_parameters, stepper)
    ledger = begin.ledger()
    ledger.add(time_grid.saved, {field: np.asarray(values) for field, values in states.items()})
    forecast = begin.dataset(time_grid.saved, states, notes | ledger.attributes)
    return with_dates(forecast) if has_dates(dataset) else forecast


def forecast_times(
    start: float, until: float, every: float, origin: float | None = None
) -> np.ndarray:
    """Times from `start` to `until`, both included, every so often and at the end.

    Args:
        start: the initial time.
        until: the last.
        every: the interval.
        origin: when the forecast began that goes on at `start`. The times after `start` are then,
            bit for bit, those of one forecast from there: an end between two of them, at which
            `start` was saved, shifts none.

    Raises: InputError for an end that is not after the start, or an interval that is not positive.
    """
    if not (np.isfinite(until) and until > start):
        raise InputError(
            f"the forecast must end after the initial time {start:.10g}, found until = "
            f"{until:.10g}."
        )
    if not (np.isfinite(every) and every > 0):
        raise InputError(
            f"the interval between saved times is {every:g}: it must be positive and finite."
        )
    if (until - start) / every > _MOST_TIMES:
        raise InputError(
            f"from {start:g} to {until:g} every {every:g} are more than {_MOST_TIMES:,} times: "
            "raise the interval."
        )
    origin = start if origin is None else origin
    first = int(np.floor((start - origin) / every))
    last = int(np.ceil((until - origin) / every)) + 1
    exact = origin + every * np.arange(first, last + 1)
    # To the digits that a number has for certain: 3 * 0.1 is 0.3, where a forecast may end and be
    # continued. Of seconds since 1970 these are too few for short intervals.
    short = np.array([float(f"{time:.15g}") for time in exact])
    times = np.where(np.abs(short - exact) <= 1e-6 * every, short, exact)
    slack = max(1e-6 * every, 4 * np.spacing(abs(until)))
    times = times[(times > start + slack) & (times <= until + slack)]
    if times.size and until - times[-1] <= slack:  # the same time, which others may write otherwise
        return np.append(start, times)
    return np.concatenate([[start], times, [until]])


def predict_ensemble(
    ensemble: Ensemble,
    dataset: xr.Dataset,
    *,
    times: Sequence[float] | np.ndarray,
    dt: float | None = None,
    start: Start | None = None,
    stepper: AbstractStepper | None = None,
    samples: str | Sequence[int] | None = None,
    dtype: DTypeLike | None = None,
    control: StepControl | None = None,
) -> xr.Dataset:
    """Forecast the samples of a dataset by every member, one after the other.

    The arguments are those of `predict`.

    Returns: a dataset in the documented layout: of each field and learned coefficient the mean over
        members, and as NAME_std their standard deviation.
    Raises: InputError as `predict` does; NumericsError where a step of a member fails, which is
        named by its seed.
    """
    forecasts = []
    for seed, member in zip(ensemble.seeds, ensemble.members, strict=True):
        try:
            forecast = predict(
                member,
                dataset,
                times=times,
                dt=dt,
                start=start,
                stepper=stepper,
                samples=samples,
                dtype=dtype,
                control=control,
            )
        except NumericsError as error:
            raise NumericsError(f"member of seed {seed}: {error}") from None
        forecasts.append(forecast)
    found = forecasts[0].copy()
    found.attrs.pop(ATTRIBUTE, None)  # of one member
    for of_one in (HALVED, STEPS):
        found.attrs.pop(of_one, None)
    notes = zip(ensemble.seeds, forecasts, strict=True)
    halved = [f"seed {seed}: {each.attrs[HALVED]}" for seed, each in notes if HALVED in each.attrs]
    if halved:
        found.attrs[HALVED] = "; ".join(halved)
    for name, variable in forecasts[0].data_vars.items():
        if is_sample_parameter(variable):
            continue
        values = np.stack([forecast[name].values for forecast in forecasts]).astype(np.float64)
        described = {**variable.attrs, "long_name": f"{variable.attrs['long_name']}, spread"}
        for suffix, over_members, attrs in (
            ("", values.mean(axis=0), variable.attrs),
            ("_std", values.std(axis=0, ddof=1), described),
        ):
            found[f"{name}{suffix}"] = (variable.dims, over_members.astype(variable.dtype), attrs)
    return found
