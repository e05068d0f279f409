"""An epoch as compiled functions of the learned arrays and the optimiser's state."""

from dataclasses import replace
from typing import NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import PyTree

from impindiff.integrate import AbstractStepper
from impindiff.rollout import MemoryPolicy
from impindiff.systems import System
from impindiff.train._batches import Batch, Batches, Order
from impindiff.train._by_name import moving
from impindiff.train._objective import Evaluation, TrainingLoss, Trial, make_objective
from impindiff.train._optimisers import Epoch, StageLength
from impindiff.train._stages import Stage
from impindiff.train._units import InUnits, unit_of_each, weighed_evenly


class Fixed(NamedTuple):
    """What every compiled function of a stage is given.

    Attributes:
        stage: the optimiser, and how often it is applied to what.
        stepper: advances one step.
        known: the system without its learned arrays.
        memory: which states are kept for the gradient.
        samples_at_once: how many samples' states are held at a time; all where None.
    """

    stage: Stage
    stepper: AbstractStepper
    known: System
    memory: MemoryPolicy
    samples_at_once: int | None

    def split(self, learned: PyTree) -> tuple[PyTree, PyTree]:
        """The arrays that the stage changes, and those that it does not."""
        return eqx.partition(learned, moving(learned, self.stage.freeze))

    def length(self, updates_per_epoch: int) -> StageLength:
        """How often its optimiser is called."""
        return StageLength(self.stage.epochs, updates_per_epoch)

    def objective(self, still: PyTree, batch: Batch, trial: Trial) -> TrainingLoss:
        """The loss on a batch as a function of what the stage changes."""
        frozen = eqx.combine(still, self.known)
        return make_objective(frozen, batch, self.stepper, trial, self.memory, self.samples_at_once)


# At module level, so that a second training of the same shape need not compile again.
@eqx.filter_jit
def init(fixed: Fixed, data: Batches, trial: Trial, learned):
    """The optimiser's first state."""
    moved, still = fixed.split(learned)
    objective = fixed.objective(still, data.first, Trial(rtol=trial.rtol))
    return strongly_typed(fixed.stage.optimiser.init(objective, moved))


@eqx.filter_jit
def refresh(fixed: Fixed, data: Batches, trial: Trial, learned, state):
    """The optimiser's state after another adaptation."""
    if not data.is_whole:
        return state  # there is no one objective that it could have been of
    moved, still = fixed.split(learned)
    objective = fixed.objective(still, data.first, trial)
    return strongly_typed(fixed.stage.optimiser.refresh(objective, moved, state))


@eqx.filter_jit
def update(fixed: Fixed, data: Batches, order: Order, trial: Trial, learned, state):
    """An epoch: the changed arrays, the state, and what happened; `order` is that of batches."""
    moved, still = fixed.split(learned)
    if data.is_whole:
        objective, length = fixed.objective(still, data.first, trial), fixed.length(1)
        moved, *rest = _updated(fixed, objective, data, trial, moved, state, length)
    else:
        moved, *rest = _in_batches(fixed, still, data, order, trial, moved, state)
    return strongly_typed((eqx.combine(moved, still), *rest))


def _updated(
    fixed: Fixed,
    objective: TrainingLoss,
    data: Batches,
    trial: Trial,
    learned,
    state,
    length: StageLength,
):
    """One update, of numbers in their units where there are any."""
    optimiser, units = fixed.stage.optimiser, trial.units
    if units is None or not optimiser.takes_units:
        return optimiser.update(objective, learned, state, length)
    each = unit_of_each(learned, units.of_components)
    looked_at = weighed_evenly(objective, data.observations, units.is_held)
    in_units = InUnits(looked_at, each, learned, units.is_held)
    numbers = jax.tree.map(jnp.divide, learned, each)
    numbers, state, epoch = optimiser.update(in_units, numbers, state, length)
    slope = jax.tree.map(jnp.divide, epoch.evaluation.gradient, each)
    epoch = eqx.tree_at(lambda e: e.evaluation.gradient, epoch, slope)
    return in_units.arrays(numbers), state, epoch


def _in_batches(fixed: Fixed, still, batches: Batches, order, trial: Trial, learned, state):
    length, scale = fixed.length(len(order.window)), batches.scale(order, trial.active)

    def one(carry, chosen):
        learned, state = carry
        window, samples, active = chosen
        if trial.active is not None:
            counts = trial.active[samples]
            active = active & counts
            # All of a batch may be left out: then each begins as a sample does that is not.
            samples = jnp.where(counts, samples, jnp.argmax(trial.active))
        objective = fixed.objective(still, batches.take(window, samples), Trial(active, trial.rtol))
        objective = replace(objective, scale=scale)
        *updated, epoch = _updated(fixed, objective, batches, trial, learned, state, length)
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
