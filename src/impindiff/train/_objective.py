"""The training loss as a function of the learned arrays, with what its solves did."""

from collections.abc import Callable
from typing import final

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, PyTree

from impindiff._types import Scalar, State
from impindiff.implicit import AdjointOutcome, Outcome
from impindiff.integrate import AbstractStepper
from impindiff.observe import squared_misfit
from impindiff.rollout import KeepAll, MemoryPolicy, TimeGrid, simulate
from impindiff.systems import System
from impindiff.train._adaptation import Trial
from impindiff.train._observations import Observations


@final
class Evaluation(eqx.Module):
    """The loss and its gradient at one point.

    Attributes:
        loss: the misfit.
        gradient: of the learned arrays' structure.
        outcome: of the forward solves, `(sample, step)`.
        adjoint: cotangent of each sample's probe, whose sum `AdjointOutcome.from_cotangent` reads.
    """

    loss: Scalar
    gradient: PyTree
    outcome: Outcome
    adjoint: Float[Array, "*samples 4"]

    @property
    def is_finite(self) -> Bool[Array, ""]:
        """Whether loss and gradient are finite and every solve converged."""
        leaves = [self.loss, *jax.tree.leaves(self.gradient)]
        finite = jnp.all(jnp.stack([jnp.isfinite(leaf).all() for leaf in leaves]))
        return finite & self.outcome.converged.all()


Objective = Callable[[PyTree], Evaluation]


def time_grid_of(observations: Observations, dt: float) -> TimeGrid:
    """Steps of at most `dt` through all observed times."""
    return TimeGrid.build(observations.start, np.array(observations.times), dt)


def make_objective(
    frozen: System,
    observations: Observations,
    stepper: AbstractStepper,
    dt: float,
    trial: Trial = Trial(),  # noqa: B008 (it cannot change)
    memory: MemoryPolicy = KeepAll(),  # noqa: B008
) -> Objective:
    """The loss of a system on observations.

    Args:
        frozen: the system without its learned arrays (`None` in their place), see
            `equinox.partition`.
        observations: what to fit.
        stepper: advances one step.
        dt: longest step; steps are shortened to end at the observed times.
        trial: steps to halve, samples to leave out, a looser tolerance.
        memory: which states are kept for the gradient.
    """
    time_grid = time_grid_of(observations, dt).halved(trial.halvings)
    initial, observed = observations.initial, observations.observed
    if trial.active is not None:
        initial, observed = _without_masked(observations, trial.active)

    def loss(learned, probe):
        system = eqx.combine(learned, frozen)

        def run(initial, probe):
            return simulate(
                system, initial, time_grid, stepper, probe=probe, rtol=trial.rtol, memory=memory
            )

        trajectory = jax.vmap(run)(initial, probe)
        return squared_misfit(trajectory.states, observed), trajectory.outcome

    def evaluate(learned):
        num_samples = len(jax.tree.leaves(initial)[0])
        probe = jnp.tile(AdjointOutcome.probe(), (num_samples, 1))
        value_and_grad = jax.value_and_grad(loss, argnums=(0, 1), has_aux=True)
        (value, outcome), (gradient, adjoint) = value_and_grad(learned, probe)
        return Evaluation(value, gradient, outcome, adjoint)

    return evaluate


def _without_masked(
    observations: Observations, active: Bool[Array, " samples"]
) -> tuple[State, State]:
    """Fields of which masked samples are not observed, and begin as one that is not masked does."""

    def select(values: Array, otherwise: Array | float) -> Array:
        return jnp.where(active.reshape(-1, *(1,) * (values.ndim - 1)), values, otherwise)

    harmless = jnp.argmax(active)
    initial = {name: select(u, u[harmless]) for name, u in observations.initial.items()}
    observed = {name: select(u, jnp.nan) for name, u in observations.observed.items()}
    return initial, observed
