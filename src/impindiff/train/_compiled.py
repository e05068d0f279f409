"""What a stage computes, compiled: an optimiser's first state, an epoch, a state made fresh."""

from typing import NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import PyTree

from impindiff.integrate import AbstractStepper
from impindiff.rollout import MemoryPolicy
from impindiff.systems import System
from impindiff.train._adaptation import Trial
from impindiff.train._batch import Batch, Batches, Order
from impindiff.train._by_name import moving
from impindiff.train._objective import Evaluation, Objective, make_objective
from impindiff.train._optimisers import AbstractOptimiser, Epoch


class Fixed(NamedTuple):
    """What every compiled function of a stage is given.

    Attributes:
        optimiser: changes the learned arrays.
        stepper: advances one step.
        known: the system without its learned arrays.
        freeze: names of latents whose arrays stay as they are; no gradient is computed for them.
        memory: which states are kept for the gradient.
        samples_at_once: how many samples' states are held at a time; all where None.
    """

    optimiser: AbstractOptimiser
    stepper: AbstractStepper
    known: System
    freeze: tuple[str, ...]
    memory: MemoryPolicy
    samples_at_once: int | None

    def split(self, learned: PyTree) -> tuple[PyTree, PyTree]:
        """The arrays that the stage changes, and those that it does not."""
        return eqx.partition(learned, moving(learned, self.freeze))

    def objective(self, still: PyTree, batch: Batch, trial: Trial) -> Objective:
        """The loss on a batch as a function of what the stage changes."""
        frozen = eqx.combine(still, self.known)
        return make_objective(frozen, batch, self.stepper, trial, self.memory, self.samples_at_once)


# At module level, so that a second training of the same shape need not compile again.
@eqx.filter_jit
def init(fixed: Fixed, data: Batch | Batches, trial: Trial, learned):
    """The optimiser's first state."""
    moved, still = fixed.split(learned)
    batch = data.first if isinstance(data, Batches) else data
    objective = fixed.objective(still, batch, Trial(rtol=trial.rtol))
    return strongly_typed(fixed.optimiser.init(objective, moved))


@eqx.filter_jit
def refresh(fixed: Fixed, data: Batch | Batches, trial: Trial, learned, state):
    """The optimiser's state after another adaptation."""
    if isinstance(data, Batches):
        return state  # there is no one objective that it could have been of
    moved, still = fixed.split(learned)
    objective = fixed.objective(still, data, trial)
    return strongly_typed(fixed.optimiser.refresh(objective, moved, state))


@eqx.filter_jit
def update(fixed: Fixed, data: Batch | Batches, order: Order | None, trial: Trial, learned, state):
    """An epoch: the changed arrays, the state, and what happened; `order` is that of batches."""
    moved, still = fixed.split(learned)
    if isinstance(data, Batches):
        moved, *rest = _in_batches(fixed, still, data, order, trial, moved, state)
    else:
        objective = fixed.objective(still, data, trial)
        moved, *rest = fixed.optimiser.update(objective, moved, state)
    return strongly_typed((eqx.combine(moved, still), *rest))


def _in_batches(fixed: Fixed, still, batches: Batches, order, trial: Trial, learned, state):
    updates = len(order.window)

    def one(carry, chosen):
        learned, state = carry
        window, samples, active = chosen
        if trial.active is not None:
            counts = trial.active[samples]
            active = active & counts
            # All of a batch may be left out: then each begins as a sample does that is not.
            samples = jnp.where(counts, samples, jnp.argmax(trial.active))
        objective = fixed.objective(still, batches.take(window, samples), Trial(active, trial.rtol))
        *updated, epoch = fixed.optimiser.update(objective, learned, state, updates)
        # An epoch with a failure does not count, but no batch may seem to fail because another did;
        # and a batch of which nothing counts changes nothing.
        good = epoch.evaluation.is_finite & active.any()
        kept = jax.tree.map(lambda new, old: jnp.where(good, new, old), tuple(updated), carry)
        return strongly_typed(kept), (epoch, active.any())

    first = strongly_typed((learned, state))
    (learned, state), (epochs, counts) = jax.lax.scan(one, first, tuple(order))
    evaluation = epochs.evaluation
    loss, gradient = jax.tree.map(
        lambda leaf: jnp.tensordot(counts.astype(leaf.dtype), leaf, 1) / counts.sum(),
        (evaluation.loss, evaluation.gradient),
    )
    outcome, adjoint = batches.by_sample(order, (evaluation.outcome, evaluation.adjoint))
    whole = Evaluation(loss, gradient, outcome, adjoint)
    return learned, state, Epoch(whole, epochs.learning_rate[-1], epochs.stalled[-1])


def strongly_typed(tree: PyTree) -> PyTree:
    """Without weak types, which a checkpoint cannot hold: what is restored is what was saved."""
    return jax.tree.map(lambda leaf: jax.lax.convert_element_type(leaf, leaf.dtype), tree)
