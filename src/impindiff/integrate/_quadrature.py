r"""Integrals over time, $\dot s = r(t, u)$: what no other field depends on.

A state without them costs nothing. In one that has them they go along with the fields: what a solve
leaves over would else be missing in their balance, since Newton's method conserves what is linear
in the unknowns, and only that. What its linear solves leave over is missing all the same, so these
states are solved for more digits. Preconditioners see the fields alone. Where a step is one linear
solve, $r$ need not be affine: there they follow from the solved stages.
"""

from collections.abc import Mapping
from dataclasses import replace
from typing import Self, final

import equinox as eqx
import jax
import jax.numpy as jnp

from impindiff._errors import InputError
from impindiff._types import (
    BalanceTendency,
    Dynamics,
    IntegratingDynamics,
    Scalar,
    State,
    Tendency,
)
from impindiff.implicit import (
    AbstractPreconditioner,
    AbstractRootSolver,
    BiCGStab,
    Newton,
    Outcome,
    Result,
    SolveContext,
    Staggered,
    tolerance_of,
)

# Of a solver's own tolerance, where sums over all cells are to be right; and no less than so many
# units of round-off, which could not be had.
_STRICTER = 1e-4
_ROUND_OFF_UNITS = 1e3


def apart(dynamics: Dynamics, state: State) -> tuple[State, State]:
    """The fields of a state, and its integrals."""
    names = dynamics.integrals if isinstance(dynamics, IntegratingDynamics) else ()
    integrals = {name: state[name] for name in names if name in state}
    return {field: u for field, u in state.items() if field not in integrals}, integrals


def solved_for(dynamics: Dynamics, state: State) -> tuple[State, State]:
    """What an implicit step solves for, and the integrals that follow from it."""
    return apart(dynamics, state) if dynamics.is_affine else (state, {})


def context_of(dynamics: Dynamics, context: SolveContext | None) -> SolveContext | None:
    """What is wanted of a solve, for what is solved for."""
    if context is None or context.root is None:
        return context
    return replace(context, root=solved_for(dynamics, context.root)[0])


def integrated(
    dynamics: Dynamics, integrals: State, weight: Scalar, time: Scalar, state: State
) -> State:
    r"""$s + w\,r(t, u)$.

    Args:
        dynamics: the system.
        integrals: $s$, of those that follow from a solved stage.
        weight: $w$.
        time: $t$.
        state: $u$, the fields.
    """
    if not integrals or not isinstance(dynamics, IntegratingDynamics):
        return integrals

    # `checkpoint`: the state is kept for the backward pass anyway, and is all that is needed.
    @jax.checkpoint
    def add(rates: Tendency, integrals: State, weight: Scalar, state: State) -> State:
        found = as_integrals(rates(state), integrals)
        return jax.tree.map(lambda s, r: s + weight * r, integrals, found)

    return add(dynamics.integrands(time, tuple(integrals)), integrals, weight, state)


def as_integrals(rates: State, integrals: State) -> State:
    """Rates in the shapes of what they are integrated to.

    Raises: InputError for an integral that is one number, or of another shape, and its rate is not.
    """
    for name, rate in rates.items():
        if rate.shape not in ((), integrals[name].shape):
            raise InputError(
                f"the integral {name!r} has the shape {integrals[name].shape}, its rate "
                f"{rate.shape}: let it begin with jnp.zeros({rate.shape})."
            )
    return {name: jnp.broadcast_to(rate, integrals[name].shape) for name, rate in rates.items()}


def tendency_at(dynamics: Dynamics, time: Scalar, state: State) -> Tendency:
    """The right-hand side of all that is in a state, its integrals included."""
    tendency, (_, integrals) = dynamics.at(time), apart(dynamics, state)
    if not integrals or not isinstance(dynamics, IntegratingDynamics):
        return tendency
    names = tuple(integrals)
    return WithIntegrals(tendency, dynamics.integrands(time, names), names)


@final
class WithIntegrals(eqx.Module):
    """A right-hand side with the rates of some integrals. A `BalanceTendency`.

    Attributes:
        fields: of the fields alone.
        integrands: the rates.
        names: of the integrals.
    """

    fields: Tendency
    integrands: Tendency
    names: tuple[str, ...] = eqx.field(static=True)

    def __call__(self, state: State) -> State:
        """The rates of change.

        Raises: InputError for integrals of another shape than their rates.
        """
        fields, integrals = self.parts(state)
        return self.fields(fields) | as_integrals(self.integrands(fields), integrals)

    def stored(self, state: State) -> State:
        """See `impindiff._types.BalanceTendency`; an integral stores itself."""
        fields, integrals = self.parts(state)
        if isinstance(self.fields, BalanceTendency):
            fields = self.fields.stored(fields)
        return fields | integrals

    def parts(self, state: State) -> tuple[State, State]:
        """Fields, and integrals."""
        fields = {field: u for field, u in state.items() if field not in self.names}
        return fields, {name: state[name] for name in self.names}

    @property
    def algebraic(self) -> tuple[str, ...]:
        """See `impindiff._types.BalanceTendency`."""
        return self.fields.algebraic if isinstance(self.fields, BalanceTendency) else ()

    @property
    def scales(self) -> Mapping[str, float]:
        """See `impindiff._types.BalanceTendency`."""
        return self.fields.scales if isinstance(self.fields, BalanceTendency) else {}


def stricter(solver: AbstractRootSolver, names: tuple[str, ...], like: State) -> AbstractRootSolver:
    """The solver of a stage that has integrals.

    Args:
        solver: of one without.
        names: of the integrals; solved for last where fields are solved for in turn.
        like: the unknown.
    """
    if isinstance(solver, Staggered):
        linear = solver.linear
        linear = (*linear, BiCGStab()) if isinstance(linear, tuple) else linear
        solver = replace(solver, groups=(*solver.groups, names), linear=linear)
    if not isinstance(solver, Newton | Staggered):
        return solver
    dtype = jnp.result_type(*like.values())
    least, rtol = _ROUND_OFF_UNITS * float(jnp.finfo(dtype).eps), tolerance_of(solver.rtol, dtype)
    return replace(solver, rtol=min(rtol, max(_STRICTER * rtol, least)))


def as_asked(outcome: Outcome, solver: AbstractRootSolver, like: State) -> Outcome:
    """The outcome of a `stricter` solve: it is good if it is as good as the solver is asked for."""
    if not isinstance(solver, Newton | Staggered):
        return outcome
    finished = outcome.result <= Result.STALLED
    rtol = tolerance_of(solver.rtol, jnp.result_type(*like.values()))
    enough = finished & (outcome.relative_residual <= rtol)
    return replace(outcome, result=jnp.where(enough, Result.CONVERGED, outcome.result))


@final
class BesideIntegrals(AbstractPreconditioner):
    """A preconditioner of the fields alone, in a solve that has integrals.

    Attributes:
        inner: of the fields.
        names: of the integrals.
    """

    inner: AbstractPreconditioner
    names: tuple[str, ...] = eqx.field(static=True)

    def apply(self, vector: State) -> State:
        """See `AbstractPreconditioner.apply`."""
        integrals = {name: vector[name] for name in self.names}
        return self.inner.apply({f: v for f, v in vector.items() if f not in integrals}) | integrals

    def transpose(self) -> Self:
        """That of the fields, beside the integrals."""
        return type(self)(self.inner.transpose(), self.names)
