"""One stage of training as compiled functions, and an epoch of it that may be tried again."""

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any, NamedTuple, final

import equinox as eqx
import jax
import numpy as np
from jaxtyping import PyTree

from impindiff.integrate import AbstractStepper
from impindiff.linear import AdjointOutcome
from impindiff.rollout import (
    Choice,
    MemoryPolicy,
    TimeGrid,
    cause_of,
    has_failed_solve,
    select_for_samples,
)
from impindiff.systems import System
from impindiff.train._adaptation import Adaptation, Trial
from impindiff.train._batch import Batch, Batches, Order, divided
from impindiff.train._compiled import Fixed, init, refresh, update
from impindiff.train._guard import check_epoch
from impindiff.train._objective import Evaluation
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
    stage: "Stage"

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
        fallback: a stepper to go on with where a solve fails, see `Choice.fallback`.
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
    fallback: AbstractStepper | None = None
    _made: dict[tuple[int, ...], Batch | Batches] = field(default_factory=dict)

    def init(self, learned: PyTree, adaptation: Adaptation) -> Any:
        """The optimiser's first state."""
        return init(self.fixed, self._data(adaptation), self._trial(adaptation), learned)

    def template(self, learned: PyTree, adaptation: Adaptation) -> Any:
        """Shapes of the optimiser's state."""
        return eqx.filter_eval_shape(
            init, self.fixed, self._data(adaptation), self._trial(adaptation), learned
        )

    def refresh(self, learned: PyTree, state: Any, adaptation: Adaptation) -> Any:
        """The optimiser's state after another adaptation."""
        data = self._data(adaptation)
        return refresh(self.fixed, data, self._trial(adaptation), learned, state)

    def epoch(
        self,
        learned: PyTree,
        state: Any,
        adaptation: Adaptation,
        number: int,
        rescue: Rescue | None,
        on_traced: Callable[[], None] | None = None,
    ) -> Tried:
        """One epoch; done again, from the same point, as long as a rescue knows a remedy.

        With `on_traced`, that is called when the epoch's program is known, before it is compiled.

        Raises: NumericsError where a solve, the loss or the gradient failed for good.
        """
        failures: list[SolveFailure] = []
        while True:
            trial = self._trial(adaptation)
            data, order, grids = self.data(number, adaptation)
            given = self.fixed, data, order, trial, learned, state
            if on_traced:
                update.lower(*given)  # JAX keeps what it has traced
                on_traced()
                on_traced = None
            *updated, epoch = update(*given)
            epoch = jax.device_get(epoch)
            if self.fallback is not None and _failed(epoch.evaluation):
                # Before any remedy: it may be what was chosen that does not fit any more.
                other = replace(self, stepper=self.fallback, fallback=None)
                fresh = other.refresh(learned, state, adaptation)
                return other.epoch(learned, fresh, adaptation, number, rescue)
            remedied = rescue and rescue.remedy(
                adaptation, epoch.evaluation, self.observations.time_grid(self.dt)
            )
            if not remedied:
                is_before = self.optimiser.loss_is_before
                point = learned if is_before else updated[0]
                check_epoch(epoch, number, grids, partial(self._cause, point, data))
                return Tried(updated[0], updated[1], epoch, adaptation, failures, is_before, self)
            adaptation, found = remedied
            failures += found
            state = self.refresh(learned, state, adaptation)

    def _cause(self, learned: PyTree, data: Batch | Batches, sample: int, step: int) -> str:
        """What of the system is not finite at a step; nothing where data come in batches."""
        if isinstance(data, Batches):
            return ""
        grid = data.time_grid
        initial, given = jax.tree.map(lambda u: u[sample], (data.initial, data.settings))
        system = eqx.combine(learned, self.known).with_settings(given)
        dtype = next(iter(initial.values())).dtype
        initial |= system.start(grid.starts[0], dtype)
        return cause_of(system, initial, self.stepper, grid, step + 1)

    def settled(self, learned: PyTree) -> tuple["Stage", Choice]:
        """The stage with its steps' solver chosen, for what is learned by now.

        Chosen from the first sample, by the steps that no remedy has halved.
        """
        observed = self.observations
        system = eqx.combine(learned, self.known)
        initial, given = jax.tree.map(lambda u: u[:1], (observed.initial, observed.settings))
        steps = observed.time_grid(self.dt)
        dtype = next(iter(initial.values())).dtype
        if system.initial:
            one = system.with_settings({name: values[0] for name, values in given.items()})
            begun = one.start(float(steps.starts[0]), dtype)
            initial = initial | {field: u[None] for field, u in begun.items()}
        chosen = select_for_samples(system, initial, steps, self.stepper, given)
        return replace(self, stepper=chosen.stepper, fallback=chosen.fallback), chosen

    @property
    def fixed(self) -> Fixed:
        """What its compiled functions are given."""
        return Fixed(
            self.optimiser,
            self.stepper,
            self.known,
            self.freeze,
            self.memory,
            self.samples_at_once,
        )

    def data(
        self, number: int, adaptation: Adaptation
    ) -> tuple[Batch | Batches, Order | None, list[TimeGrid]]:
        """The training data of an epoch, the order of batches, the steps in each window."""
        data = self._data(adaptation)
        if isinstance(data, Batches):
            return data, data.order((self.seed, number)), data.grids
        return data, None, [data.time_grid]

    def _data(self, adaptation: Adaptation) -> Batch | Batches:
        """The training data with the steps that are to be taken; made once for each."""
        halvings = adaptation.halvings
        if halvings not in self._made:
            batching = self.optimiser.batching
            self._made[halvings] = divided(self.observations, self.dt, batching, halvings)
        return self._made[halvings]

    def _trial(self, adaptation: Adaptation) -> Trial:
        return adaptation.trial(self.observations.num_samples)


def _failed(evaluation: Evaluation) -> bool:
    """Whether a solve missed its tolerance, forward or adjoint."""
    adjoint = np.asarray(evaluation.adjoint)
    return has_failed_solve(evaluation.outcome) or bool((adjoint[..., 2] > 0).any())
