r"""Steady states: $F(t, u) = 0$ at one time, with the derivative of the root.

What a steady state depends on are coefficients, conditions and sources. The guess decides which
one is found, where there are several, and has no derivative.
"""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any, cast, final

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jax.core import Tracer
from jaxtyping import Array, Float, Int

from impindiff._errors import InputError, NumericsError, leak_errors
from impindiff._types import GivenState, Scalar, State, real_state
from impindiff.coefficients import Instant, real_precision
from impindiff.implicit import AbstractRootSolver, SolveContext
from impindiff.integrate import (
    AbstractDynamics,
    AbstractSystem,
    QuasiSteady,
    find_steady,
    has_no_level,
    split_integrals,
    steady_tendency,
    undetermined,
)
from impindiff.precondition import AbstractPreconditioner
from impindiff.rollout._failures import (
    OnFailure,
    StepOutcome,
    StepResult,
    check_on_failure,
    is_known,
    judge_step,
    nan_unless,
)
from impindiff.rollout._initial_state import check_start, explain_range
from impindiff.rollout._solver_choice import prepare_for_any, resolve_stepper
from impindiff.rollout._times import start_clock_at

# Of a change of several fields, those with less than this share have no part in it.
_PART = 0.1

_NOUN = "steady state"
_UNIQUE = (
    "Give a condition that holds it, Dirichlet or Robin at one end at least; or a loss, such as "
    "Reaction(lambda {field}: -k * {field}); or let `simulate` run until nothing changes, where "
    "the start decides."
)
_ADVICE = {
    StepResult.OUT_OF_BOUNDS: "the equations lead there to a state that the system's limits "
    "exclude: give a guess on the other side, or widen Field(..., bounds=...).",
    StepResult.NEGATIVE_DIFFUSIVITY: "the equations have a root there that no process has, with a "
    "negative diffusivity, transfer or capacity: give a guess nearer to the solution, or the "
    "field's range as Field(..., bounds=...).",
    StepResult.SINGULAR: "the Jacobian is singular, or nearly so: look for an unknown that no "
    "equation determines, or give another guess.",
    StepResult.NOT_FINITE: "a rate is NaN or infinite: `system.check(guess)` names a function "
    "that is not finite.",
    StepResult.MAX_STEPS: "give a guess nearer to the solution, more steps of pseudo-time "
    "(max_steps), or a solver; equations without a steady state end like this, too.",
    StepResult.STALLED: "give a guess nearer to the solution, or compute in float64; equations "
    "without a steady state end like this, too.",
}


@final
class SteadyState(eqx.Module):
    """A steady state, and how it was found.

    Attributes:
        state: the fields.
        outcome: of all solves together; the residual is relative to that at the guess.
        pseudo_steps: steps of pseudo-time that were tried where Newton's method alone failed.
    """

    state: State
    outcome: StepOutcome
    pseudo_steps: Int[Array, "..."]

    def check(self) -> None:
        """Raise NumericsError where no steady state was found. Not under `jit`.

        Of many (leading axes, from `vmap`) for the first.
        """
        result = np.ravel(self.outcome.result)
        failed = result > StepResult.ROUND_OFF
        if not failed.any():
            return
        at = int(np.argmax(failed))
        reason = StepResult(int(result[at]))
        residual, iterations, pseudo = (
            np.ravel(values)[at]
            for values in (
                self.outcome.relative_residual,
                self.outcome.iterations,
                self.pseudo_steps,
            )
        )
        many = failed.size > 1
        which = f" of sample {at} ({failed.sum()} of {failed.size} failed)" if many else ""
        violation = self.outcome.violation
        found = f"the solve ended with '{reason.label}' after {iterations} linear iterations"
        if pseudo:
            found += f" and {pseudo} steps of pseudo-time"
        found += f" at relative residual {residual:.2g}"
        if violation is not None and np.ravel(violation.is_outside)[at]:
            found += f"; {violation.message(at)}"
        advice = _ADVICE.get(reason, reason.explanation)
        raise NumericsError(f"no steady state{which} was found: {found}: {advice}")


