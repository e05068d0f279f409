r"""One implicit stage: the root of $R(u) = q(u) - q(u_0) - w F(u) - k$, from which steps are made.

$q$ is the storage, $u$ itself unless the system says otherwise. A field without storage, $q = 0$,
is algebraic: its row is $F(u) = 0$. Solved for is the increment $u - u_0$, in units that make the
norms of solvers sums over the domain's volume and fields comparable, see `_units`.
"""

from dataclasses import replace
from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from impindiff._types import AbstractTendency, Scalar, State
from impindiff.implicit import AbstractRootSolver, Root, SolveContext, root_and_increment
from impindiff.integrate._dynamics import AbstractDynamics
from impindiff.integrate._explicit import axpy
from impindiff.integrate._quadrature import FieldsInverse, tendency_at
from impindiff.integrate._units import scaling_of
from impindiff.linear import AbstractInverse

# Of a solver's own tolerance, where sums over all cells are to be right.
_TIGHTENED = 1e-4


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

    tendency: AbstractTendency
    weight: Scalar
    start: State
    before: State
    known: State | None
    shares: np.ndarray | None


def solve_stage(
    stage: Stage,
    solver: AbstractRootSolver,
    preconditioner: AbstractInverse | None,
    context: SolveContext,
) -> Root:
    """The state of a stage, and what it adds to that at the step's start.

    Args:
        stage: its equation.
        solver: finds the root.
        preconditioner: approximates the inverse of $q' - w F'$.
        context: what else is wanted of the solve.
    """
    names = stage.tendency.integrals
    if not names:
        return _solve(stage, solver, preconditioner, context)
    # Integrals are counted from the step's start: what they have come to is no matter of this step.
    before = {name: stage.start[name] for name in names}
    nothing = jax.tree.map(jnp.zeros_like, before)
    if preconditioner is not None:
        preconditioner = FieldsInverse(preconditioner, names)
    if context.inverse is not None:
        context = replace(context, inverse=FieldsInverse(context.inverse, names))
    if context.root is not None:
        growth = {name: context.root[name] - before[name] for name in before}
        context = replace(context, root=context.root | growth)
    stage = stage._replace(start=stage.start | nothing, before=stage.before | nothing)
    # Integrals are solved for last, and to more digits: see `impindiff.integrate._quadrature`.
    dtype = jnp.result_type(*stage.start.values())
    strict = solver.with_group(names).tightened(_TIGHTENED, dtype)
    found = _solve(stage, strict, preconditioner, context)
    grown = {name: before[name] + found.value[name] for name in before}
    return Root(found.value | grown, found.increment, solver.accepted(found.outcome))


def _solve(
    stage: Stage,
    solver: AbstractRootSolver,
    preconditioner: AbstractInverse | None,
    context: SolveContext,
) -> Root:
    """The same of whatever is in the state."""
    tendency, weight, start, before, known, shares = stage
    if tendency.algebraic:
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


def change_in_storage(
    tendency: AbstractTendency, start: State, before: State, found: Root
) -> State:
    r"""$q(u) - q_0$ of a stage that is solved.

    To as many digits as the increment has, where $q$ is linear in it.
    """
    if not tendency.has_storage:
        return found.increment
    change = jax.tree.map(jnp.subtract, tendency.stored(found.value), before)
    # What the sum of start and increment left out.
    lost = jax.tree.map(lambda d, u, u0: d - (u - u0), found.increment, found.value, start)
    _, missing = jax.jvp(tendency.stored, (found.value,), (jax.lax.stop_gradient(lost),))
    # Where a storage is infinitely steep, nothing is known of what rounding has left out.
    missing = jax.tree.map(lambda more: jnp.where(jnp.isfinite(more), more, 0), missing)
    return axpy(change, 1, jax.lax.stop_gradient(missing))


def stored_at(dynamics: AbstractDynamics, time: Scalar, state: State) -> State:
    """$q(u)$ at a time; the system is not asked where it has no storage."""
    return tendency_at(dynamics, time, state).stored(state) if dynamics.has_storage else state


# Module level on purpose: residuals may not capture traced arrays, so all that varies travels in
# `inputs`.
def _residual(
    unknown: State, inputs: tuple[AbstractTendency, Scalar, State, State | None]
) -> State:
    tendency, weight, before, known = inputs
    # In this order: what is stored changes little, and the difference is then exact.
    change = jax.tree.map(jnp.subtract, tendency.stored(unknown), before)
    left = axpy(change, -weight, tendency(unknown))
    return left if known is None else jax.tree.map(jnp.subtract, left, known)
