"""States that a rollout starts from: consistent with algebraic equations, and within bounds."""

from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
from jax.core import Tracer
from jaxtyping import Array, Float

from impindiff._errors import InputError
from impindiff._types import AbstractTendency, GivenState, Scalar, State, real_state
from impindiff.coefficients import Instant
from impindiff.implicit import AbstractRootSolver, root
from impindiff.integrate import (
    AbstractDynamics,
    AbstractStepper,
    AbstractSystem,
    BoundsViolation,
    choose_solver,
    split_integrals,
)
from impindiff.linear import Outcome
from impindiff.rollout._failures import StepOutcome, StepResult
from impindiff.rollout._times import TimeGrid, start_clock, start_clock_at

# Of a precision of so many bits, numbers far from 1 are met with in practice.
_COARSE_BITS = 32


def consistent(
    system: AbstractSystem,
    state: GivenState,
    time: Scalar | float = 0.0,
    solver: AbstractRootSolver | None = None,
) -> tuple[State, Outcome]:
    """The state with its algebraic fields solved for, the other fields as they are.

    What a rollout starts from where a field has no storage and the stepper begins with the
    right-hand side there, as Crank-Nicolson does: `simulate` solves for it by itself, see
    `begin_consistently`. Differentiable like any root.

    Args:
        system: with algebraic fields, `Field([...], storage=0)`.
        state: all fields; of the algebraic ones a guess.
        time: of the start.
        solver: finds the root; by default as `Theta` chooses it.

    Returns: the state, and the outcome of the solve.
    Raises: InputError for a system without algebraic fields.
    """
    state = real_state(state)
    dtype = jnp.result_type(*state.values())
    dynamics, now = start_clock_at(system.prepare(dtype), Instant.of(time, dtype))
    state, integrals = split_integrals(dynamics, state)
    tendency = dynamics.at(now)
    if not tendency.algebraic:
        raise InputError("the system has no algebraic fields: every start is consistent.")
    found, outcome = _solve_algebraic(tendency, state, choose_solver(solver, dynamics.is_affine))
    return found | integrals, outcome


def begin_consistently(
    dynamics: AbstractDynamics,
    now: Scalar,
    state: State,
    stepper: AbstractStepper,
    probe: Float[Array, " 4"] | None = None,
) -> State:
    """Where a rollout starts: algebraic fields satisfy their equations, if the stepper wants that.

    A start that does not costs Crank-Nicolson an order. What was given of these fields is a guess;
    it stays where the solve fails.

    Args:
        dynamics: the system, prepared.
        now: the start, as its times are counted.
        state: as it was given.
        stepper: takes the steps.
        probe: see `simulate`.
    """
    if not (stepper.uses_rates_at_start and dynamics.has_storage):
        return state
    unknown, integrals = split_integrals(dynamics, state)
    tendency = dynamics.at(now)
    if not tendency.algebraic:
        return state
    solver = choose_solver(None, dynamics.is_affine)
    found, outcome = _solve_algebraic(tendency, unknown, solver, probe)
    return integrals | {
        field: jnp.where(outcome.converged, found[field], value)
        if field in tendency.algebraic
        else value
        for field, value in unknown.items()
    }


def _solve_algebraic(
    tendency: AbstractTendency,
    state: State,
    solver: AbstractRootSolver,
    probe: Float[Array, " 4"] | None = None,
) -> tuple[State, Outcome]:
    """The state with its algebraic fields solved for."""
    guess = {field: state[field] for field in tendency.algebraic}
    others = {field: value for field, value in state.items() if field not in guess}
    stored = {field: tendency.stored(state)[field] for field in guess}
    inputs = tendency, others, stored
    found, outcome = root(_residual, guess, inputs, solver, probe=probe)
    return others | found, outcome


def _residual(unknown: State, inputs: tuple[AbstractTendency, State, State]) -> State:
    tendency, others, stored = inputs
    state = others | unknown
    rates, now = tendency(state), tendency.stored(state)
    # Nothing is stored but in solid cells, which nothing enters: there the guess stays.
    return {field: rates[field] - (now[field] - stored[field]) for field in unknown}


def check_start(dynamics: AbstractDynamics, state: State) -> BoundsViolation | None:
    """How the state that a rollout starts from violates bounds; None where there are none.

    Raises: InputError if it does, or holds a value that is not finite, and this is known, as it is
        not under `jit` and `vmap`.
    """
    _check_finite(state)
    violation = dynamics.bounds_violation(state)
    if violation is None or isinstance(violation.is_outside, Tracer):
        return violation
    violation.check()
    return None


