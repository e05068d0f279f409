r"""Diagonally implicit Runge-Kutta methods: one solve a stage, all with the same weight.

The methods are tables of numbers, see `impindiff.integrate._tableaux`. Their last stage is the
step's end, so that a field without storage satisfies its equation there, too.
"""

from collections.abc import Callable
from dataclasses import replace
from typing import Any, final

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jax.flatten_util import ravel_pytree
from jaxtyping import PyTree

from impindiff._types import Scalar, State
from impindiff.implicit import AbstractRootSolver
from impindiff.integrate._dynamics import AbstractDynamics
from impindiff.integrate._explicit import axpy, combine, store_at
from impindiff.integrate._implicit import AbstractImplicitStepper, choose_solver, factorise
from impindiff.integrate._quadrature import (
    integral_rates,
    scaled_rates,
    split_unknowns,
    tendency_at,
)
from impindiff.integrate._stage import Stage, change_in_storage, solve_stage, stored_at
from impindiff.integrate._stepper import Step, StepContext
from impindiff.integrate._tableaux import (
    ESDIRK3_TABLEAU,
    ESDIRK4_TABLEAU,
    ESDIRK5_TABLEAU,
    SDIRK2_TABLEAU,
    DiagonallyImplicitTableau,
)
from impindiff.linear import AbstractInverse, Outcome
from impindiff.precondition import AbstractPreconditioner

Pack = Callable[[Any], Any]

# Of so few numbers in many fields each field costs a kernel in each operation.
_FEW = 64


