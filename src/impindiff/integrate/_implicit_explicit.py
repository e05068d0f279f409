r"""Implicit-explicit Runge-Kutta methods: what is stiff is solved for, the rest is only evaluated.

$\frac{d}{dt}\,q(u) = F^I(t, u) + F^E(t, u)$ with a table for each part, see
`impindiff.integrate._tableaux`. Where $F^I$ is affine a stage is one linear solve, whatever $F^E$.

The weights of the two ends are the same, but the last row of the explicit table is not: the last
stage is not yet the end. So totals change by what passes the ends of the domain, to round-off; and
where something else than the fields is stored, the end is solved for, from what it stores.
"""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any, ClassVar, final

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np

from impindiff._types import AbstractTendency, Scalar, State
from impindiff.implicit import AbstractRootSolver
from impindiff.integrate._diagonally_implicit import difference_of_ends, overall
from impindiff.integrate._dynamics import AbstractDynamics
from impindiff.integrate._explicit import axpy, combine, store_at
from impindiff.integrate._implicit import AbstractImplicitStepper, choose_solver, factorise
from impindiff.integrate._quadrature import (
    integral_rates,
    scaled_rates,
    split_integrals,
    split_unknowns,
    tendency_at,
)
from impindiff.integrate._stage import Stage, change_in_storage, solve_stage, stored_at
from impindiff.integrate._stepper import Step, StepContext
from impindiff.integrate._tableaux import (
    ARK3_TABLEAU,
    ARK4_TABLEAU,
    ARK5_TABLEAU,
    AdditiveTableau,
)
from impindiff.linear import AbstractInverse
from impindiff.precondition import AbstractPreconditioner, LinearisedStep


