"""The training loop: stages of epochs, watched over and saved on the way."""

import time
from collections.abc import Callable, Sequence
from functools import partial
from typing import final

import equinox as eqx
import jax
from jaxtyping import PyTree

from impindiff._errors import InputError, NumericsError
from impindiff.integrate import AbstractStepper
from impindiff.latent import learned as learned_mask
from impindiff.rollout import Choice, KeepAll, MemoryBudget, MemoryPolicy
from impindiff.systems import System
from impindiff.train._by_name import as_names
from impindiff.train._checkpoint import Checkpoints, Progress
from impindiff.train._compiled import strongly_typed
from impindiff.train._early_stopping import EarlyStopping
from impindiff.train._interrupts import Interrupts
from impindiff.train._observations import Observations
from impindiff.train._optimisers import AbstractOptimiser
from impindiff.train._point import Point
from impindiff.train._ready import ready
from impindiff.train._record import Watcher
from impindiff.train._rescue import Rescue
from impindiff.train._tolerance import ProgressiveTolerance
from impindiff.train._verdict import Verdict


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
        early_stopping: when to end a stage whose error no longer falls; without, none ends so.
        on_traced: called with the system as soon as the first epoch's program is known, before it
            is compiled: the time to begin, in a thread, whatever else takes time.
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
        memory: MemoryPolicy | MemoryBudget = KeepAll(),
        samples_at_once: int | None = None,
        freeze: str | Sequence[str] = (),
        early_stopping: EarlyStopping | None = None,
        on_traced: Callable[[System], None] | None = None,
        seed: int = 0,
    ) -> None:
        learned, self.known = self.split(system)
        self.learned = strongly_typed(learned)
        if not jax.tree.leaves(self.learned):
            raise InputError(
                "the system has nothing to learn: give a coefficient as a latent (SineField, "
                "Parameter, NeuralClosure)."
            )
        self.stages = ready(
            self.learned,
            self.known,
            observations,
            stepper,
            dt,
            stages,
            memory=memory,
            samples_at_once=samples_at_once,
            freeze=as_names(freeze),
            seed=seed,
        )
        self.validate, self.validate_every = validate, validate_every
        self.checkpoints, self.checkpoint_every = checkpoints, checkpoint_every
        self.rescue, self.progressive_tolerance = rescue, progressive_tolerance
        self.early_stopping, self._on_traced = early_stopping, on_traced
        if rescue and any(stage.batching.window is not None for stage in stages):
            raise InputError(
                "a rescue halves steps of the whole span of time, which stages with a window do "
                "not take: leave out the rescue, or the window."
            )
        self._good: Point | None = None
        self._is_place_known = False
        self.choices: list[Choice] = []
        self._verdict = Verdict(observations, self.learned)

    @staticmethod
    def split(system: System) -> tuple[PyTree, System]:
        """What is learned, and the system without it."""
        return eqx.partition(system, learned_mask(system))

    @property
    def remarks(self) -> list[str]:
        """What is to be said of how it ended: a poor fit, a start that was never left."""
        return self._verdict.remarks(self.learned)

    @property
    def system(self) -> System:
        """The system as it is trained by now."""
        return eqx.combine(self.learned, self.known)

    def run(self, watch: Watcher, *, resume: bool = False) -> System:
        """Train to the end of the last stage and return the trained system.

        With `resume`, goes on from the last checkpoint, where there is one. On an interrupt the
        last completed epoch is saved before the interrupt goes on its way.

        Raises: InputError before the first epoch if checkpoints cannot be written and read back;
            NumericsError if a loss, a gradient or a solve fails; the last arrays that an epoch has
            found to be good are saved.
        """
        progress = Progress()
        if resume and self.checkpoints and (saved := self.checkpoints.progress()):
            progress = saved
            self.learned = self.checkpoints.restore_learned(self.learned)
        began = time.perf_counter() - progress.seconds
        with Interrupts() as interrupts:
            for index in range(progress.stage, len(self.stages)):
                progress = self._run_stage(index, progress, began, watch, interrupts)
        return self.system

    def _run_stage(
        self,
        index: int,
        progress: Progress,
        began: float,
        watch: Watcher,
        interrupts: Interrupts,
    ) -> Progress:
        stopping = self.early_stopping
        # Anew for each stage: what was learned may have made the steps stiff.
        stage, chosen = self.stages[index].settled(self.learned)
        self.choices.append(chosen)
        optimiser = stage.optimiser
        schedule, adaptation = self.progressive_tolerance, progress.adaptation
        if schedule:
            adaptation = schedule.begin(adaptation)
        # Kept beside the optimiser's state: between two stages what was best is what was learned.
        best = self.learned if stopping else None
        standing = progress.standing
        if progress.stage_epoch and self.checkpoints:
            template = stage.template(self.learned, adaptation), best
            state, best = self.checkpoints.restore_state(template)
        else:
            state = stage.init(self.learned, adaptation)
            standing = standing.counted_from(
                progress.epoch, is_comparable=self.validate is not None
            )
        self._verdict.begin_stage()
        update = {"adaptation": adaptation, "standing": standing}
        here = Point(progress.model_copy(update=update), self.learned, state, best)
        if self.checkpoints and not self._is_place_known:
            # Now, and not when hours of training are to be saved.
            self.checkpoints.check_usable(here.learned, (state, best))
            self._is_place_known = True
        try:
            while not (here.progress.stage_epoch == optimiser.epochs or here.is_over):
                interrupts.deliver()
                adaptation, number = here.progress.adaptation, here.progress.epoch + 1
                beside, self._on_traced = self._on_traced, None
                tried = stage.epoch(
                    here.learned,
                    here.state,
                    adaptation,
                    number,
                    self.rescue,
                    beside and partial(beside, self.system),
                )
                stage = tried.stage
                if tried.epoch.stalled:
                    self._verdict.after(
                        tried.epoch, number, tried.is_before, optimiser.batching.is_whole
                    )
                    if not (schedule and tried.adaptation.is_loose):
                        break
                    adaptation = schedule.tighten(tried.adaptation)
                    fresh = stage.refresh(here.learned, here.state, adaptation)
                    here = here.adapted(adaptation, fresh)
                    continue
                last = here.progress.stage_epoch + 1 == optimiser.epochs
                self._verdict.after(
                    tried.epoch, number, tried.is_before, optimiser.batching.is_whole
                )
                validation = self._validation(tried.learned, number, last)
                seconds = time.perf_counter() - began
                if stopping:
                    standing, best = here.follow(
                        stopping, tried, number, validation, self.validate is not None
                    )
                stopped = standing.is_over
                watch(tried.record(number, optimiser.name, validation, seconds, stopped))
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
                    standing=standing,
                    stopped_early=here.progress.stopped_early or stopped,
                )
                self._good, here = here, Point(progress, tried.learned, state, best)
                if not (last or stopped) and number % self.checkpoint_every == 0:
                    self._save(here, interrupts)
            if stopping:
                # A stage that could not go on has ended at any epoch.
                stalled = not here.is_over and here.progress.stage_epoch < optimiser.epochs
                number = here.progress.epoch
                unknown = stalled and number % self.validate_every != 0
                error = self._validation(here.learned, number, last=True) if unknown else None
                here = here.at_best(stopping, error)
        except KeyboardInterrupt:
            self._save(here, interrupts)
            raise
        except NumericsError as error:
            # Not `here`: Adam learns only from the next epoch whether its update was any good.
            if self._good is None or self.checkpoints is None:
                raise
            self._save(self._good, interrupts)
            raise NumericsError(
                f"{error} What had been learned after epoch {self._good.progress.epoch} is saved."
            ) from None
        self.learned = here.learned
        update = {"stage": index + 1, "stage_epoch": 0, "finished": index + 1 == len(self.stages)}
        update["adaptation"] = here.progress.adaptation.for_next_stage()
        ended = here.progress.model_copy(update=update)
        self._save(here._replace(progress=ended), interrupts)
        return ended

    def _validation(self, learned: PyTree, number: int, last: bool) -> float | None:
        if self.validate is None or not (last or number % self.validate_every == 0):
            return None
        try:
            return self.validate(eqx.combine(learned, self.known))
        except NumericsError as error:
            raise NumericsError(f"epoch {number}, validation: {error}") from None

    def _save(self, point: Point, interrupts: Interrupts) -> None:
        if self.checkpoints:
            with interrupts.held_back():
                self.checkpoints.save(point.progress, point.learned, (point.state, point.best))