@final
class DiagonallyImplicit(AbstractImplicitStepper):
    r"""A diagonally implicit Runge-Kutta method, L-stable.

    Each stage is the root of $q(U) = q(u_0) + k + \gamma\Delta t\,F(t_0 + c \Delta t, U)$, where
    $k$ is what the stages before have come to.

    Args:
        tableau: the numbers of the method.
        solver: see `Theta`.
        preconditioner: see `Theta`; the weight is $\gamma\Delta t$ in all stages.
        keep_preconditioner: see `Theta`.

    Raises: InputError for a solver that is none, and a system that is not affine under a solver
        for affine systems.
    Reference: Hairer & Wanner, Solving Ordinary Differential Equations II, section IV.6.
    """

    tableau: DiagonallyImplicitTableau = eqx.field(static=True)
    solver: AbstractRootSolver | None = None
    preconditioner: AbstractPreconditioner | None = None
    keep_preconditioner: bool | None = eqx.field(static=True, default=None)

    @property
    def name(self) -> str:
        """See `AbstractStepper.name`."""
        return self.tableau.name

    @property
    def implicit_weight(self) -> float:
        """See `AbstractStepper.implicit_weight`."""
        return self.tableau.gamma

    @property
    def error_order(self) -> int | None:
        """See `AbstractStepper.error_order`."""
        return self.tableau.order if self.tableau.embedded else None

    @property
    def nodes(self) -> tuple[float, ...]:
        """See `AbstractStepper.nodes`."""
        return tuple(self.tableau.nodes.tolist())

    @property
    def uses_rates_at_start(self) -> bool:
        """See `AbstractStepper.uses_rates_at_start`."""
        return self.tableau.begins_explicitly

    def advance(
        self,
        dynamics: AbstractDynamics,
        time: Scalar,
        dt: Scalar,
        state: State,
        setup: AbstractInverse | None = None,
        context: StepContext | None = None,
    ) -> Step:
        """See `AbstractStepper.advance`; kept are the states of the stages before the last."""
        tableau = self.tableau
        weight = tableau.gamma * dt
        state, integrals = split_unknowns(dynamics, state)
        context = StepContext() if context is None else context
        end = None if context.end is None else split_unknowns(dynamics, context.end)[0]
        of_solve = context.of_solve(end)
        if setup is None:
            setup = self.inverse(dynamics, time + dt, weight, state)
        solver = choose_solver(self.solver, dynamics.is_affine)
        extrapolates = False
        if context.stages is None:
            # All stages have the same weight, so that one factorisation serves them.
            inverse = factorise(solver, dynamics, time + dt, weight, state)
            of_solve = replace(of_solve, inverse=inverse)
            # Rates are those of what is stored.
            extrapolates = inverse is not None and not dynamics.has_storage
        before, shares = stored_at(dynamics, time, state), dynamics.volume_shares
        roots = None
        if context.stages is not None:
            roots = jax.tree.map(
                lambda each, last: jnp.concatenate([each, last[None]]), context.stages, end
            )

        dtype = jnp.result_type(*state.values())
        matrix, first = tableau.matrix, int(tableau.begins_explicitly)
        num_stages = len(matrix)
        pack, unpack = _packing(state)
        # Of each stage $\Delta t\,F$; zero where it is not known yet.
        rates = jax.tree.map(lambda u: jnp.zeros((num_stages, *u.shape), u.dtype), pack(state))
        # Of the integrals that follow from solved stages, $r$ at the first of them.
        inflow: State | None = None
        algebraic: tuple[str, ...] = ()
        if tableau.begins_explicitly:
            at_start = tendency_at(dynamics, time, state)
            algebraic = at_start.algebraic
            rates = store_at(rates, 0, pack(scaled_rates(at_start, state, dt)))
            inflow = integral_rates(dynamics, integrals, time, state)

        def stage(carry, of_stage):
            rates, start = carry
            number, row, ahead, at, is_last, root = of_stage
            known = unpack(combine(row, rates))
            # The first begins at the step's start, and each other where the one before has come to,
            # or where the rates so far lead.
            if extrapolates:
                start = unpack(combine(ahead, rates))
            wanted = replace(of_solve, start=start)
            if root is not None:
                wanted = replace(wanted, root=root)
            elif end is not None:
                # It is that of the last stage.
                wanted = replace(wanted, is_known=is_last)
            tendency = tendency_at(dynamics, at, state)
            this = Stage(tendency, weight, state, before, known, shares)
            found = solve_stage(this, solver, setup, wanted)
            # F is what was stored, over the time: evaluated anew, it would multiply what the solve
            # left over by the fastest rate of the system.
            stored = change_in_storage(tendency, state, before, found)
            rate = jax.tree.map(lambda q, k: (q - k) / tableau.gamma, stored, known)
            inflow = integral_rates(dynamics, integrals, at, found.value)
            after = store_at(rates, number, pack(rate)), found.increment
            return after, (pack(found.value), found.outcome, inflow)

        # A loop over all, so that a solve and its adjoint are compiled once.
        of_stages = (
            jnp.arange(first, num_stages),
            jnp.asarray(np.tril(matrix, -1)[first:], dtype),
            jnp.asarray(tableau.extrapolation[first:], dtype),
            time + jnp.asarray(tableau.nodes[first:], dtype) * dt,
            jnp.arange(first, num_stages) == num_stages - 1,
            roots,
        )
        nothing = jax.tree.map(jnp.zeros_like, state)
        (rates, increment), (states, outcome, inflows) = jax.lax.scan(
            stage, (rates, nothing), of_stages
        )
        if inflow is not None:
            inflows = jax.tree.map(
                lambda one, others: jnp.concatenate([one[None], others]), inflow, inflows
            )
        inflows = jax.tree.map(lambda each: dt * each, inflows)
        weights = jnp.asarray(tableau.weights, dtype)
        grown = combine(weights, inflows)
        stages, last = (jax.tree.map(lambda each, k=k: each[k], states) for k in (slice(-1), -1))
        stages, last = jax.vmap(unpack)(stages), unpack(last)
        after = last | axpy(integrals, 1, grown)
        increment = jax.lax.stop_gradient(increment | grown)
        apart = difference_of_ends(tableau, (rates, inflows))
        error = None
        if apart is not None:
            every = unpack(apart[0]) | apart[1]
            error = {field: each for field, each in every.items() if field not in algebraic}
        return Step(after, increment, overall(outcome), stages, error)


def _packing(state: State) -> tuple[Pack, Pack]:
    """How few numbers of many fields are kept as one array, and the way back."""
    if len(state) == 1 or sum(u.size for u in state.values()) > _FEW:
        return (lambda state: state), (lambda state: state)
    return (lambda state: ravel_pytree(state)[0]), ravel_pytree(state)[1]


