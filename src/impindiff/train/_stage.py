"""One stage of training as compiled functions, and an epoch of it that may be tried again."""

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from typing import Any, NamedTuple, final

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import PyTree

from impindiff.implicit import AdjointOutcome
from impindiff.integrate import AbstractStepper
from impindiff.rollout import MemoryPolicy
from impindiff.systems import System
from impindiff.train._adaptation import Adaptation, Trial
from impindiff.train._batch import Batch, Batches, Order, divided
from impindiff.train._by_name import moving
from impindiff.train._guard import check_epoch
from impindiff.train._objective import Evaluation, make_objective
from impindiff.train._observations import Observations
from impindiff.train._optimisers import AbstractOptimiser, Epoch
from impindiff.train._record import EpochRecord
from impindiff.train._rescue import Rescue, SolveFailure


class Tried(NamedTuple):
    """An epoch that succeeded, and what it took; its loss may be that from before its update."""

    learned: PyTree
    state: Any
    epoch: Epoch
    adaptation: Adaptation
    failures: list[SolveFailure]
    is_before: bool

    def record(
        self,
        number: int,
        stage: str,
        validation: float | None,
        seconds: float,
        stopped_early: bool = False,
    ) -> EpochRecord:
        """The epoch's line in the metrics."""
        evaluation = self.epoch.evaluation
        adjoint = AdjointOutcome.from_cotangent(np.sum(evaluation.adjoint, 0))
        rate = float(self.epoch.learning_rate)
        return EpochRecord(
            epoch=number,
            stage=stage,
            loss=float(evaluation.loss),
            validation=validation,
            seconds=seconds,
            solver_iterations=float(np.mean(evaluation.outcome.iterations)),
            adjoint_iterations=adjoint.iterations / max(adjoint.solves, 1),
            # JSON has no number for what is not known.
            learning_rate=None if np.isnan(rate) else rate,
            rtol=self.adaptation.rtol or None,
            failures=self.failures,
            stopped_early=stopped_early,
        )


class _Fixed(NamedTuple):
    """What every compiled function of a stage is given."""

    optimiser: AbstractOptimiser
    stepper: AbstractStepper
    frozen: System
    memory: MemoryPolicy
    samples_at_once: int | None

    def objective(self, batch: Batch, trial: Trial):
        return make_objective(
            self.frozen, batch, self.stepper, trial, self.memory, self.samples_at_once
        )


