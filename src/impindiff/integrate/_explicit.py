"""Explicit one-step methods: cheap steps, as short as the fastest process in the system asks."""

from collections.abc import Callable
from typing import final

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, PyTree

from impindiff._errors import InputError
from impindiff._types import Scalar, State
from impindiff.integrate._dynamics import AbstractDynamics
from impindiff.integrate._quadrature import tendency_at
from impindiff.integrate._stepper import AbstractStepper, Step, StepContext
from impindiff.linear import AbstractInverse, Outcome


def axpy(state: State, factor: Scalar | float, rate: State) -> State:
    """`state + factor * rate`, field by field."""
    return jax.tree.map(lambda u, k: u + factor * k, state, rate)


def store_at(slots: PyTree, slot: Array | int, state: PyTree) -> PyTree:
    """States along a leading axis, one of them replaced."""
    # Not `.at[]`, which under `vmap` is a scatter: that copies all slots.
    return jax.tree.map(
        lambda each, u: jax.lax.dynamic_update_index_in_dim(each, u, slot, 0), slots, state
    )


def check_no_storage(dynamics: AbstractDynamics) -> None:
    """Refuse a system whose storage is not the fields themselves.

    Raises: InputError.
    """
    if dynamics.has_storage:
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


def take_substeps(
    rate: Callable[[State, Scalar, Scalar], State],
    parts: int,
    state: State,
    time: Scalar,
    dt: Scalar,
) -> Step:
    """A step taken as so many equal ones.

    Args:
        rate: the mean rate of change over one of them, from its state, time and length.
        parts: how many.
        state: at the start.
        time: of the start.
        dt: length of all together.
    """
    # Numbers of Python are as good as arrays, here as in a step taken whole.
    part = jnp.asarray(dt, jnp.result_type(*state.values())) / parts

    def advance(increment: State, number: Scalar) -> tuple[State, None]:
        here = axpy(state, 1, increment)
        return axpy(increment, part, rate(here, time + number * part, part)), None

    nothing = jax.tree.map(jnp.zeros_like, state)
    if parts == 1:
        increment = jax.tree.map(lambda k: part * k, rate(state, time, part))
    else:
        increment, _ = jax.lax.scan(advance, nothing, jnp.arange(parts, dtype=part.dtype))
    return Step(axpy(state, 1, increment), jax.lax.stop_gradient(increment), Outcome.exact())


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
    def stability_limit(self) -> float:
        """See `AbstractStepper.stability_limit`."""
        return 2.0 * self.substeps

    def check(self, dynamics: AbstractDynamics) -> None:
        """Refuse a system that stores something other than its fields."""
        check_no_storage(dynamics)

    def setup(self, dynamics: AbstractDynamics, time: Scalar, dt: Scalar, state: State) -> None:
        """Nothing is solved, so nothing is set up."""

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

        def rate(state: State, time: Scalar, dt: Scalar) -> State:
            return tendency_at(dynamics, time, state)(state)

        return take_substeps(rate, self.substeps, state, time, dt)


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
    def stability_limit(self) -> float:
        """See `AbstractStepper.stability_limit`."""
        return 2.785 * self.substeps

    def check(self, dynamics: AbstractDynamics) -> None:
        """Refuse a system that stores something other than its fields."""
        check_no_storage(dynamics)

    def setup(self, dynamics: AbstractDynamics, time: Scalar, dt: Scalar, state: State) -> None:
        """Nothing is solved, so nothing is set up."""

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

        def mean_rate(state: State, time: Scalar, dt: Scalar) -> State:
            def stage(carry: tuple[State, State], row: Array) -> tuple[tuple[State, State], None]:
                rate, total = carry
                node, weight = row
                point = axpy(state, node * dt, rate)
                rate = tendency_at(dynamics, time + node * dt, state)(point)
                return (rate, axpy(total, weight, rate)), None

            # A loop: written out, the stages are compiled four times, and into one another, so that
            # values of the first are computed again and again for each of the last.
            nothing = jax.tree.map(jnp.zeros_like, state)
            stages = jnp.asarray(_STAGES, jnp.result_type(*state.values()))
            (_, mean), _ = jax.lax.scan(stage, (nothing, nothing), stages)
            return mean

        return take_substeps(mean_rate, self.substeps, state, time, dt)
