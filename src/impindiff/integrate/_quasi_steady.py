r"""A stepper that steps to the steady state: for processes that are always in balance.

At each step's end $F(t_1, u_1) = 0$, whatever the storage: coefficients, sources and conditions may
change in time, and the fields follow at once. So data of steady states are fitted, too.
"""

from typing import final

import equinox as eqx
import jax
import jax.numpy as jnp

from impindiff._errors import InputError, as_count
from impindiff._types import Scalar, State
from impindiff.implicit import AbstractRootSolver
from impindiff.integrate._dynamics import AbstractDynamics
from impindiff.integrate._explicit import axpy
from impindiff.integrate._implicit import AbstractImplicitStepper
from impindiff.integrate._quadrature import add_integrals, split_integrals
from impindiff.integrate._steady import find_steady, steady_tendency
from impindiff.integrate._stepper import Step, StepContext
from impindiff.linear import AbstractInverse
from impindiff.precondition import AbstractPreconditioner, LinearisedStep


@final
class QuasiSteady(AbstractImplicitStepper):
    r"""Steps to $F(t_1, u_1) = 0$, from whatever the state is at the start.

    That is a guess: it decides which steady state is found, where there are several, and has no
    derivative. Integrals over time are of order one, by the rates at the end.

    Args:
        solver: finds the root, as that of `Theta`.
        preconditioner: of the Jacobian.
        max_steps: most steps of pseudo-time where Newton's method alone fails; 0 for none.

    Raises: InputError for a solver that is none, a number of steps that is negative, and a system
        that is not affine under a solver for affine systems.
    """

    solver: AbstractRootSolver | None = None
    preconditioner: AbstractPreconditioner | None = None
    max_steps: int = eqx.field(static=True, default=100)

    def __check_init__(self) -> None:
        """Refuse less than no step."""
        if as_count(self.max_steps, "max_steps") < 0:
            raise InputError(
                f"max_steps is {self.max_steps}: it must not be negative; 0 for Newton's method "
                "alone."
            )

    @property
    def keep_preconditioner(self) -> bool:
        """See `AbstractImplicitStepper.keep_preconditioner`: each step makes its own."""
        return False

    @property
    def implicit_weight(self) -> float:
        """See `AbstractStepper.implicit_weight`; a step has no storage to weigh against."""
        return 1.0

    @property
    def ends_in_balance(self) -> bool:
        """See `AbstractStepper.ends_in_balance`."""
        return True

    def linearised(
        self, dynamics: AbstractDynamics, time: Scalar, dt: Scalar, state: State
    ) -> LinearisedStep:
        """See `AbstractStepper.linearised`."""
        fields, _ = split_integrals(dynamics, state)
        steady = steady_tendency(dynamics.at(time), jax.lax.stop_gradient(fields))
        return LinearisedStep(steady, jnp.ones_like(dt), fields)

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
        fields, integrals = split_integrals(dynamics, state)
        context = StepContext() if context is None else context
        end = None if context.end is None else split_integrals(dynamics, context.end)[0]
        solving = (self.solver, self.preconditioner, context.of_solve(end), self.max_steps)
        found = find_steady(dynamics, time + dt, fields, *solving).root
        grown = jax.tree.map(jnp.zeros_like, integrals)
        grown = add_integrals(dynamics, grown, dt, time + dt, found.value)
        after = found.value | axpy(integrals, 1, grown)
        return Step(after, jax.lax.stop_gradient(found.increment | grown), found.outcome)