def steady(
    system: AbstractSystem,
    guess: GivenState | None = None,
    *,
    time: Any = 0.0,
    solver: AbstractRootSolver | None = None,
    preconditioner: AbstractPreconditioner | None = None,
    max_steps: int = 100,
    probe: Float[Array, " 4"] | None = None,
    rtol: Scalar | None = None,
    on_failure: OnFailure = "raise",
) -> SteadyState:
    r"""The state at which no field changes, $F(t, u) = 0$.

    Affine systems take one linear solve. Others take Newton's method from the guess and, where that
    fails or leaves the bounds of a field, backward Euler steps that grow, after which it is tried
    again. Whether small disturbances of the state die out in time is not looked at: a root may be
    unstable.

    Differentiable in all that the system holds, by one linear solve with the transposed Jacobian.
    Unbatched: for many samples `jax.vmap`, over `system.with_sample_parameters` above all.

    Args:
        system: the equations.
        guess: fields by name, each of the grid's shape; its precision is that of the result. By
            default the system's initial values and, for fields without, the uniform values at
            which the rates are smallest.
        time: at which coefficients are taken that vary in time.
        solver: finds roots; by default one linear solve where the system is affine, and otherwise
            Newton's method, with a linear solver and a preconditioner that are chosen.
        preconditioner: of the Jacobian.
        max_steps: most steps of pseudo-time; 0 for Newton's method alone.
        probe: `AdjointOutcome.probe()`; its gradient is the outcome of the adjoint solve.
        rtol: a looser tolerance than the solver's own, forward and adjoint.
        on_failure: what is done where no steady state is found. "raise" raises; inside `jit` and
            `vmap`, where nothing can be raised, and by "nan" everywhere, all fields are NaN and
            `SteadyState.check` says why. "keep" gives the last state.

    Raises: NumericsError where no steady state is found, see `on_failure`. InputError for a system
        whose steady state is not unique, since nothing holds the level of a field; a guess of other
        fields or shapes, outside of bounds, or missing where a system has no grid and no initial
        values; a solver for affine systems where the system is not; and a coefficient of the wrong
        sign.
    """
    check_on_failure(on_failure)
    if not isinstance(system, AbstractSystem):
        raise InputError(
            f"the system is {system!r:.60}: give the equations, System(grid, {{'c': [terms]}})."
        )
    stepper = QuasiSteady(solver, preconditioner, max_steps)
    given = None if guess is None else _given(guess)
    dtype = real_precision() if given is None else jnp.result_type(*given.values())
    instant = Instant.of(time, dtype)
    dynamics, now = start_clock_at(system.prepare(dtype), instant)
    dynamics = _with_signs_checked(dynamics, instant)
    stepper.check(dynamics)
    with leak_errors("a function of the system"):
        given = _first_guess(dynamics, now) if given is None else given
        state, _ = split_integrals(dynamics, given)
        check_start(dynamics, state)
        stepper = _resolve(system, dynamics, instant, state, stepper)
        found = _find(dynamics, now, state, stepper, SolveContext(probe, None, rtol, noun=_NOUN))
    good, last = found.outcome.converged, found.state
    if on_failure != "keep":
        found = eqx.tree_at(lambda f: f.state, found, nan_unless(good, last))
    if on_failure == "raise" and is_known(found.outcome) and not good:
        _refuse_free(dynamics, now, last)
        try:
            found.check()
        except NumericsError as error:
            raise NumericsError(f"{error} {explain_range(state)}".strip()) from None
    return found


# Compiled as a whole: operation by operation would take several times as long.
@eqx.filter_jit
def _find(
    dynamics: AbstractDynamics,
    now: Scalar,
    state: State,
    stepper: QuasiSteady,
    context: SolveContext,
) -> SteadyState:
    """The steady state, judged as the end of a step is."""
    solving = stepper.solver, stepper.preconditioner, context, stepper.max_steps
    (value, _, outcome), pseudo_steps = find_steady(dynamics, now, state, *solving)
    judged = judge_step(dynamics, value, now, jnp.full_like(now, jnp.inf), outcome)
    result = judged.result
    for violation, reason in (
        (dynamics.bounds_violation(state), StepResult.START_OUT_OF_BOUNDS),
        (dynamics.ill_posed(state), StepResult.ILL_POSED),
    ):
        if violation is not None:
            result = jnp.where(violation.is_outside, reason, result)
    judged = replace(judged, result=result.astype(judged.result.dtype))
    return SteadyState(value, judged, pseudo_steps)


def _resolve(
    system: AbstractSystem,
    dynamics: AbstractDynamics,
    instant: Instant,
    state: State,
    stepper: QuasiSteady,
) -> QuasiSteady:
    """The stepper with a solver, if it names none."""
    if isinstance(instant.number, Tracer):
        found = prepare_for_any(dynamics, stepper) if stepper.is_open else stepper
    else:
        time = float(instant.number)
        found = resolve_stepper(system, dynamics, state, 1.0, stepper, time=time, num_steps=1)
    return cast(QuasiSteady, found)


