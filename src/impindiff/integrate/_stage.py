r"""One implicit stage: the root of $R(u) = q(u) - q(u_0) - w F(u) - k$, from which steps are made.

$q$ is the storage, $u$ itself unless the system says otherwise. A field without storage, $q = 0$,
is algebraic: its row is $F(u) = 0$. Solved for is the increment $u - u_0$, in units that make the
norms of solvers sums over the domain's volume and fields comparable, see `_units`.
"""

from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import Any, NamedTuple, Protocol, runtime_checkable

import jax
import jax.numpy as jnp
import numpy as np

from impindiff._errors import InputError
from impindiff._types import (
    BalanceTendency,
    Dynamics,
    MeasuredDynamics,
    Scalar,
    State,
    StoredDynamics,
    Tendency,
)
from impindiff.implicit import (
    AbstractLinearSolver,
    AbstractPreconditioner,
    AbstractRootSolver,
    Affine,
    Automatic,
    Newton,
    Root,
    SolveContext,
    root_and_increment,
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
from impindiff.integrate._units import scaling_of

Preconditioning = Callable[[Any, Scalar, State], AbstractPreconditioner]

_AFFINE = Affine(Automatic())
_NEWTON = Newton(Automatic())


class Stage(NamedTuple):
    r"""The equation of a stage, $q(u) - q_0 - w F(u) - k = 0$, for the $u$ at its end.

    Attributes:
        tendency: $F$, and $q$ if it has one.
        weight: $w$.
        start: $u_0$, at the step's start; solved for is what is added to it.
        before: $q_0$, what was stored there; what it says of algebraic fields is not used.
        known: $k$, what other stages add; None for nothing. What it says of algebraic fields is not
            used.
        shares: volumes of the cells over their mean; None where all are equal.
    """

    tendency: Tendency
    weight: Scalar
    start: State
    before: State
    known: State | None
    shares: np.ndarray | None


@runtime_checkable
class GuardedDynamics(Dynamics, Protocol):
    """A system that can tell whether a derivative reaches all that it depends on."""

    def check_derivatives(self) -> None:
        """Raise InputError for what is being differentiated and none of its leaves."""
        ...


def solve_stage(
    stage: Stage,
    solver: AbstractRootSolver,
    preconditioner: AbstractPreconditioner | None,
    context: SolveContext | None,
) -> Root:
    """The state of a stage, and what it adds to that at the step's start.

    Args:
        stage: its equation.
        solver: finds the root.
        preconditioner: approximates the inverse of $q' - w F'$.
        context: what else is wanted of the solve.
    """
    tendency, context = stage.tendency, SolveContext() if context is None else context
    if not isinstance(tendency, WithIntegrals):
        return _solve(stage, solver, preconditioner, context)
    # Integrals are counted from the step's start: what they have come to is no matter of this step.
    before = {name: stage.start[name] for name in tendency.names}
    nothing = jax.tree.map(jnp.zeros_like, before)
    if preconditioner is not None:
        preconditioner = BesideIntegrals(preconditioner, tendency.names)
    if context.root is not None:
        growth = {name: context.root[name] - before[name] for name in before}
        context = replace(context, root=context.root | growth)
    stage = stage._replace(start=stage.start | nothing, before=stage.before | nothing)
    strict = stricter(solver, tendency.names, stage.start)
    found = _solve(stage, strict, preconditioner, context)
    grown = {name: before[name] + found.value[name] for name in before}
    return Root(found.value | grown, found.increment, as_asked(found.outcome, solver, grown))


def _solve(
    stage: Stage,
    solver: AbstractRootSolver,
    preconditioner: AbstractPreconditioner | None,
    context: SolveContext,
) -> Root:
    """The same of whatever is in the state."""
    tendency, weight, start, before, known, shares = stage
    if isinstance(tendency, BalanceTendency) and tendency.algebraic:
        at_rest = tendency.stored(start)
        before = before | {field: at_rest[field] for field in tendency.algebraic}
        if known is not None:
            nothing = {field: jnp.zeros_like(start[field]) for field in tendency.algebraic}
            known = known | nothing
    inputs = (tendency, weight, before, known)
    scaling = scaling_of(tendency, weight, start, partial(_residual, inputs=inputs), shares)
    return root_and_increment(
        _residual,
        start,
        inputs,
        solver,
        preconditioner=preconditioner,
        context=replace(context, scaling=scaling),
    )


def change_in_storage(tendency: Tendency, start: State, before: State, found: Root) -> State:
    r"""$q(u) - q_0$ of a stage that is solved.

    To as many digits as the increment has, where $q$ is linear in it.
    """
    if not isinstance(tendency, BalanceTendency):
        return found.increment
    change = jax.tree.map(jnp.subtract, tendency.stored(found.value), before)
    # What the sum of start and increment left out.
    lost = jax.tree.map(lambda d, u, u0: d - (u - u0), found.increment, found.value, start)
    _, missing = jax.jvp(tendency.stored, (found.value,), (jax.lax.stop_gradient(lost),))
    return axpy(change, 1, jax.lax.stop_gradient(missing))


def stored(tendency: Tendency, state: State) -> State:
    """$q(u)$."""
    return tendency.stored(state) if isinstance(tendency, BalanceTendency) else state


def stored_at(dynamics: Dynamics, time: Scalar, state: State) -> State:
    """$q(u)$ at a time; the system is not asked where it has no storage."""
    has_storage = isinstance(dynamics, StoredDynamics) and dynamics.has_storage
    return stored(tendency_at(dynamics, time, state), state) if has_storage else state


def choose_solver(solver: AbstractRootSolver | None, is_affine: bool) -> AbstractRootSolver:
    """The solver given, or one linear solve where that is exact, or Newton's method."""
    if solver is not None:
        return solver
    return _AFFINE if is_affine else _NEWTON


def check_given(solver: Any, preconditioner: Any) -> None:
    """Refuse what is no root solver, and what makes no preconditioner.

    Raises: InputError.
    """
    if isinstance(solver, AbstractLinearSolver):
        name = type(solver).__name__
        raise InputError(
            f"the stepper's solver is {name}, which solves linear systems: give it to one that "
            f"solves a step, Affine({name}()) or Newton({name}())."
        )
    if solver is not None and not isinstance(solver, AbstractRootSolver):
        raise InputError(
            f"the stepper's solver is {solver!r:.60}: give one such as Newton(), called, or leave "
            "it out."
        )
    if preconditioner is not None and not callable(preconditioner):
        raise InputError(
            f"the stepper's preconditioner is {preconditioner!r:.60}: give a function that makes "
            "one, such as fourier or multigrid()."
        )


def check_solver(solver: AbstractRootSolver | None, dynamics: Dynamics) -> None:
    """Refuse to solve a nonlinear step with one linear solve, or without all that it depends on.

    Raises: InputError.
    """
    if not dynamics.is_affine and isinstance(dynamics, GuardedDynamics):
        dynamics.check_derivatives()
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


def shares_of(dynamics: Dynamics) -> np.ndarray | None:
    """Volumes of the cells over their mean; None where all are equal, or nobody knows."""
    return dynamics.volume_shares if isinstance(dynamics, MeasuredDynamics) else None


# Module level on purpose: residuals may not capture traced arrays, so all that varies travels in
# `inputs`.
def _residual(unknown: State, inputs: tuple[Tendency, Scalar, State, State | None]) -> State:
    tendency, weight, before, known = inputs
    # In this order: what is stored changes little, and the difference is then exact.
    change = jax.tree.map(jnp.subtract, stored(tendency, unknown), before)
    left = axpy(change, -weight, tendency(unknown))
    return left if known is None else jax.tree.map(jnp.subtract, left, known)
