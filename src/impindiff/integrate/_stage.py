r"""One implicit stage: the root of $R(u) = q(u) - w F(u) - k$, from which steps are made.

$q$ is the storage, $u$ itself unless the system says otherwise. A field without storage, $q = 0$,
is algebraic: its row is $F(u) = 0$.

Where fields differ by orders of magnitude, norms would see the largest only. The root is then found
for $u / s$ with the fields' scales $s$, and each row in units of what changes by $s$ do to it.
"""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import jax
import jax.numpy as jnp

from impindiff._errors import InputError
from impindiff._types import (
    BalanceTendency,
    Dynamics,
    Scalar,
    State,
    StoredDynamics,
    Tendency,
)
from impindiff.implicit import (
    AbstractPreconditioner,
    AbstractRootSolver,
    Affine,
    Automatic,
    Newton,
    Outcome,
    Scaled,
    SolveContext,
    root,
)
from impindiff.integrate._explicit import axpy
from impindiff.integrate._quadrature import (
    BesideIntegrals,
    WithIntegrals,
    apart,
    as_asked,
    stricter,
    tendency_at,
)
from impindiff.integrate._units import over, rows_of, units_of

Preconditioning = Callable[[Any, Scalar, State], AbstractPreconditioner]

_AFFINE = Affine(Automatic(), Automatic(1e-5))
_NEWTON = Newton(Automatic(), Automatic(1e-5))


def solve_stage(
    tendency: Tendency,
    weight: Scalar,
    known: State,
    guess: State,
    solver: AbstractRootSolver,
    preconditioner: AbstractPreconditioner | None,
    context: SolveContext | None,
) -> tuple[State, Outcome]:
    """The state of a stage and the outcome of the solve.

    Args:
        tendency: $F$, and $q$ if it has one.
        weight: $w$.
        known: $k$; what it says of algebraic fields is not used.
        guess: where to start.
        solver: finds the root.
        preconditioner: approximates the inverse of $q' - w F'$.
        context: what else is wanted of the solve.
    """
    if not isinstance(tendency, WithIntegrals):
        return _solve(tendency, weight, known, guess, solver, preconditioner, context)
    # Solved for is by how much integrals grow: what they have come to is no scale for this step.
    before = {name: known[name] for name in tendency.names}
    nothing = jax.tree.map(jnp.zeros_like, before)
    if preconditioner is not None:
        preconditioner = BesideIntegrals(preconditioner, tendency.names)
    if context is not None and context.root is not None:
        growth = {name: context.root[name] - before[name] for name in before}
        context = replace(context, root=context.root | growth)
    strict = stricter(solver, tendency.names, guess)
    found, outcome = _solve(
        tendency, weight, known | nothing, guess | nothing, strict, preconditioner, context
    )
    grown = {name: before[name] + found[name] for name in before}
    return found | grown, as_asked(outcome, solver)


def _solve(
    tendency: Tendency,
    weight: Scalar,
    known: State,
    guess: State,
    solver: AbstractRootSolver,
    preconditioner: AbstractPreconditioner | None,
    context: SolveContext | None,
) -> tuple[State, Outcome]:
    """The same of whatever is in the state."""
    if not isinstance(tendency, BalanceTendency) or not (tendency.scales or tendency.algebraic):
        inputs = (tendency, weight, known)
        return root(
            _residual, guess, inputs, solver, preconditioner=preconditioner, context=context
        )
    at_rest = tendency.stored(guess)
    known = known | {field: at_rest[field] for field in tendency.algebraic}
    inputs = (tendency, weight, known)
    units = units_of(tendency.scales, guess)
    rows = jax.lax.stop_gradient(rows_of(tendency, weight, guess, units))
    if preconditioner is not None:
        preconditioner = Scaled(preconditioner, units, rows)
    if context is not None and context.root is not None:
        context = replace(context, root=over(context.root, units))
    found, outcome = root(
        _scaled_residual,
        over(guess, units),
        (inputs, units, rows),
        solver,
        preconditioner=preconditioner,
        context=context,
    )
    return jax.tree.map(jnp.multiply, found, units), outcome


def stored(tendency: Tendency, state: State) -> State:
    """$q(u)$."""
    return tendency.stored(state) if isinstance(tendency, BalanceTendency) else state


def stored_at(dynamics: Dynamics, time: Scalar, state: State) -> State:
    """$q(u)$ at a time; the system is not asked where it has no storage."""
    has_storage = isinstance(dynamics, StoredDynamics) and dynamics.has_storage
    return stored(tendency_at(dynamics, time, state), state) if has_storage else state


def choose_solver(
    solver: AbstractRootSolver | None, dynamics: Dynamics, state: State
) -> AbstractRootSolver:
    """The solver given, or one linear solve where that is exact, or Newton's method."""
    if solver is not None:
        return solver
    return _AFFINE if dynamics.is_affine else _NEWTON


def check_solver(solver: AbstractRootSolver | None, dynamics: Dynamics) -> None:
    """Refuse to solve a nonlinear step with one linear solve.

    Raises: InputError.
    """
    if isinstance(solver, Affine) and not dynamics.is_affine:
        raise InputError(
            "the system is not affine in its fields, but the stepper's solver takes each step as "
            "one linear solve. Leave the solver out, give a nonlinear one (Newton), or use an "
            "explicit stepper (RungeKutta4)."
        )


def set_up_once(
    preconditioning: Preconditioning | None,
    keep: bool | None,
    dynamics: Dynamics,
    time: Scalar,
    weight: Scalar,
    state: State,
) -> AbstractPreconditioner | None:
    """The preconditioner, where one serves every step.

    Args:
        preconditioning: makes it.
        keep: whether one is to serve; by default where the Jacobian does not change.
        dynamics: the system.
        time: at which it is linearised.
        weight: $w$.
        state: at which it is linearised.
    """
    if keep is None:
        keep = dynamics.is_steady and dynamics.is_affine
    return set_up(preconditioning, dynamics, time, weight, state) if keep else None


def set_up(
    preconditioning: Preconditioning | None,
    dynamics: Dynamics,
    time: Scalar,
    weight: Scalar,
    state: State,
) -> AbstractPreconditioner | None:
    """The preconditioner of a step, if there is to be one; see `set_up_once`."""
    if preconditioning is None:
        return None
    return preconditioning(dynamics.at(time), weight, apart(dynamics, state)[0])


# Module level on purpose: residuals may not capture traced arrays, so all that varies travels in
# `inputs`.
def _residual(unknown: State, inputs: tuple[Tendency, Scalar, State]) -> State:
    tendency, weight, known = inputs
    left = axpy(stored(tendency, unknown), -weight, tendency(unknown))
    return jax.tree.map(jnp.subtract, left, known)


def _scaled_residual(unknown: State, inputs: tuple[Any, State, State]) -> State:
    inner, units, rows = inputs
    return over(_residual(jax.tree.map(jnp.multiply, unknown, units), inner), rows)