def _given(guess: GivenState) -> State:
    """The guess as real arrays of one precision.

    Raises: InputError.
    """
    if not isinstance(guess, Mapping) or not guess:
        raise InputError(
            f"the guess is {guess!r:.60}: give each field by its name, {{'c': array}}, or leave it "
            "out."
        )
    try:
        found = real_state(guess)
    except (TypeError, ValueError) as error:
        raise InputError(f"the guess holds no arrays of real numbers ({error}).") from error
    types = {field: str(u.dtype) for field, u in found.items()}
    if len(set(types.values())) != 1 or not all("float" in name for name in types.values()):
        raise InputError(
            f"the fields of the guess have types {types}: all must be real and of one precision, "
            "float32 or float64."
        )
    return found


def _with_signs_checked(dynamics: AbstractDynamics, instant: Instant) -> AbstractDynamics:
    """The same, after a look at coefficients of the wrong sign that are known by now."""
    origin = np.zeros(3) if instant.origin is None else instant.origin
    if isinstance(instant.elapsed, Tracer) or isinstance(origin, Tracer):
        return dynamics.check_coefficients(np.zeros(0), np.zeros(3))
    elapsed = np.atleast_1d(np.asarray(instant.elapsed, np.float64))
    return dynamics.check_coefficients(elapsed, np.asarray(origin))


def uniform_guess(system: AbstractSystem) -> State:
    """Where `steady` looks for a steady state if nobody says where.

    Raises: InputError as `steady`.
    """
    dtype = real_precision()
    return _first_guess(*start_clock_at(system.prepare(dtype), Instant.of(0.0, dtype)))


def _first_guess(dynamics: AbstractDynamics, now: Scalar) -> State:
    """Initial values, and for other fields the uniform values with the smallest rates.

    Of an affine system that is where the least is to be solved for, whatever its offset.
    """
    found = _uniform(dynamics, now)
    if not found:
        raise InputError(
            "a guess is needed: fields without a grid may have any shape, so give each by its "
            "name, steady(system, {'c': 0.0}), or initial values, Field(..., initial=0.0)."
        )
    return found


@eqx.filter_jit
def _uniform(dynamics: AbstractDynamics, now: Scalar) -> State:
    """Values for `_first_guess`; empty where the system cannot say how many there are."""
    start, moved = dynamics.first_guess(now)
    if not moved:
        return start
    start = jax.lax.stop_gradient(start)
    scaled = steady_tendency(dynamics.at(now), start)

    def flat(rates: State) -> Array:
        return jnp.concatenate([rates[field].ravel() for field in start])

    def slope(field: str) -> Array:
        still = {name: jnp.zeros_like(value) for name, value in start.items()}
        change = still | {field: jnp.ones_like(start[field])}
        return flat(jax.jvp(scaled, (start,), (change,))[1])

    slopes = jnp.stack([slope(field) for field in moved], axis=1)
    slopes, rates = jax.lax.stop_gradient((slopes, flat(scaled(start))))
    shifts = jnp.linalg.lstsq(slopes, -rates)[0]
    shifts = jnp.where(jnp.isfinite(shifts).all(), shifts, 0)
    found = start | {field: start[field] + shifts[k] for k, field in enumerate(moved)}
    outside = dynamics.bounds_violation(found)
    if outside is None:
        return found
    return jax.tree.map(lambda new, old: jnp.where(outside.is_outside, old, new), found, start)


def _refuse_free(dynamics: AbstractDynamics, now: Scalar, state: State) -> None:
    """Refuse a system of which no equation holds the level of a field, as far as that is known.

    Raises: InputError, with the fields.
    """
    found = undetermined(dynamics.at(now), state, dynamics.volume_shares)
    least, weights = jax.lax.stop_gradient(found)
    if isinstance(least, Tracer) or isinstance(weights, Tracer) or not has_no_level(least):
        return
    share = np.asarray(weights)
    fields = [f for f, s in zip(state, share, strict=True) if s >= _PART * share.max()]
    names = " and ".join(map(repr, fields))
    raise InputError(
        f"the steady state is not unique, or there is none: nothing holds the level of {names}. "
        "Either a constant added everywhere changes no rate, or what is there in total never "
        f"changes. {_UNIQUE.format(field=fields[0])}"
    )
