"""The training loop: stages of epochs, watched over and saved on the way."""

import time
from collections.abc import Callable, Sequence
from functools import cached_property, partial
from typing import Any, NamedTuple, Self, final

import equinox as eqx
import jax
from jaxtyping import PyTree

from impindiff._errors import InputError, NumericsError
from impindiff.latent import learned as learned_mask
from impindiff.rollout import Choice
from impindiff.systems import System
from impindiff.train._adaptation import Adaptation
from impindiff.train._checkpoints import Checkpoints, Progress
from impindiff.train._compiled_stage import EpochResult, compile_stages
from impindiff.train._diagnosis import Verdict
from impindiff.train._early_stopping import EarlyStopping, Standing
from impindiff.train._epoch import strongly_typed
from impindiff.train._fit_options import EpochRecord, FitOptions
from impindiff.train._interrupts import Interrupts
from impindiff.train._observations import Observations
from impindiff.train._stages import Stage
from impindiff.train._task import Task


class Point(NamedTuple):
    """Where training stands: what a checkpoint holds.

    Attributes:
        progress: how far it had come.
        learned: the learned arrays.
        state: the optimiser's state.
        best: the learned arrays of the lowest error; None without early stopping.
    """

    progress: Progress
    learned: PyTree
    state: Any
    best: PyTree | None

    @property
    def is_over(self) -> bool:
        """Whether early stopping ended the stage."""
        return self.progress.standing.is_over

    def adapted(self, adaptation: Adaptation, state: Any) -> Self:
        """The same place, with another adaptation and the optimiser's state after it."""
        return self._replace(
            progress=self.progress.model_copy(update={"adaptation": adaptation}), state=state
        )

    def follow(
        self,
        stopping: EarlyStopping,
        result: EpochResult,
        number: int,
        validation: float | None,
        is_validated: bool,
    ) -> tuple[Standing, PyTree]:
        """What the epoch after this point changes of the standing and of the best arrays."""
        standing = self.progress.standing
        if result.adaptation.is_loose:
            return standing.counted_from(number, is_comparable=is_validated), self.best
        if is_validated:
            error, measured = validation, result.learned
        else:
            error = float(result.epoch.evaluation.loss)
            measured = self.learned if result.is_before else result.learned
            if result.failures:
                # What is left out from now on is in no later loss.
                standing = standing.counted_from(number, is_comparable=False)
        if error is None:
            return standing, self.best
        return stopping.after(standing, self.best, number, error, measured)

    def at_best(self, stopping: EarlyStopping, error: float | None) -> Self:
        """The end of a stage: its best arrays, if any error was measured.

        Args:
            stopping: what is best by.
            error: of this point, where it was not measured before.
        """
        standing, best = self.progress.standing, self.best
        if error is not None:
            epoch = self.progress.epoch
            standing, best = stopping.after(standing, best, epoch, error, self.learned)
        return self._replace(
            progress=self.progress.model_copy(update={"standing": standing}),
            learned=self.learned if standing.lowest is None else best,
        )


