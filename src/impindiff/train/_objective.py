"""The training loss as a function of the learned arrays, with what its solves did."""

from collections.abc import Callable
from typing import final

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, PyTree

from impindiff._types import Scalar, State
from impindiff.implicit import AdjointOutcome, Outcome
from impindiff.integrate import AbstractStepper
from impindiff.observe import squared_misfit, squared_scale
from impindiff.rollout import KeepAll, MemoryPolicy, Preparable, Snapshots, simulate
from impindiff.systems import System
from impindiff.train._adaptation import Trial
from impindiff.train._batch import Batch


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


def make_objective(
    frozen: System,
    batch: Batch,
    stepper: AbstractStepper,
    trial: Trial = Trial(),  # noqa: B008 (it cannot change)
    memory: MemoryPolicy = KeepAll(),  # noqa: B008
    samples_at_once: int | None = None,
) -> Objective:
    """The loss of a system on observations.

    Steady coefficients are evaluated, and differentiated, once, however many parts the samples are
    taken in.

    Args:
        frozen: the system without its learned arrays (`None` in their place), see
            `equinox.partition`.
        batch: what to fit.
        stepper: advances one step.
        trial: samples to leave out, a looser tolerance.
        memory: which states are kept for the gradient.
        samples_at_once: how many samples' states are held at a time, their gradients being added
            up; all where None.
    """
    if trial.active is not None:
        batch = _without_masked(batch, trial.active)
    time_grid, dtype = batch.time_grid, jnp.result_type(*batch.initial.values())
    if isinstance(memory, KeepAll):
        # Only reverse mode is wanted here: then the end of a step is kept as the next one's start,
        # not a second time.
        memory = Snapshots(time_grid.num_steps)
    # Of the whole batch, so that the losses of its parts add up to its own.
    scale = squared_scale(batch.observed)

    def loss(prepared: Preparable, probe, initial: State, observed: State):
        def run(initial, probe):
            return simulate(
                prepared, initial, time_grid, stepper, probe=probe, rtol=trial.rtol, memory=memory
            )

        trajectory = jax.vmap(run)(initial, probe)
        return squared_misfit(trajectory.states, observed, scale), trajectory.outcome

    def evaluate(learned):
        prepared, pull = eqx.filter_vjp(
            lambda learned: eqx.combine(learned, frozen).prepare(dtype), learned
        )
        arrays, rest = eqx.partition(prepared, eqx.is_inexact_array)

        def of_part(part: tuple[State, State]):
            num_samples = len(jax.tree.leaves(part)[0])
            probe = jnp.tile(AdjointOutcome.probe(), (num_samples, 1))
            value_and_grad = jax.value_and_grad(
                lambda arrays, probe: loss(eqx.combine(arrays, rest), probe, *part),
                argnums=(0, 1),
                has_aux=True,
            )
            (value, outcome), (gradient, adjoint) = value_and_grad(arrays, probe)
            return (value, gradient), (outcome, adjoint)

        (value, gradient), (outcome, adjoint) = _in_parts(
            of_part, (batch.initial, batch.observed), batch.num_samples, samples_at_once
        )
        (gradient,) = pull(gradient)
        return Evaluation(value, gradient, outcome, adjoint)

    return evaluate


def _in_parts(evaluate, data: tuple[State, State], num_samples: int, at_once: int | None):
    """Evaluate some samples after others: what is summed, and what each of them gives."""
    if at_once is None or at_once >= num_samples:
        return evaluate(data)
    count = -(-num_samples // at_once)
    # The last part is filled up with samples that are not observed.
    fill = count * at_once - num_samples

    def parted(values: Array, instead: Array | float) -> Array:
        more = jnp.broadcast_to(jnp.asarray(instead, values.dtype), (fill, *values.shape[1:]))
        return jnp.concatenate([values, more]).reshape(count, at_once, *values.shape[1:])

    initial, observed = data
    parts = (
        {field: parted(u, u[0]) for field, u in initial.items()},
        {field: parted(u, jnp.nan) for field, u in observed.items()},
    )
    zero = jax.tree.map(
        lambda leaf: jnp.zeros(leaf.shape, leaf.dtype),
        jax.eval_shape(evaluate, jax.tree.map(lambda u: u[0], parts))[0],
    )

    def one(total, part):
        summed, each = evaluate(part)
        return jax.tree.map(jnp.add, total, summed), each

    total, each = jax.lax.scan(one, zero, parts)
    joined = jax.tree.map(lambda a: a.reshape(-1, *a.shape[2:])[:num_samples], each)
    return total, joined


def _without_masked(batch: Batch, active: Bool[Array, " samples"]) -> Batch:
    """Fields of which masked samples are not observed, and begin as one that is not masked does."""

    def select(values: Array, otherwise: Array | float) -> Array:
        return jnp.where(active.reshape(-1, *(1,) * (values.ndim - 1)), values, otherwise)

    harmless = jnp.argmax(active)
    initial = {name: select(u, u[harmless]) for name, u in batch.initial.items()}
    observed = {name: select(u, jnp.nan) for name, u in batch.observed.items()}
    return Batch(initial, observed, batch.time_grid)
