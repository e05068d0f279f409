"""The training loss as a function of the learned arrays, with what its solves did."""

from collections.abc import Callable
from typing import final

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, PyTree

from impindiff._types import Scalar
from impindiff.implicit import AdjointOutcome, Outcome
from impindiff.integrate import AbstractStepper
from impindiff.observe import squared_misfit
from impindiff.rollout import TimeGrid, simulate
from impindiff.systems import System
from impindiff.train._observations import Observations


@final
class Evaluation(eqx.Module):
    """The loss and its gradient at one point.

    Attributes:
        loss: the misfit.
        gradient: of the learned arrays' structure.
        outcome: of the forward solves, `(sample, step)`.
        adjoint: cotangent of the probe, read by `AdjointOutcome.from_cotangent`.
    """

    loss: Scalar
    gradient: PyTree
    outcome: Outcome
    adjoint: Float[Array, " 4"]

    @property
    def is_finite(self) -> Bool[Array, ""]:
        """Whether loss and gradient are finite and every solve converged."""
        leaves = [self.loss, *jax.tree.leaves(self.gradient)]
        finite = jnp.all(jnp.stack([jnp.isfinite(leaf).all() for leaf in leaves]))
        return finite & self.outcome.converged.all()


Objective = Callable[[PyTree], Evaluation]


def make_objective(
    frozen: System, observations: Observations, stepper: AbstractStepper, dt: float
) -> Objective:
    """The loss of a system on observations.

    Args:
        frozen: the system without its learned arrays (`None` in their place), see
            `equinox.partition`.
        observations: what to fit.
        stepper: advances one step.
        dt: longest step; steps are shortened to end at the observed times.
    """
    time_grid = TimeGrid.build(observations.start, np.array(observations.times), dt)

    def loss(learned, probe):
        system = eqx.combine(learned, frozen)

        def run(initial):
            return simulate(system, initial, time_grid, stepper, probe=probe)

        trajectory = jax.vmap(run)(observations.initial)
        return squared_misfit(trajectory.states, observations.observed), trajectory.outcome

    def evaluate(learned):
        probe = AdjointOutcome.probe()
        value_and_grad = jax.value_and_grad(loss, argnums=(0, 1), has_aux=True)
        (value, outcome), (gradient, adjoint) = value_and_grad(learned, probe)
        return Evaluation(value, gradient, outcome, adjoint)

    return evaluate
