"""The training loop: stages of epochs, watched over and saved on the way."""

import time
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple, final

import equinox as eqx
import jax
import numpy as np
from jaxtyping import PyTree

from impindiff._errors import InputError, NumericsError
from impindiff.implicit import AdjointOutcome
from impindiff.integrate import AbstractStepper
from impindiff.latent import learned as learned_mask
from impindiff.rollout import TimeGrid
from impindiff.systems import System
from impindiff.train._checkpoint import Checkpoints, Progress
from impindiff.train._guard import check_epoch
from impindiff.train._interrupts import Interrupts
from impindiff.train._objective import make_objective
from impindiff.train._observations import Observations
from impindiff.train._optimisers import AbstractOptimiser, Epoch
from impindiff.train._record import EpochRecord, Watcher


class _Point(NamedTuple):
    """Where training stands: what a checkpoint holds."""

    progress: Progress
    learned: PyTree
    state: Any


@final
class Trainer:
    """Trains the learned arrays of a system.

    Args:
        system: the equations; what is learned are the real arrays inside its latents.
        observations: what to fit.
        stepper: advances one step.
        dt: longest step, for stages that do not set their own.
        stages: optimisers, one after the other.
        validate: called with the system every `validate_every` epochs and at the end of each stage.
        validate_every: see `validate`.
        checkpoints: where to save; nothing is saved without.
        checkpoint_every: epochs between checkpoints.

    Raises: InputError for a system with nothing to learn, or no stages.
    """

    def __init__(
        self,
        system: System,
        observations: Observations,
        stepper: AbstractStepper,
        dt: float,
        stages: Sequence[AbstractOptimiser],
        *,
        validate: Callable[[System], float] | None = None,
        validate_every: int = 10,
        checkpoints: Checkpoints | None = None,
        checkpoint_every: int = 50,
    ) -> None:
        learned, self.frozen = eqx.partition(system, learned_mask(system))
        self.learned = _strongly_typed(learned)
        if not jax.tree.leaves(self.learned):
            raise InputError(
                "the system has nothing to learn: give a coefficient as a latent (SineField, "
                "Parameter)."
            )
        if not stages:
            raise InputError("training needs at least one stage (Adam, LBFGS).")
        self.observations, self.stepper, self.dt = observations, stepper, dt
        self.stages = tuple(stages)
        self.validate, self.validate_every = validate, validate_every
        self.checkpoints, self.checkpoint_every = checkpoints, checkpoint_every
        self._good: _Point | None = None

    def run(self, watch: Watcher, *, resume: bool = False) -> System:
        """Train to the end of the last stage and return the trained system.

        With `resume`, goes on from the last checkpoint, where there is one. On an interrupt the
        last completed epoch is saved before the interrupt goes on its way.

        Raises: NumericsError if a loss, a gradient or a solve fails; the last arrays that an epoch
            has found to be good are saved.
        """
        progress = Progress()
        if resume and self.checkpoints and (saved := self.checkpoints.progress()):
            progress = saved
            self.learned = self.checkpoints.restore_learned(self.learned)
        began = time.perf_counter() - progress.seconds
        with Interrupts() as interrupts:
            for index in range(progress.stage, len(self.stages)):
                progress = self._run_stage(index, progress, began, watch, interrupts)
        return eqx.combine(self.learned, self.frozen)

    def _run_stage(
        self,
        index: int,
        progress: Progress,
        began: float,
        watch: Watcher,
        interrupts: Interrupts,
    ) -> Progress:
        optimiser = self.stages[index]
        dt = optimiser.dt or self.dt
        given = (optimiser, self.stepper, dt, self.frozen, self.observations)
        if progress.stage_epoch and self.checkpoints:
            template = eqx.filter_eval_shape(_init, *given, self.learned)
            state = self.checkpoints.restore_state(template)
        else:
            state = _init(*given, self.learned)
        time_grid = TimeGrid.build(self.observations.start, np.array(self.observations.times), dt)
        here = _Point(progress, self.learned, state)
        try:
            for stage_epoch in range(progress.stage_epoch + 1, optimiser.epochs + 1):
                interrupts.deliver()
                number = here.progress.epoch + 1
                learned, state, epoch = _update(*given, here.learned, here.state)
                epoch = jax.device_get(epoch)
                check_epoch(epoch, number, time_grid)
                if epoch.stalled:
                    break
                last = stage_epoch == optimiser.epochs
                validation = self._validation(learned, number, last)
                seconds = time.perf_counter() - began
                watch(_record(epoch, number, optimiser.name, validation, seconds))
                progress = Progress(
                    epoch=number, stage=index, stage_epoch=stage_epoch, seconds=seconds
                )
                self._good, here = here, _Point(progress, learned, state)
                if not last and number % self.checkpoint_every == 0:
                    self._save(here)
        except KeyboardInterrupt:
            self._save(here)
            raise
        except NumericsError as error:
            # Not `here`: Adam learns only from the next epoch whether its update was any good.
            if self._good is None or self.checkpoints is None:
                raise
            self._save(self._good)
            raise NumericsError(
                f"{error} What had been learned after epoch {self._good.progress.epoch} is saved."
            ) from None
        self.learned = here.learned
        finished = index + 1 == len(self.stages)
        ended = here.progress.model_copy(
            update={"stage": index + 1, "stage_epoch": 0, "finished": finished}
        )
        self._save(here._replace(progress=ended))
        return ended

    def _validation(self, learned: PyTree, number: int, last: bool) -> float | None:
        if self.validate is None or not (last or number % self.validate_every == 0):
            return None
        try:
            return self.validate(eqx.combine(learned, self.frozen))
        except NumericsError as error:
            raise NumericsError(f"epoch {number}, validation: {error}") from None

    def _save(self, point: _Point) -> None:
        if self.checkpoints:
            self.checkpoints.save(*point)


# At module level, so that a second training of the same shape need not compile again.
@eqx.filter_jit
def _init(optimiser, stepper, dt, frozen, observations, learned):
    objective = make_objective(frozen, observations, stepper, dt)
    return _strongly_typed(optimiser.init(objective, learned))


@eqx.filter_jit
def _update(optimiser, stepper, dt, frozen, observations, learned, state):
    objective = make_objective(frozen, observations, stepper, dt)
    return _strongly_typed(optimiser.update(objective, learned, state))


def _strongly_typed(tree: PyTree) -> PyTree:
    """Without weak types, which a checkpoint cannot hold: what is restored is what was saved."""
    return jax.tree.map(lambda leaf: jax.lax.convert_element_type(leaf, leaf.dtype), tree)


def _record(
    epoch: Epoch, number: int, stage: str, validation: float | None, seconds: float
) -> EpochRecord:
    adjoint = AdjointOutcome.from_cotangent(epoch.evaluation.adjoint)
    return EpochRecord(
        epoch=number,
        stage=stage,
        loss=float(epoch.evaluation.loss),
        validation=validation,
        seconds=seconds,
        solver_iterations=float(np.mean(epoch.evaluation.outcome.iterations)),
        adjoint_iterations=adjoint.iterations / max(adjoint.solves, 1),
        learning_rate=float(epoch.learning_rate),
    )
