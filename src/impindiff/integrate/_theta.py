r"""The theta method: one implicit step as the root of a residual.

$R(u_1) = q(u_1) - \Delta t\,\theta F(t_1, u_1) - \bigl[q(u_0) + \Delta t (1 - \theta) F(t_0,
u_0)\bigr] = 0$. The bracket is evaluated once; the rest is the implicit layer's.

The row of an algebraic field ($q = 0$) is $F(t_1, u_1) = 0$ and not the mean over the step: that
would hand on an error of the start with its sign reversed, for ever, since nothing damps it.
"""

from typing import final

import equinox as eqx
import jax
import jax.numpy as jnp

from impindiff._errors import InputError, as_number
from impindiff._types import Scalar, State
from impindiff.implicit import AbstractRootSolver
from impindiff.integrate._dynamics import AbstractDynamics
from impindiff.integrate._explicit import axpy
from impindiff.integrate._implicit import AbstractImplicitStepper, choose_solver
from impindiff.integrate._quadrature import (
    add_integrals,
    scaled_rates,
    split_unknowns,
    tendency_at,
)
from impindiff.integrate._stage import Stage, solve_stage, stored_at
from impindiff.integrate._stepper import Step, StepContext
from impindiff.linear import AbstractInverse
from impindiff.precondition import AbstractPreconditioner


@final
class Theta(AbstractImplicitStepper):
    r"""The implicit theta method.

    Args:
        theta: weight of the new time. 1 is backward Euler (order one, damps what it does not
            resolve), 1/2 Crank-Nicolson (order two, rings where $\Delta t$ is far beyond the
            explicit limit).
        solver: finds the root of the step's residual. By default one linear solve where the system
            is affine, and otherwise Newton's method, with a direct solver for few unknowns.
        preconditioner: makes an approximate inverse of $q' - w\,\partial F/\partial u$ with the
            weight $w = \theta\Delta t$, as `impindiff.preconditioners.Fourier()`. None where a step
            needs few iterations as it is.
        keep_preconditioner: whether the one made for the first step serves all: it then costs next
            to nothing, but grows worse as the Jacobian changes. By default it is kept where that
            does not change: in affine systems with steady coefficients.

    With algebraic fields, a theta below 1 wants a start that satisfies their equations: a rollout
    solves for it, see `impindiff.steppers.consistent`.
    Raises: InputError for a theta outside [0.5, 1], a solver that is none, and a system that is
        not affine under a solver for affine systems.
    Reference: Hairer & Wanner, Solving Ordinary Differential Equations II, section IV.3.
    """

    theta: float = eqx.field(static=True, default=0.5)
    solver: AbstractRootSolver | None = None
    preconditioner: AbstractPreconditioner | None = None
    keep_preconditioner: bool | None = eqx.field(static=True, default=None)

    def __check_init__(self) -> None:
        """Refuse schemes that are not A-stable."""
        if not 0.5 <= as_number(self.theta, "theta") <= 1:
            raise InputError(
                f"Theta(theta={self.theta}) is not A-stable: theta must lie in [0.5, 1]. "
                "Use 0.5 for Crank-Nicolson, 1.0 for backward Euler; for an explicit step use "
                "ForwardEuler."
            )

    @property
    def implicit_weight(self) -> float:
        """See `AbstractStepper.implicit_weight`."""
        return self.theta

    @property
    def uses_rates_at_start(self) -> bool:
        """See `AbstractStepper.uses_rates_at_start`."""
        return self.theta < 1

    @property
    def rings(self) -> bool:
        """See `AbstractStepper.rings`."""
        return self.theta < 1

    def advance(
        self,
        dynamics: AbstractDynamics,
        time: Scalar,
        dt: Scalar,
        state: State,
        setup: AbstractInverse | None = None,
        context: StepContext | None = None,
    ) -> Step:
        """See `AbstractStepper.advance`."""
        state, integrals = split_unknowns(dynamics, state)
        context = StepContext() if context is None else context
        end = None if context.end is None else split_unknowns(dynamics, context.end)[0]
        grown = jax.tree.map(jnp.zeros_like, integrals)
        known = None
        if self.theta < 1:
            now = tendency_at(dynamics, time, state)
            known = scaled_rates(now, state, (1 - self.theta) * dt)
            grown = add_integrals(dynamics, grown, (1 - self.theta) * dt, time, state)
        before = stored_at(dynamics, time, state)
        tendency, weight = tendency_at(dynamics, time + dt, state), self.theta * dt
        if setup is None:
            setup = self.inverse(dynamics, time + dt, weight, state)
        stage = Stage(tendency, weight, state, before, known, dynamics.volume_shares)
        solver = choose_solver(self.solver, dynamics.is_affine)
        found = solve_stage(stage, solver, setup, context.of_solve(end))
        grown = add_integrals(dynamics, grown, weight, time + dt, found.value)
        after = found.value | axpy(integrals, 1, grown)
        increment = jax.lax.stop_gradient(found.increment | grown)
        return Step(after, increment, found.outcome)


def BackwardEuler(
    solver: AbstractRootSolver | None = None, preconditioner: AbstractPreconditioner | None = None
) -> Theta:
    """The theta method with theta 1."""
    return Theta(1.0, solver, preconditioner)


def CrankNicolson(
    solver: AbstractRootSolver | None = None, preconditioner: AbstractPreconditioner | None = None
) -> Theta:
    """The theta method with theta 1/2."""
    return Theta(0.5, solver, preconditioner)