@final
class ImplicitExplicit(AbstractImplicitStepper):
    r"""An additive Runge-Kutta method: an L-stable one for $F^I$, an explicit one for $F^E$.

    $F^E$ are the terms with `is_explicit`, advection unless otherwise stated, with what they add to
    the fluxes through the ends of the domain; $F^I$ is the rest, and with it the whole equations of
    algebraic fields. Each stage is the root of $q(U) = q(u_0) + k + \gamma\Delta t\,F^I(t_0 + c
    \Delta t, U)$, where $k$ is what both parts have come to in the stages before.

    Stable as long as $\Delta t$ is below the limit of $F^E$ alone, see `stable_dt`.

    Args:
        tableau: the numbers of the method.
        solver: see `Theta`; by default one linear solve where $F^I$ is affine.
        preconditioner: see `Theta`, of $F^I$; the weight is $\gamma\Delta t$ in all stages.
        keep_preconditioner: see `Theta`; by default where $F^I$ is affine and nothing depends on
            time.

    Raises: InputError for a solver that is none, and an $F^I$ that is not affine under a solver for
        affine systems.
    Reference: C. A. Kennedy, M. H. Carpenter, Appl. Numer. Math. 44 (2003) 139.
    """

    tableau: AdditiveTableau = eqx.field(static=True)
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
        return self.tableau.implicit.gamma

    @property
    def error_order(self) -> int:
        """See `AbstractStepper.error_order`."""
        return self.tableau.implicit.order

    @property
    def nodes(self) -> tuple[float, ...]:
        """See `AbstractStepper.nodes`."""
        return tuple(self.tableau.implicit.nodes.tolist())

    @property
    def uses_rates_at_start(self) -> bool:
        """See `AbstractStepper.uses_rates_at_start`."""
        return True

    @property
    def stability_limit(self) -> float:
        """See `AbstractStepper.stability_limit`."""
        return self.tableau.explicit.stability_limit

    def solved_part(self, dynamics: AbstractDynamics) -> AbstractDynamics:
        """See `AbstractStepper.solved_part`."""
        return dynamics.implicit_part()

    def stepped_part(self, dynamics: AbstractDynamics) -> AbstractDynamics:
        """See `AbstractStepper.stepped_part`."""
        return ExplicitPart(dynamics, dynamics.implicit_part())

    def check(self, dynamics: AbstractDynamics) -> None:
        """See `AbstractImplicitStepper.check`."""
        super().check(self.solved_part(dynamics))

    def setup(
        self, dynamics: AbstractDynamics, time: Scalar, dt: Scalar, state: State
    ) -> AbstractInverse | None:
        """See `AbstractImplicitStepper.setup`."""
        return super().setup(self.solved_part(dynamics), time, dt, state)

    def linearised(
        self, dynamics: AbstractDynamics, time: Scalar, dt: Scalar, state: State
    ) -> LinearisedStep:
        """See `AbstractStepper.linearised`."""
        return super().linearised(self.solved_part(dynamics), time, dt, state)

    def advance(
        self,
        dynamics: AbstractDynamics,
        time: Scalar,
        dt: Scalar,
        state: State,
        setup: AbstractInverse | None = None,
        context: StepContext | None = None,
    ) -> Step:
        """See `AbstractStepper.advance`; kept are the states of all stages."""
        tableau = self.tableau.implicit
        weight = tableau.gamma * dt
        both = ExplicitPart(dynamics, self.solved_part(dynamics))
        part = both.implicit
        state, integrals = split_unknowns(part, state)
        context = StepContext() if context is None else context
        end = None if context.end is None else split_unknowns(part, context.end)[0]
        if setup is None:
            setup = self.inverse(part, time + dt, weight, state)
        solver = choose_solver(self.solver, part.is_affine)
        # All stages have the same weight, so that one factorisation serves them.
        inverse = None
        if context.stages is None:
            inverse = factorise(solver, part, time + dt, weight, state)
        before, shares = stored_at(part, time, state), dynamics.volume_shares

        dtype = jnp.result_type(*state.values())
        matrix, pushing = tableau.matrix, self.tableau.explicit.matrix
        # Of each stage $\Delta t\,F^I$ and $\Delta t\,F^E$; zero where they are not known yet.
        slots = jax.tree.map(lambda u: jnp.zeros((len(matrix), *u.shape), u.dtype), state)
        at_start = tendency_at(part, time, state)
        rates = store_at(slots, 0, scaled_rates(at_start, state, dt))
        pushes = store_at(slots, 0, both.scaled(time, state, dt))
        # Of the integrals that follow from solved stages, $r$ at the first of them.
        inflow = integral_rates(part, integrals, time, state)

        def stage(carry, of_stage):
            rates, pushes, start = carry
            number, row, pushing_row, at, root = of_stage
            known = axpy(combine(row, rates), 1, combine(pushing_row, pushes))
            # The first begins at the step's start, and each other where the one before has come to.
            wanted = replace(context.of_solve(root), start=start, inverse=inverse)
            tendency = tendency_at(part, at, state)
            found = solve_stage(
                Stage(tendency, weight, state, before, known, shares), solver, setup, wanted
            )
            # See `DiagonallyImplicit`: F is what was stored, over the time.
            stored = change_in_storage(tendency, state, before, found)
            rate = jax.tree.map(lambda q, k: (q - k) / tableau.gamma, stored, known)
            rates = store_at(rates, number, rate)
            pushes = store_at(pushes, number, both.scaled(at, found.value, dt))
            inflow = integral_rates(part, integrals, at, found.value)
            return (rates, pushes, found.increment), (found, inflow)

        of_stages = (
            jnp.arange(1, len(matrix)),
            jnp.asarray(np.tril(matrix, -1)[1:], dtype),
            jnp.asarray(pushing[1:], dtype),
            time + jnp.asarray(tableau.nodes[1:], dtype) * dt,
            context.stages,
        )
        nothing = jax.tree.map(jnp.zeros_like, state)
        (rates, pushes, increment), ((states, _, outcome), inflows) = jax.lax.scan(
            stage, (rates, pushes, nothing), of_stages
        )
        inflows = jax.tree.map(
            lambda one, others: dt * jnp.concatenate([one[None], others]), inflow, inflows
        )
        grown = combine(jnp.asarray(tableau.weights, dtype), inflows)
        outcome = overall(outcome)
        # What the end has gained over the last stage.
        more = combine(jnp.asarray(tableau.weights - pushing[-1], dtype), pushes)
        tendency = tendency_at(part, time + dt, state)
        last = jax.tree.map(lambda each: each[-1], states)
        if not dynamics.has_storage:
            last, increment = axpy(last, 1, more), axpy(increment, 1, more)
        elif part.is_affine:
            # The storage is a capacity in each cell, and none in algebraic fields.
            ones = jax.tree.map(jnp.ones_like, last)
            _, capacity = jax.jvp(tendency.stored, (last,), (ones,))
            more = jax.tree.map(_over, more, capacity)
            last, increment = axpy(last, 1, more), axpy(increment, 1, more)
        else:
            whole = jax.tree.map(jnp.add, rates, pushes)
            known = combine(jnp.asarray(tableau.weights, dtype), whole)
            ending = Stage(AtEnd(tendency), weight, state, before, known, shares)
            wanted = replace(context.of_solve(end), start=increment)
            inverse = self._inverse_at_end(part, time + dt, weight, state)
            found = solve_stage(ending, solver, inverse, wanted)
            last, increment = found.value, found.increment
            outcome = overall(jax.tree.map(lambda *each: jnp.stack(each), outcome, found.outcome))
        every = difference_of_ends(tableau, jax.tree.map(jnp.add, rates, pushes) | inflows)
        error = {field: each for field, each in every.items() if field not in at_start.algebraic}
        after = last | axpy(integrals, 1, grown)
        increment = jax.lax.stop_gradient(increment | grown)
        return Step(after, increment, outcome, states, error)

    def _inverse_at_end(
        self, part: AbstractDynamics, time: Scalar, weight: Scalar, state: State
    ) -> AbstractInverse | None:
        """An approximate inverse for the equations of the end, see `AtEnd`."""
        if self.preconditioner is None:
            return None
        fields, _ = split_integrals(part, state)
        return self.preconditioner.make(LinearisedStep(AtEnd(part.at(time)), weight, fields))


