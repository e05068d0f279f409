"""Explicit one-step methods: cheap steps, as short as the fastest process in the system asks."""

from typing import final

import jax

from impindiff._errors import InputError
from impindiff._types import Dynamics, Scalar, State, StoredDynamics
from impindiff.implicit import AbstractPreconditioner, Outcome, SolveContext
from impindiff.integrate._stepper import AbstractStepper


def axpy(state: State, factor: Scalar | float, rate: State) -> State:
    """`state + factor * rate`, field by field."""
    return jax.tree.map(lambda u, k: u + factor * k, state, rate)


def check_no_storage(dynamics: Dynamics) -> None:
    """Refuse a system whose storage is not the fields themselves.

    Raises: InputError.
    """
    if isinstance(dynamics, StoredDynamics) and dynamics.has_storage:
        raise InputError(
            "the system has a storage, or fields without one, and an explicit step knows no way "
            "from what is stored back to the fields: use SDIRK2, CrankNicolson or BackwardEuler."
        )


@final
class ForwardEuler(AbstractStepper):
    r"""$u_{n+1} = u_n + \Delta t\,F(t_n, u_n)$. First order.

    Stable for diffusion up to $\sum_a D \Delta t/\Delta x_a^2 = 1/2$, for upwind advection up to
    $\sum_a |v_a| \Delta t / \Delta x_a = 1$.
    """

    def check(self, dynamics: Dynamics) -> None:
        """Refuse a system that stores something other than its fields."""
        check_no_storage(dynamics)

    def setup(self, dynamics: Dynamics, time: Scalar, dt: Scalar, state: State) -> None:
        """Nothing is solved, so nothing is set up."""

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
        return axpy(state, dt, dynamics.at(time)(state)), Outcome.exact()


@final
class RungeKutta4(AbstractStepper):
    r"""The classical method of order four; four evaluations of $F$ a step.

    Stable for diffusion up to $\sum_a D \Delta t/\Delta x_a^2 \approx 0.69$ and for upwind
    advection up to $\sum_a |v_a| \Delta t / \Delta x_a \approx 1.39$.
    Reference: W. Kutta, Z. Math. Phys. 46 (1901) 435.
    """

    def check(self, dynamics: Dynamics) -> None:
        """Refuse a system that stores something other than its fields."""
        check_no_storage(dynamics)

    def setup(self, dynamics: Dynamics, time: Scalar, dt: Scalar, state: State) -> None:
        """Nothing is solved, so nothing is set up."""

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
        middle = dynamics.at(time + dt / 2)
        first = dynamics.at(time)(state)
        second = middle(axpy(state, dt / 2, first))
        third = middle(axpy(state, dt / 2, second))
        fourth = dynamics.at(time + dt)(axpy(state, dt, third))
        mean = jax.tree.map(
            lambda a, b, c, d: (a + 2 * b + 2 * c + d) / 6, first, second, third, fourth
        )
        return axpy(state, dt, mean), Outcome.exact()
