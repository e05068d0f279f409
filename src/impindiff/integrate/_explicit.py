"""Explicit one-step methods: cheap steps, as short as the fastest process in the system asks."""

from collections.abc import Callable
from typing import final

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array

from impindiff._errors import InputError
from impindiff._types import Dynamics, Scalar, State, StoredDynamics
from impindiff.implicit import AbstractPreconditioner, Outcome, SolveContext
from impindiff.integrate._quadrature import tendency_at
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


def check_substeps(substeps: int) -> None:
    """Refuse what no step can be cut into.

    Raises: InputError.
    """
    if isinstance(substeps, bool) or not isinstance(substeps, int) or substeps < 1:
        raise InputError(f"substeps is {substeps!r}: a step is taken in a whole number of parts.")


def in_parts(
    one: Callable[[State, Scalar, Scalar], State],
    parts: int,
    state: State,
    time: Scalar,
    dt: Scalar,
) -> State:
    """A step taken as so many equal ones."""
    if parts == 1:
        return one(state, time, dt)
    # Numbers of Python are as good as arrays, here as in a step taken whole.
    part = jnp.asarray(dt, jnp.result_type(*state.values())) / parts

    def advance(state: State, number: Scalar) -> tuple[State, None]:
        return one(state, time + number * part, part), None

    return jax.lax.scan(advance, state, jnp.arange(parts, dtype=part.dtype))[0]


@final
class ForwardEuler(AbstractStepper):
    r"""$u_{n+1} = u_n + \Delta t\,F(t_n, u_n)$. First order.

    Stable for diffusion up to $\sum_a D \Delta t/\Delta x_a^2 = 1/2$, for upwind advection up to
    $\sum_a |v_a| \Delta t / \Delta x_a = 1$; see `stable_dt`.

    Args:
        substeps: equal parts that each step is taken in.

    Raises: InputError for fewer than one.
    """

    substeps: int = eqx.field(static=True, default=1)

    def __check_init__(self) -> None:
        """Refuse less than one part."""
        check_substeps(self.substeps)

    @property
    def reach(self) -> float:
        r"""Largest $-\lambda\,\Delta t$ of a real eigenvalue that does not grow, substeps apart."""
        return 2.0

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

        def one(state: State, time: Scalar, dt: Scalar) -> State:
            return axpy(state, dt, tendency_at(dynamics, time, state)(state))

        return in_parts(one, self.substeps, state, time, dt), Outcome.exact()


# Of each stage the time, which is as well how far to go along the rate of the stage before; and the
# weight of its own rate.
_STAGES = ((0.0, 1 / 6), (1 / 2, 1 / 3), (1 / 2, 1 / 3), (1.0, 1 / 6))


@final
class RungeKutta4(AbstractStepper):
    r"""The classical method of order four; four evaluations of $F$ a step.

    Stable for diffusion up to $\sum_a D \Delta t/\Delta x_a^2 \approx 0.69$ and for upwind
    advection up to $\sum_a |v_a| \Delta t / \Delta x_a \approx 1.39$; see `stable_dt`.

    Args:
        substeps: equal parts that each step is taken in.

    Raises: InputError for fewer than one.
    Reference: W. Kutta, Z. Math. Phys. 46 (1901) 435.
    """

    substeps: int = eqx.field(static=True, default=1)

    def __check_init__(self) -> None:
        """Refuse less than one part."""
        check_substeps(self.substeps)

    @property
    def reach(self) -> float:
        r"""Largest $-\lambda\,\Delta t$ of a real eigenvalue that does not grow, substeps apart."""
        return 2.785

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

        def one(state: State, time: Scalar, dt: Scalar) -> State:
            def stage(carry: tuple[State, State], given: Array) -> tuple[tuple[State, State], None]:
                rate, total = carry
                node, weight = given
                point = axpy(state, node * dt, rate)
                rate = tendency_at(dynamics, time + node * dt, state)(point)
                return (rate, axpy(total, weight, rate)), None

            # A loop: written out, the stages are compiled four times, and into one another, so that
            # values of the first are computed again and again for each of the last.
            nothing = jax.tree.map(jnp.zeros_like, state)
            stages = jnp.asarray(_STAGES, jnp.result_type(*state.values()))
            (_, mean), _ = jax.lax.scan(stage, (nothing, nothing), stages)
            return axpy(state, dt, mean)

        return in_parts(one, self.substeps, state, time, dt), Outcome.exact()