def SDIRK2(
    solver: AbstractRootSolver | None = None,
    preconditioner: AbstractPreconditioner | None = None,
    keep_preconditioner: bool | None = None,
) -> DiagonallyImplicit:
    r"""Alexander's method of order two: damps what it does not resolve, as backward Euler does.

    Twice the work of a Crank-Nicolson step, and no ringing at long steps.

    Args:
        solver: see `Theta`, as for all that follow.
        preconditioner: its weight is $\gamma\Delta t$ with $\gamma = 1 - 1/\sqrt 2$.
        keep_preconditioner: for all steps.

    Reference: R. Alexander, SIAM J. Numer. Anal. 14 (1977) 1006.
    """
    return DiagonallyImplicit(SDIRK2_TABLEAU, solver, preconditioner, keep_preconditioner)


def ESDIRK3(
    solver: AbstractRootSolver | None = None,
    preconditioner: AbstractPreconditioner | None = None,
    keep_preconditioner: bool | None = None,
) -> DiagonallyImplicit:
    """Order three, and two where stiff terms change in time.

    Three solves a step, after a first stage that is explicit.

    Args:
        solver: see `Theta`, as for all that follow.
        preconditioner: of the stages.
        keep_preconditioner: for all steps.

    Reference: C. A. Kennedy, M. H. Carpenter, Appl. Numer. Math. 44 (2003) 139:
    ARK3(2)4L[2]SA, its implicit half.
    """
    return DiagonallyImplicit(ESDIRK3_TABLEAU, solver, preconditioner, keep_preconditioner)


def ESDIRK4(
    solver: AbstractRootSolver | None = None,
    preconditioner: AbstractPreconditioner | None = None,
    keep_preconditioner: bool | None = None,
) -> DiagonallyImplicit:
    """Order four; the method to begin with where steps are to be exact.

    Five solves a step, after a first stage that is explicit.

    Args:
        solver: see `Theta`, as for all that follow.
        preconditioner: of the stages.
        keep_preconditioner: for all steps.

    Reference: C. A. Kennedy, M. H. Carpenter, Appl. Numer. Math. 44 (2003) 139:
    ARK4(3)6L[2]SA, its implicit half.
    """
    return DiagonallyImplicit(ESDIRK4_TABLEAU, solver, preconditioner, keep_preconditioner)


def ESDIRK5(
    solver: AbstractRootSolver | None = None,
    preconditioner: AbstractPreconditioner | None = None,
    keep_preconditioner: bool | None = None,
) -> DiagonallyImplicit:
    """Order five, for many digits.

    Seven solves a step, after a first stage that is explicit.

    Args:
        solver: see `Theta`, as for all that follow.
        preconditioner: of the stages.
        keep_preconditioner: for all steps.

    Reference: C. A. Kennedy, M. H. Carpenter, Appl. Numer. Math. 44 (2003) 139:
    ARK5(4)8L[2]SA, its implicit half.
    """
    return DiagonallyImplicit(ESDIRK5_TABLEAU, solver, preconditioner, keep_preconditioner)


def difference_of_ends(tableau: DiagonallyImplicitTableau, rates: PyTree) -> Any:
    r"""What the two ends of a step differ by; None of a method without another end.

    Args:
        tableau: the numbers of the method.
        rates: $\Delta t\,F$ of all stages along a leading axis.
    """
    if tableau.embedded is None:
        return None
    leaves = jax.tree.leaves(rates)
    unlike = jnp.asarray(tableau.weights - np.array(tableau.embedded), leaves[0].dtype)
    return combine(unlike, jax.lax.stop_gradient(rates))


def overall(outcome: Outcome) -> Outcome:
    """The outcome of several solves: the result of the first that failed, and all the work."""
    # Those after it begin from what it left, and would say that this is not finite.
    first = jnp.argmax(~outcome.converged, axis=0)[None]
    result = jnp.take_along_axis(outcome.result, first, axis=0)[0]
    return Outcome(
        jnp.where(outcome.converged.all(axis=0), outcome.result.max(axis=0), result),
        outcome.iterations.sum(axis=0),
        outcome.relative_residual.max(axis=0),
        outcome.steps.sum(axis=0),
    )
