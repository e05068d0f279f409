"""The training loop: stages of epochs, watched over and saved on the way."""

import time
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple, final

import equinox as eqx
import jax
from jaxtyping import PyTree

from impindiff._errors import InputError, NumericsError
from impindiff.integrate import AbstractStepper
from impindiff.latent import learned as learned_mask
from impindiff.rollout import KeepAll, MemoryBudget, MemoryPolicy
from impindiff.systems import System
from impindiff.train._adaptation import Adaptation
from impindiff.train._batch import Batches, Batching, divided
from impindiff.train._by_name import as_names, moving
from impindiff.train._checkpoint import Checkpoints, Progress
from impindiff.train._interrupts import Interrupts
from impindiff.train._memory_plan import Work, choose_policy
from impindiff.train._observations import Observations
from impindiff.train._optimisers import AbstractOptimiser
from impindiff.train._record import Watcher
from impindiff.train._rescue import Rescue
from impindiff.train._stage import Stage, strongly_typed
from impindiff.train._tolerance import ProgressiveTolerance


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
        rescue: what to do where a solve fails; without, training ends there.
        progressive_tolerance: schedule of looser solves at first; without, all are as tight as the
            stepper's solver says.
        memory: which states are kept for the gradient.
        samples_at_once: how many samples' states are held at a time, their gradients being added
            up; all of a batch where None.
        freeze: names of latents that keep their values throughout.
        seed: of the order in which batches are drawn.

    Raises: InputError for a system with nothing to learn, no stages, a division of the data that
        cannot be, a name that no latent has, or a memory budget that is too small.
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
        rescue: Rescue | None = None,
        progressive_tolerance: ProgressiveTolerance | None = None,
        memory: MemoryPolicy | MemoryBudget = KeepAll(),  # noqa: B008 (it cannot change)
        samples_at_once: int | None = None,
        freeze: str | Sequence[str] = (),
        seed: int = 0,
    ) -> None:
        learned, self.known = eqx.partition(system, learned_mask(system))
        self.learned = strongly_typed(learned)
        if not jax.tree.leaves(self.learned):
            raise InputError(
                "the system has nothing to learn: give a coefficient as a latent (SineField, "
                "Parameter)."
            )
        if not stages:
            raise InputError("training needs at least one stage (Adam, LBFGS).")
        self.observations, self.stepper, self.dt = observations, stepper, dt
        self.stages, self.freeze = tuple(stages), as_names(freeze)
        self.validate, self.validate_every = validate, validate_every
        self.checkpoints, self.checkpoint_every = checkpoints, checkpoint_every
        self.rescue, self.progressive_tolerance = rescue, progressive_tolerance
        self.memory, self.samples_at_once, self.seed = memory, samples_at_once, seed
        if rescue and any(stage.batching.window is not None for stage in self.stages):
            raise InputError(
                "a rescue halves steps of the whole span of time, which stages with a window do "
                "not take: leave out the rescue, or the window."
            )
        self._policies = self._choose_policies()
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
        return eqx.combine(self.learned, self.known)

    def _run_stage(
        self,
        index: int,
        progress: Progress,
        began: float,
        watch: Watcher,
        interrupts: Interrupts,
    ) -> Progress:
        optimiser = self.stages[index]
        stage = Stage(
            optimiser,
            self.stepper,
            optimiser.dt or self.dt,
            self.known,
            self._frozen_in(optimiser),
            self.observations,
            self._policies[index],
            self.samples_at_once,
            self.seed,
        )
        schedule, adaptation = self.progressive_tolerance, progress.adaptation
        if schedule:
            adaptation = schedule.begin(adaptation)
        if progress.stage_epoch and self.checkpoints:
            state = self.checkpoints.restore_state(stage.template(self.learned, adaptation))
        else:
            state = stage.init(self.learned, adaptation)
        here = _Point(_adapted(progress, adaptation), self.learned, state)
        try:
            while here.progress.stage_epoch < optimiser.epochs:
                interrupts.deliver()
                adaptation, number = here.progress.adaptation, here.progress.epoch + 1
                tried = stage.epoch(here.learned, here.state, adaptation, number, self.rescue)
                if tried.epoch.stalled:
                    if not (schedule and tried.adaptation.is_loose):
                        break
                    adaptation = schedule.tighten(tried.adaptation)
                    fresh = stage.refresh(here.learned, here.state, adaptation)
                    here = _Point(_adapted(here.progress, adaptation), here.learned, fresh)
                    continue
                last = here.progress.stage_epoch + 1 == optimiser.epochs
                validation = self._validation(tried.learned, number, last)
                seconds = time.perf_counter() - began
                watch(tried.record(number, optimiser.name, validation, seconds))
                adaptation, state = tried.adaptation, tried.state
                if schedule:
                    adaptation = schedule.after(adaptation, float(tried.epoch.evaluation.loss))
                    if adaptation.rtol != tried.adaptation.rtol:
                        state = stage.refresh(tried.learned, state, adaptation)
                progress = Progress(
                    epoch=number,
                    stage=index,
                    stage_epoch=here.progress.stage_epoch + 1,
                    seconds=seconds,
                    adaptation=adaptation,
                )
                self._good, here = here, _Point(progress, tried.learned, state)
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
            update={
                "stage": index + 1,
                "stage_epoch": 0,
                "finished": finished,
                "adaptation": here.progress.adaptation.for_next_stage(),
            }
        )
        self._save(here._replace(progress=ended))
        return ended

    def _frozen_in(self, stage: AbstractOptimiser) -> tuple[str, ...]:
        return (*self.freeze, *stage.freeze)

    def _choose_policies(self) -> list[MemoryPolicy]:
        """What each stage keeps; known before the first one, lest a later one fail."""
        kept: dict[tuple[float, Batching, tuple[str, ...]], MemoryPolicy] = {}
        policies = []
        for stage in self.stages:
            dt, freeze = stage.dt or self.dt, self._frozen_in(stage)
            moved, still = eqx.partition(self.learned, moving(self.learned, freeze))
            stage.check(moved)
            key = (dt, stage.batching, freeze)
            if key not in kept:
                batch = divided(self.observations, dt, stage.batching)
                work = Work(
                    moved,
                    eqx.combine(still, self.known),
                    batch.first if isinstance(batch, Batches) else batch,
                    self.stepper,
                    self.samples_at_once,
                )
                kept[key] = choose_policy(work, self.memory)
            policies.append(kept[key])
        return policies

    def _validation(self, learned: PyTree, number: int, last: bool) -> float | None:
        if self.validate is None or not (last or number % self.validate_every == 0):
            return None
        try:
            return self.validate(eqx.combine(learned, self.known))
        except NumericsError as error:
            raise NumericsError(f"epoch {number}, validation: {error}") from None

    def _save(self, point: _Point) -> None:
        if self.checkpoints:
            self.checkpoints.save(*point)


def _adapted(progress: Progress, adaptation: Adaptation) -> Progress:
    return progress.model_copy(update={"adaptation": adaptation})