@final
@dataclass(frozen=True)
class Stage:
    """What stays the same through a stage.

    Attributes:
        optimiser: changes the learned arrays.
        stepper: advances one step.
        dt: longest step.
        known: the system without its learned arrays.
        freeze: names of latents whose arrays stay as they are; no gradient is computed for them.
        observations: what is fitted.
        memory: which states are kept for the gradient.
        samples_at_once: how many samples' states are held at a time; all where None.
        seed: of the order of batches.
    """

    optimiser: AbstractOptimiser
    stepper: AbstractStepper
    dt: float
    known: System
    freeze: tuple[str, ...]
    observations: Observations
    memory: MemoryPolicy
    samples_at_once: int | None
    seed: int
    _made: dict[tuple[int, ...], Batch | Batches] = field(default_factory=dict)

    def init(self, learned: PyTree, adaptation: Adaptation) -> Any:
        """The optimiser's first state."""
        return self._init(_init, learned, adaptation)

    def template(self, learned: PyTree, adaptation: Adaptation) -> Any:
        """Shapes of the optimiser's state."""
        return self._init(partial(eqx.filter_eval_shape, _init), learned, adaptation)

    def refresh(self, learned: PyTree, state: Any, adaptation: Adaptation) -> Any:
        """The optimiser's state after another adaptation."""
        moved, fixed = self._split(learned)
        return _refresh(fixed, self._data(adaptation), self._trial(adaptation), moved, state)

    def epoch(
        self,
        learned: PyTree,
        state: Any,
        adaptation: Adaptation,
        number: int,
        rescue: Rescue | None,
    ) -> Tried:
        """One epoch; done again, from the same point, as long as a rescue knows a remedy.

        Raises: NumericsError where a solve, the loss or the gradient failed for good.
        """
        failures: list[SolveFailure] = []
        moved, fixed = self._split(learned)
        while True:
            data, trial = self._data(adaptation), self._trial(adaptation)
            if isinstance(data, Batches):
                order = data.order((self.seed, number))
                updated = _update_in_batches(fixed, data, order, trial, moved, state)
                grids = data.grids
            else:
                updated = _update(fixed, data, trial, moved, state)
                grids = [data.time_grid]
            epoch = jax.device_get(updated[2])
            remedied = rescue and rescue.remedy(
                adaptation, epoch.evaluation, self.observations.time_grid(self.dt)
            )
            if not remedied:
                check_epoch(epoch, number, grids)
                changed = eqx.combine(updated[0], learned)
                is_before = self.optimiser.loss_is_before
                return Tried(changed, updated[1], epoch, adaptation, failures, is_before)
            adaptation, found = remedied
            failures += found
            state = self.refresh(learned, state, adaptation)

    def _init(self, run: Callable[..., Any], learned: PyTree, adaptation: Adaptation) -> Any:
        moved, fixed = self._split(learned)
        return run(fixed, self._data(adaptation), self._trial(adaptation), moved)

    def _split(self, learned: PyTree) -> tuple[PyTree, _Fixed]:
        """The arrays that the stage changes, and what it is given besides."""
        moved, still = eqx.partition(learned, moving(learned, self.freeze))
        frozen = eqx.combine(still, self.known)
        return moved, _Fixed(
            self.optimiser, self.stepper, frozen, self.memory, self.samples_at_once
        )

    def _data(self, adaptation: Adaptation) -> Batch | Batches:
        """The training data with the steps that are to be taken; made once for each."""
        halvings = adaptation.halvings
        if halvings not in self._made:
            batching = self.optimiser.batching
            self._made[halvings] = divided(self.observations, self.dt, batching, halvings)
        return self._made[halvings]

    def _trial(self, adaptation: Adaptation) -> Trial:
        return adaptation.trial(self.observations.num_samples)


# At module level, so that a second training of the same shape need not compile again.
@eqx.filter_jit
def _init(fixed: _Fixed, data: Batch | Batches, trial: Trial, learned):
    batch = data.first if isinstance(data, Batches) else data
    objective = fixed.objective(batch, Trial(rtol=trial.rtol))
    return strongly_typed(fixed.optimiser.init(objective, learned))


@eqx.filter_jit
def _refresh(fixed: _Fixed, data: Batch | Batches, trial: Trial, learned, state):
    if isinstance(data, Batches):
        return state  # there is no one objective that it could have been of
    return strongly_typed(fixed.optimiser.refresh(fixed.objective(data, trial), learned, state))


@eqx.filter_jit
def _update(fixed: _Fixed, batch: Batch, trial: Trial, learned, state):
    objective = fixed.objective(batch, trial)
    return strongly_typed(fixed.optimiser.update(objective, learned, state))


@eqx.filter_jit
def _update_in_batches(fixed: _Fixed, batches: Batches, order: Order, trial: Trial, learned, state):
    updates = len(order.window)

    def one(carry, chosen):
        learned, state = carry
        window, samples, active = chosen
        if trial.active is not None:
            counts = trial.active[samples]
            active = active & counts
            # All of a batch may be left out: then each begins as a sample does that is not.
            samples = jnp.where(counts, samples, jnp.argmax(trial.active))
        objective = fixed.objective(batches.take(window, samples), Trial(active, trial.rtol))
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
    return strongly_typed(
        (learned, state, Epoch(whole, epochs.learning_rate[-1], epochs.stalled[-1]))
    )


def strongly_typed(tree: PyTree) -> PyTree:
    """Without weak types, which a checkpoint cannot hold: what is restored is what was saved."""
    return jax.tree.map(lambda leaf: jax.lax.convert_element_type(leaf, leaf.dtype), tree)