@final
class ExplicitPart(AbstractDynamics):
    """What an implicit part leaves of a system.

    Attributes:
        whole: the system.
        implicit: its part that is solved for.
    """

    whole: AbstractDynamics
    implicit: AbstractDynamics

    def at(self, time: Scalar) -> "Remainder":
        """See `AbstractDynamics.at`."""
        return Remainder(self.whole.at(time), self.implicit.at(time))

    def scaled(self, time: Scalar, state: State, factor: Scalar) -> State:
        """Its rates times a factor; none of integrals."""
        fields, integrals = split_integrals(self.whole, state)
        nothing = jax.tree.map(jnp.zeros_like, integrals)
        return scaled_rates(self.at(time), fields, factor) | nothing


@final
class Remainder(AbstractTendency):
    """What is left of a right-hand side without a part of it.

    As a difference it holds all that terms do together, at the ends of a domain above all.

    Attributes:
        whole: the right-hand side.
        part: of it.
    """

    whole: AbstractTendency
    part: AbstractTendency

    def __call__(self, state: State) -> State:
        """The rates of change."""
        return jax.tree.map(jnp.subtract, self.whole(state), self.part(state))


@final
class AtEnd(AbstractTendency):
    """The equations of algebraic fields alone; what the others store is known.

    Attributes:
        tendency: of all fields.
    """

    tendency: AbstractTendency

    has_storage: ClassVar[bool] = True

    def __call__(self, state: State) -> State:
        """The rates of change."""
        nothing = jax.tree.map(jnp.zeros_like, state)
        if not self.algebraic:
            return nothing
        rates = self.tendency(state)
        return nothing | {field: rates[field] for field in self.algebraic}

    def stored(self, state: State) -> State:
        """See `AbstractTendency`."""
        return self.tendency.stored(state)

    @property
    def algebraic(self) -> tuple[str, ...]:
        """See `AbstractTendency`."""
        return self.tendency.algebraic

    @property
    def integrals(self) -> tuple[str, ...]:
        """See `AbstractTendency`."""
        return self.tendency.integrals

    @property
    def scales(self) -> Mapping[str, float]:
        """See `AbstractTendency`."""
        return self.tendency.scales

    @property
    def grid(self) -> Any:
        """See `AbstractTendency`."""
        return self.tendency.grid

    @property
    def mode_kinds(self) -> Mapping[str, Any]:
        """See `AbstractTendency`."""
        return self.tendency.mode_kinds


def _over(change: Any, capacity: Any) -> Any:
    return jnp.where(capacity == 0, 0, change / jnp.where(capacity == 0, 1, capacity))


def ARK3(
    solver: AbstractRootSolver | None = None,
    preconditioner: AbstractPreconditioner | None = None,
    keep_preconditioner: bool | None = None,
) -> ImplicitExplicit:
    """Order three: three solves a step, and four evaluations of what is explicit.

    Args:
        solver: see `ImplicitExplicit`, as for all that follow.
        preconditioner: of the stages.
        keep_preconditioner: for all steps.

    Reference: C. A. Kennedy, M. H. Carpenter, Appl. Numer. Math. 44 (2003) 139: ARK3(2)4L[2]SA.
    """
    return ImplicitExplicit(ARK3_TABLEAU, solver, preconditioner, keep_preconditioner)


def ARK4(
    solver: AbstractRootSolver | None = None,
    preconditioner: AbstractPreconditioner | None = None,
    keep_preconditioner: bool | None = None,
) -> ImplicitExplicit:
    """Order four; the one to begin with. Five solves a step, and six evaluations.

    Args:
        solver: see `ImplicitExplicit`, as for all that follow.
        preconditioner: of the stages.
        keep_preconditioner: for all steps.

    Reference: C. A. Kennedy, M. H. Carpenter, Appl. Numer. Math. 44 (2003) 139: ARK4(3)6L[2]SA.
    """
    return ImplicitExplicit(ARK4_TABLEAU, solver, preconditioner, keep_preconditioner)


def ARK5(
    solver: AbstractRootSolver | None = None,
    preconditioner: AbstractPreconditioner | None = None,
    keep_preconditioner: bool | None = None,
) -> ImplicitExplicit:
    """Order five, for many digits: seven solves a step, and eight evaluations.

    Args:
        solver: see `ImplicitExplicit`, as for all that follow.
        preconditioner: of the stages.
        keep_preconditioner: for all steps.

    Reference: C. A. Kennedy, M. H. Carpenter, Appl. Numer. Math. 44 (2003) 139: ARK5(4)8L[2]SA.
    """
    return ImplicitExplicit(ARK5_TABLEAU, solver, preconditioner, keep_preconditioner)
