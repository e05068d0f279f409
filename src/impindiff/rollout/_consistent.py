"""Starts that satisfy the equations of algebraic fields."""

import jax.numpy as jnp

from impindiff._errors import InputError
from impindiff._types import BalanceTendency, GivenState, Scalar, State, real_state
from impindiff.coefficients import Instant
from impindiff.implicit import AbstractRootSolver, Outcome, root
from impindiff.integrate import apart, choose_solver
from impindiff.rollout._clock import clocked_at
from impindiff.rollout._open_choice import Preparable


def consistent(
    system: Preparable,
    state: GivenState,
    time: Scalar | float = 0.0,
    solver: AbstractRootSolver | None = None,
) -> tuple[State, Outcome]:
    """The state with its algebraic fields solved for, the other fields as they are.

    What `simulate` wants as a start where a field has no storage and the stepper begins from what
    the right-hand side is there, as Crank-Nicolson does. Differentiable like any root.

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
    dynamics, now = clocked_at(system.prepare(dtype), Instant.of(time, dtype))
    state, integrals = apart(dynamics, state)
    tendency = dynamics.at(now)
    if not isinstance(tendency, BalanceTendency) or not tendency.algebraic:
        raise InputError("the system has no algebraic fields: every start is consistent.")
    guess = {field: state[field] for field in tendency.algebraic}
    others = {field: value for field, value in state.items() if field not in guess}
    solver = choose_solver(solver, dynamics.is_affine)
    stored = {field: tendency.stored(state)[field] for field in guess}
    found, outcome = root(_residual, guess, (tendency, others, stored), solver)
    return others | found | integrals, outcome


def _residual(unknown: State, inputs: tuple[BalanceTendency, State, State]) -> State:
    tendency, others, stored = inputs
    state = others | unknown
    rates, now = tendency(state), tendency.stored(state)
    # Nothing is stored but in solid cells, which nothing enters: there the guess stays.
    return {field: rates[field] - (now[field] - stored[field]) for field in unknown}
