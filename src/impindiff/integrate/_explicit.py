"""Explicit Runge-Kutta methods: cheap steps, as short as the fastest process in the system asks.

The methods are tables of numbers, see `impindiff.integrate._tableaux`.
"""

from typing import Any, final

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, PyTree

from impindiff._errors import InputError
from impindiff._types import Scalar, State
from impindiff.integrate._dynamics import AbstractDynamics
from impindiff.integrate._quadrature import tendency_at
from impindiff.integrate._stepper import AbstractStepper, Step, StepContext
from impindiff.integrate._tableaux import (
    BOGACKI_SHAMPINE3_TABLEAU,
    FORWARD_EULER_TABLEAU,
    RUNGE_KUTTA4_TABLEAU,
    TSITOURAS5_TABLEAU,
    ExplicitTableau,
)
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


def combine(weights: Array, slots: PyTree) -> PyTree:
    """The weighted sum of states along a leading axis."""
    # To all digits: by default some devices multiply matrices of single precision with fewer.
    return jax.tree.map(
        lambda each: jnp.tensordot(weights, each, 1, precision=jax.lax.Precision.HIGHEST), slots
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


@final
class ExplicitRungeKutta(AbstractStepper):
    r"""An explicit Runge-Kutta method, a step of it taken in equal parts.

    The stages of a part are $U_i = u_0 + \Delta t \sum_{j < i} a_{ij} F_j$ with
    $F_j = F(t_0 + c_j \Delta t, U_j)$, its end is $u_0 + \Delta t \sum_j b_j F_j$.

    Args:
        tableau: the numbers of the method.
        substeps: equal parts that each step is taken in.

    Raises: InputError for fewer than one part; for a system with a storage, or fields without one.
    Reference: Hairer, Noersett & Wanner, Solving Ordinary Differential Equations I, section II.1.
    """

    tableau: ExplicitTableau = eqx.field(static=True)
    substeps: int = eqx.field(static=True, default=1)

    def __check_init__(self) -> None:
        """Refuse less than one part."""
        check_substeps(self.substeps)

    @property
    def name(self) -> str:
        """See `AbstractStepper.name`."""
        return self.tableau.name

    @property
    def error_order(self) -> int | None:
        """See `AbstractStepper.error_order`."""
        return self.tableau.order if self.tableau.embedded else None

    @property
    def nodes(self) -> tuple[float, ...]:
        """See `AbstractStepper.nodes`."""
        starts = np.arange(self.substeps)[:, None]
        return tuple(np.unique((starts + self.tableau.nodes) / self.substeps).tolist())

    @property
    def stability_limit(self) -> float:
        """See `AbstractStepper.stability_limit`."""
        return self.tableau.stability_limit * self.substeps

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
        """See `AbstractStepper.advance`; the errors of the parts add up."""
        # Numbers of Python are as good as arrays, here as in a step taken whole.
        part = jnp.asarray(dt, jnp.result_type(*state.values())) / self.substeps
        nothing = jax.tree.map(jnp.zeros_like, state)
        error = nothing if self.tableau.embedded is not None else {}

        def advance(sums: tuple[State, State], number: Scalar) -> tuple[tuple[State, State], None]:
            here = axpy(state, 1, sums[0])
            return self._take(dynamics, time + number * part, part, here, sums), None

        sums = nothing, error
        if self.substeps == 1:
            sums = self._take(dynamics, time, part, state, sums)
        else:
            sums, _ = jax.lax.scan(advance, sums, jnp.arange(self.substeps, dtype=part.dtype))
        increment, error = jax.lax.stop_gradient(sums)
        return Step(axpy(state, 1, sums[0]), increment, Outcome.exact(), error=error or None)

    def _take(
        self,
        dynamics: AbstractDynamics,
        time: Scalar,
        dt: Scalar,
        state: State,
        sums: tuple[State, State],
    ) -> tuple[State, State]:
        """What has been added to the fields, and is an error of that, after one part more.

        Args:
            dynamics: the system.
            time: where the part starts.
            dt: its length.
            state: at its start.
            sums: before it.
        """
        tableau, dtype = self.tableau, dt.dtype
        weights, reach = np.array(tableau.weights), tableau.reach
        embedded = weights if tableau.embedded is None else np.array(tableau.embedded)

        def stage(carry: tuple[tuple[State, ...], State, State], of_stage: Array) -> Any:
            rates, increment, error = carry
            node, weight, unlike, *row = of_stage
            point = state
            for factor, rate in zip(row, rates, strict=True):
                point = axpy(point, factor * dt, rate)
            rate = tendency_at(dynamics, time + node * dt, state)(point)
            increment = axpy(increment, weight * dt, rate)
            if error:
                error = axpy(error, unlike * dt, jax.lax.stop_gradient(rate))
            return ((rate, *rates)[:reach], increment, error), None

        # A loop: written out, the stages are compiled one by one, and into one another, so that
        # values of the first are computed again and again for each of the last. It carries the
        # rates of as many stages as the method looks back to.
        before = (jax.tree.map(jnp.zeros_like, state),) * reach
        columns = tableau.nodes, weights, weights - embedded, *tableau.rows_back.T
        stages = jnp.asarray(np.stack(columns, axis=1), dtype)
        (_, increment, error), _ = jax.lax.scan(stage, (before, *sums), stages)
        return increment, error


def ForwardEuler(substeps: int = 1) -> ExplicitRungeKutta:
    r"""$u_{n+1} = u_n + \Delta t\,F(t_n, u_n)$. First order.

    Stable for diffusion up to $\sum_a D \Delta t/\Delta x_a^2 = 1/2$, for upwind advection up to
    $\sum_a |v_a| \Delta t / \Delta x_a = 1$; see `stable_dt`.

    Args:
        substeps: equal parts that each step is taken in.

    Raises: InputError for fewer than one.
    """
    return ExplicitRungeKutta(FORWARD_EULER_TABLEAU, substeps)


def RungeKutta4(substeps: int = 1) -> ExplicitRungeKutta:
    r"""The classical method of order four; four evaluations of $F$ a step.

    Stable for diffusion up to $\sum_a D \Delta t/\Delta x_a^2 \approx 0.69$ and for upwind
    advection up to $\sum_a |v_a| \Delta t / \Delta x_a \approx 1.39$; see `stable_dt`.

    Args:
        substeps: equal parts that each step is taken in.

    Raises: InputError for fewer than one.
    Reference: W. Kutta, Z. Math. Phys. 46 (1901) 435.
    """
    return ExplicitRungeKutta(RUNGE_KUTTA4_TABLEAU, substeps)


def BogackiShampine3(substeps: int = 1) -> ExplicitRungeKutta:
    r"""The pair 3(2) of Bogacki and Shampine: order three, with an estimate of its error.

    For a few digits where nothing is stiff; four evaluations of $F$ a step. Stable for diffusion up
    to $\sum_a D \Delta t/\Delta x_a^2 \approx 0.63$; see `stable_dt`.

    Args:
        substeps: equal parts that each step is taken in.

    Raises: InputError for fewer than one.
    Reference: P. Bogacki, L. F. Shampine, Appl. Math. Lett. 2 (1989) 321.
    """
    return ExplicitRungeKutta(BOGACKI_SHAMPINE3_TABLEAU, substeps)


def Tsitouras5(substeps: int = 1) -> ExplicitRungeKutta:
    r"""The pair 5(4) of Tsitouras: order five, with an estimate of its error.

    For many digits where nothing is stiff; seven evaluations of $F$ a step. Stable for diffusion up
    to $\sum_a D \Delta t/\Delta x_a^2 \approx 0.88$; see `stable_dt`.

    Args:
        substeps: equal parts that each step is taken in.

    Raises: InputError for fewer than one.
    Reference: Ch. Tsitouras, Comput. Math. Appl. 62 (2011) 770.
    """
    return ExplicitRungeKutta(TSITOURAS5_TABLEAU, substeps)