def _check_finite(state: State) -> None:
    for field, values in state.items():
        if isinstance(values, Tracer):
            continue
        strange = ~np.isfinite(np.asarray(values))
        if strange.any():
            cell = tuple(int(k) for k in np.argwhere(strange)[0])
            where = f" in cell {cell}, of {strange.sum()} such cells the first" if cell else ""
            raise InputError(
                f"{field!r} is {float(values[cell])} at the start{where}: a rollout starts from "
                "finite values, in solid cells too. Where they were not measured, fill them in, or "
                "give the field initial values, Field(..., initial=...)."
            )


def blame_start(outcome: StepOutcome, start: BoundsViolation | None) -> StepOutcome:
    """The outcome of all steps, in which the first is to blame for where it started from."""
    if start is None or outcome.violation is None:
        return outcome

    def blamed(of_start, of_steps):
        first = jnp.where(start.is_outside, of_start, of_steps[0])
        return of_steps.at[0].set(first.astype(of_steps.dtype))

    result = blamed(StepResult.START_OUT_OF_BOUNDS, outcome.result)
    # Bounds of fields come first in either: those of derived quantities have numbers above.
    arrays = ("is_outside", "number", "cell", "value", "field_value")
    of_start = {
        name: blamed(getattr(start, name), getattr(outcome.violation, name)) for name in arrays
    }
    return replace(outcome, result=result, violation=replace(outcome.violation, **of_start))


def blame_coefficients(outcome: StepOutcome, wrong: BoundsViolation | None) -> StepOutcome:
    """The outcome of all steps, all of which fail where a steady coefficient has the wrong sign."""
    if wrong is None:
        return outcome
    result = jnp.where(wrong.is_outside, StepResult.ILL_POSED, outcome.result)
    of_steps = outcome.violation
    if of_steps is None:
        none = jax.tree.map(lambda u: jnp.broadcast_to(u, outcome.result.shape), wrong)
        return replace(outcome, result=result.astype(outcome.result.dtype), violation=none)
    both = BoundsViolation.first_of(wrong, of_steps)
    return replace(outcome, result=result.astype(outcome.result.dtype), violation=both)


def check_before(system: AbstractSystem, state: State, time_grid: TimeGrid) -> None:
    """Refuse what is known of a rollout here, and not in what is compiled.

    Args:
        system: the equations.
        state: that it starts from.
        time_grid: the steps.

    Raises: InputError for a start outside of bounds, and as `check_coefficients`.
    """
    dtype = jnp.result_type(*state.values())
    dynamics, _ = start_clock(system.prepare(dtype), time_grid, dtype)
    check_start(dynamics, state)
    check_coefficients(dynamics, time_grid)


def explain_range(state: State) -> str:
    """What is to be said of a failure where numbers come close to the range of their precision.

    Their squares lie beyond it, and compilers form such where functions are differentiated: of
    $(u / s)^2$ the slope becomes $2 u / s^2$. Empty where no field is so small, or so large.
    """
    for field, values in state.items():
        limits = jnp.finfo(values.dtype)
        if isinstance(values, Tracer) or limits.bits > _COARSE_BITS:
            continue
        size = float(np.nanmax(np.abs(np.asarray(values)), initial=0))
        if 0 < size < float(limits.tiny) ** 0.5 or float(limits.max) ** 0.5 < size < np.inf:
            return (
                f"The values of {field!r} are as {'small' if size < 1 else 'large'} as {size:.2g}, "
                f"and {values.dtype} holds numbers from {float(limits.tiny):.2g} to "
                f"{float(limits.max):.2g}, which leaves out their squares: write the problem in "
                "other units, or compute in double precision."
            )
    return ""


def check_coefficients(dynamics: AbstractDynamics, time_grid: TimeGrid) -> AbstractDynamics:
    """Refuse coefficients that are known already, and of the wrong sign where a step ends.

    Returns: the dynamics, see `AbstractDynamics.check_coefficients`.
    Raises: InputError.
    """
    elapsed, lengths = time_grid.elapsed, time_grid.lengths
    if isinstance(elapsed, Tracer) or isinstance(time_grid.origin, Tracer):
        elapsed, origin = np.zeros(0), np.zeros(3)
    else:
        ends = [] if isinstance(lengths, Tracer) else elapsed[-1:] + lengths[-1:]
        elapsed, origin = np.append(elapsed, ends), np.asarray(time_grid.origin)
    return dynamics.check_coefficients(elapsed, origin)
