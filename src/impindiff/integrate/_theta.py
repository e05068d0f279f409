r"""The theta method: one implicit step as the root of a residual.

$R(u_1) = u_1 - \Delta t\,\theta F(t_1, u_1) - \bigl[u_0 + \Delta t (1 - \theta) F(t_0, u_0)\bigr]
= 0$. The bracket is evaluated once; the rest is the implicit layer's.
"""

from collections.abc import Callable
from typing import Any, final

import equinox as eqx
import jax
import jax.numpy as jnp

from impindiff._errors import InputError
from impindiff._types import Dynamics, Scalar, State, Tendency
from impindiff.implicit import (
    AbstractPreconditioner,
    AbstractRootSolver,
    Affine,
    Outcome,
    SolveContext,
    root,
)
from impindiff.integrate._explicit import axpy
from impindiff.integrate._stepper import AbstractStepper

Preconditioning = Callable[[Any, Scalar, State], AbstractPreconditioner]


@final
class Theta(AbstractStepper):
    r"""The implicit theta method.

    Args:
        theta: weight of the new time. 1 is backward Euler (order one, damps what it does not
            resolve), 1/2 Crank-Nicolson (order two, rings where $\Delta t$ is far beyond the
            explicit limit).
        solver: finds the root of the step's residual.
        preconditioner: makes, from a right-hand side, the weight $w = \theta\Delta t$ and a state
            to linearise at, an approximate inverse of $I - w\,\partial F/\partial u$; see
            `impindiff.terms.fourier`. None where a step needs few iterations as it is.
        keep_preconditioner: whether the one made for the first step serves all: it then costs next
            to nothing, but grows worse as the Jacobian changes. By default it is kept where that
            does not change: in affine systems with steady coefficients.

    Raises: ValueError for a theta outside [0.5, 1]; InputError for a system that is not affine
        under a solver for affine systems.
    Reference: Hairer & Wanner, Solving Ordinary Differential Equations II, section IV.3.
    """

    theta: float = eqx.field(static=True, default=0.5)
    solver: AbstractRootSolver = Affine()
    preconditioner: Preconditioning | None = eqx.field(static=True, default=None)
    keep_preconditioner: bool | None = eqx.field(static=True, default=None)

    def __check_init__(self) -> None:
        """Refuse schemes that are not A-stable."""
        if not 0.5 <= self.theta <= 1:
            raise ValueError(
                f"Theta(theta={self.theta}) is not A-stable: theta must lie in [0.5, 1]. "
                "Use 0.5 for Crank-Nicolson, 1.0 for backward Euler; for an explicit step use "
                "ForwardEuler."
            )

    def check(self, dynamics: Dynamics) -> None:
        """Refuse to solve a nonlinear step with one linear solve."""
        if isinstance(self.solver, Affine) and not dynamics.is_affine:
            raise InputError(
                "the system is not affine in its fields, but the stepper's solver takes each "
                "step as one linear "
                "solve. Use an explicit stepper (RungeKutta4), or a nonlinear root solver."
            )

    def setup(
        self, dynamics: Dynamics, time: Scalar, dt: Scalar, state: State
    ) -> AbstractPreconditioner | None:
        """The preconditioner, where one serves every step."""
        keep = self.keep_preconditioner
        if keep is None:
            keep = dynamics.is_steady and dynamics.is_affine
        if self.preconditioner is None or not keep:
            return None
        return self.preconditioner(dynamics.at(time + dt), self.theta * dt, state)

    def step(
        self,
        dynamics: Dynamics,
        time: Scalar,
        dt: Scalar,
        state: State,
        setup: AbstractPreconditioner | None = None,
        context: SolveContext | None = None,
    ) -> tuple[State, Outcome]:
        """See `AbstractStepper.step`."""
        known = state
        if self.theta < 1:
            # `checkpoint`: keep the state for the backward pass, not its product with every
            # coefficient.
            explicit = jax.checkpoint(lambda now, u, h: axpy(u, h, now(u)))
            known = explicit(dynamics.at(time), state, (1 - self.theta) * dt)
        tendency, weight = dynamics.at(time + dt), self.theta * dt
        if setup is None and self.preconditioner is not None:
            setup = self.preconditioner(tendency, weight, state)
        inputs = (tendency, weight, known)
        return root(_residual, state, inputs, self.solver, preconditioner=setup, context=context)


# Module level on purpose: the residual may not capture traced arrays, so all that varies travels
# in `inputs`.
def _residual(unknown: State, inputs: tuple[Tendency, Scalar, State]) -> State:
    tendency, weight, known = inputs
    return jax.tree.map(jnp.subtract, axpy(unknown, -weight, tendency(unknown)), known)


_BICGSTAB = Affine()


def BackwardEuler(
    solver: AbstractRootSolver = _BICGSTAB, preconditioner: Preconditioning | None = None
) -> Theta:
    """The theta method with theta 1."""
    return Theta(1.0, solver, preconditioner)


def CrankNicolson(
    solver: AbstractRootSolver = _BICGSTAB, preconditioner: Preconditioning | None = None
) -> Theta:
    """The theta method with theta 1/2."""
    return Theta(0.5, solver, preconditioner)