@final
class Trainer:
    """Trains the learned arrays of a system.

    Args:
        system: the equations; what is learned are the real arrays inside its latents.
        observations: what to fit.
        dt: longest step, for stages that do not set their own; steps follow their error where None.
        stages: one after the other.
        options: how to compute, validate, watch and save.
        on_traced: called with the system as soon as the first epoch's program is known, before it
            is compiled: the time to begin, in a thread, whatever else takes time.

    Raises: InputError for a system with nothing to learn, no stages, a division of the data that
        cannot be, a name that no latent has, or a memory budget that is too small.
    """

    def __init__(
        self,
        system: System,
        observations: Observations,
        dt: float | None,
        stages: Sequence[Stage],
        options: FitOptions = FitOptions(),
        *,
        on_traced: Callable[[System], None] | None = None,
    ) -> None:
        learned, self.known = self.split(system)
        self.learned = strongly_typed(learned)
        if not jax.tree.leaves(self.learned):
            raise InputError(
                "the system has nothing to learn: give a coefficient as a latent (SineField, "
                "Parameter, NeuralClosure)."
            )
        self.stages = compile_stages(self.learned, self.known, observations, dt, stages, options)
        self._observations = observations
        self.options, self._on_traced = options, on_traced
        self.checkpoints = Checkpoints.at(options.checkpoints)
        if options.rescue and any(stage.batches.window is not None for stage in stages):
            raise InputError(
                "a rescue halves steps of the whole span of time, which stages with a window do "
                "not take: leave out the rescue, or the window."
            )
        self._good: Point | None = None
        self._is_place_known = False
        self._adaptation = Adaptation()
        self.choices: list[Choice] = []
        self._verdict = Verdict(observations, self.learned)

    @staticmethod
    def split(system: System) -> tuple[PyTree, System]:
        """What is learned, and the system without it."""
        return eqx.partition(system, learned_mask(system))

    @property
    def remarks(self) -> list[str]:
        """What is to be said of how it ended: a poor fit, a start never left, poor steps."""
        last = self.stages[-1]
        return [
            *self._verdict.remarks(self.learned),
            *last.ringing(self.learned, self._adaptation),
            *last.steps.remarks(self.system),
        ]

    @property
    def system(self) -> System:
        """The system as it is trained by now."""
        return eqx.combine(self.learned, self.known)

    def run(self, *, resume: bool = False) -> System:
        """Train to the end of the last stage and return the trained system.

        With `resume`, goes on from the last checkpoint, where there is one. On an interrupt the
        last completed epoch is saved before the interrupt goes on its way.

        Raises: InputError before the first epoch if checkpoints cannot be written and read back, or
            are of a training on other data or with other known numbers; NumericsError if a loss, a
            gradient or a solve fails; the last arrays that an epoch has found to be good are saved.
        """
        progress = Progress()
        if resume and self.checkpoints and (saved := self.checkpoints.progress()):
            self._check_task(saved, self.checkpoints)
            progress = saved.model_copy(update={"task": None})
            self.learned = self.checkpoints.restore_learned(self.learned)
        began = time.perf_counter() - progress.seconds
        with Interrupts() as interrupts:
            for index in range(progress.stage, len(self.stages)):
                progress = self._run_stage(index, progress, began, interrupts)
        return self.system

    def _run_stage(
        self, index: int, progress: Progress, began: float, interrupts: Interrupts
    ) -> Progress:
        options = self.options
        validation, stopping = options.validation, options.validation.early_stopping
        # Anew for each stage: what was learned may have made the steps stiff.
        adaptation = progress.adaptation
        if progress == Progress():
            # Nothing has been learned since they were found.
            adaptation = adaptation.model_copy(update={"steps": self.stages[index].first})
        adaptation = self.stages[index].begin(self.learned, adaptation)
        compiled, chosen = self.stages[index].settled(self.learned, adaptation)
        self.choices.append(chosen)
        adaptation = adaptation.model_copy(update={"solver": chosen.name})
        stage = compiled.stage
        schedule = options.progressive_tolerance
        if schedule:
            adaptation = schedule.begin(adaptation)
        adaptation = compiled.with_units(self.learned, adaptation)
        # Kept beside the optimiser's state: between two stages what was best is what was learned.
        best = self.learned if stopping else None
        standing = progress.standing
        if progress.stage_epoch and self.checkpoints:
            template = compiled.template(self.learned, adaptation), best
            state, best = self.checkpoints.restore_state(template)
        else:
            state = compiled.init(self.learned, adaptation)
            standing = standing.counted_from(
                progress.epoch, is_comparable=validation.error is not None
            )
        self._verdict.begin_stage()
        update = {"adaptation": adaptation, "standing": standing}
        here = Point(progress.model_copy(update=update), self.learned, state, best)
        if self.checkpoints and not self._is_place_known:
            # Now, and not when hours of training are to be saved.
            self.checkpoints.check_usable(here.learned, (state, best))
            self._is_place_known = True
        try:
            while not (here.progress.stage_epoch >= stage.epochs or here.is_over):
                interrupts.deliver()
                adaptation, number = here.progress.adaptation, here.progress.epoch + 1
                on_traced, self._on_traced = self._on_traced, None
                result = compiled.epoch(
                    here.learned,
                    here.state,
                    adaptation,
                    number,
                    options.rescue,
                    on_traced and partial(on_traced, self.system),
                )
                compiled = result.stage
                self._verdict.after(
                    result.epoch,
                    number,
                    result.is_before,
                    stage.batches.is_whole,
                    result.adaptation.units,
                )
                if result.epoch.stalled:
                    # It may be that looser solves, or steps for what was known earlier, hold it up.
                    adaptation = compiled.with_new_steps(here.learned, result.adaptation)
                    if schedule and result.adaptation.is_loose:
                        adaptation = schedule.tighten(adaptation)
                    if adaptation == result.adaptation:
                        break
                    fresh = compiled.refresh(here.learned, here.state, adaptation)
                    here = here.adapted(adaptation, fresh)
                    continue
                last = here.progress.stage_epoch + 1 == stage.epochs
                error = self._error(result.learned, number, last)
                seconds = time.perf_counter() - began
                if stopping:
                    standing, best = here.follow(
                        stopping, result, number, error, validation.error is not None
                    )
                stopped = standing.is_over
                self._watch(result.record(number, stage.optimiser.name, error, seconds, stopped))
                adaptation, state = result.adaptation, result.state
                if schedule:
                    adaptation = schedule.after(adaptation, float(result.epoch.evaluation.loss))
                stage_epoch = here.progress.stage_epoch + 1
                if not last:
                    adaptation = compiled.go_on(result.learned, adaptation, stage_epoch)
                if not adaptation.asks_the_same_as(result.adaptation):
                    state = compiled.refresh(result.learned, state, adaptation)
                progress = Progress(
                    epoch=number,
                    stage=index,
                    stage_epoch=stage_epoch,
                    seconds=seconds,
                    adaptation=adaptation,
                    standing=standing,
                    stopped_early=here.progress.stopped_early or stopped,
                )
                self._good, here = here, Point(progress, result.learned, state, best)
                if not (last or stopped) and self._is_time_to_save(number):
                    self._save(here, interrupts)
            if stopping:
                # A stage that could not go on has ended at any epoch.
                stalled = not here.is_over and here.progress.stage_epoch < stage.epochs
                number = here.progress.epoch
                unknown = stalled and number % validation.every != 0
                error = self._error(here.learned, number, last=True) if unknown else None
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
        self.learned, self._adaptation = here.learned, here.progress.adaptation
        update = {"stage": index + 1, "stage_epoch": 0, "finished": index + 1 == len(self.stages)}
        update["adaptation"] = here.progress.adaptation.for_next_stage()
        ended = here.progress.model_copy(update=update)
        self._save(here._replace(progress=ended), interrupts)
        return ended

    def _error(self, learned: PyTree, number: int, last: bool) -> float | None:
        """What the validation gives, in epochs in which there is one."""
        validation = self.options.validation
        if validation.error is None or not (last or number % validation.every == 0):
            return None
        try:
            return validation.error(eqx.combine(learned, self.known))
        except NumericsError as error:
            raise NumericsError(f"epoch {number}, validation: {error}") from None

    def _watch(self, record: EpochRecord) -> None:
        if self.options.watch:
            self.options.watch(record)

    def _is_time_to_save(self, number: int) -> bool:
        return self.checkpoints is not None and number % self.checkpoints.every == 0

    @cached_property
    def _task(self) -> Task:
        """What is trained on: found once, where checkpoints are kept."""
        return Task.of(self._observations, self.known, self.known.initial)

    def _check_task(self, saved: Progress, checkpoints: Checkpoints) -> None:
        """Refuse to go on from what was learned of something else.

        Raises: InputError.
        """
        if saved.task and (difference := self._task.difference(saved.task)):
            raise InputError(
                f"{checkpoints.newest()} is of a training on {difference}: what was learned there "
                "says nothing of this one. Save to another folder, or remove this one to train "
                "anew."
            )

    def _save(self, point: Point, interrupts: Interrupts) -> None:
        if self.checkpoints:
            progress = point.progress.model_copy(update={"task": self._task})
            with interrupts.held_back():
                self.checkpoints.save(progress, point.learned, (point.state, point.best))
