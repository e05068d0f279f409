"""A stage as compiled functions, and an epoch of it, done again where a rescue has a remedy."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any, NamedTuple, final

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import PyTree

from impindiff._errors import InputError
from impindiff._types import State
from impindiff.integrate import AbstractStepper
from impindiff.linear import AdjointOutcome
from impindiff.rollout import (
    Choice,
    MemoryPolicy,
    Snapshots,
    TimeGrid,
    Trajectory,
    cause_of,
    find_ringing,
    has_failed_solve,
    may_ring,
    select_for_samples,
    simulate,
)
from impindiff.systems import System
from impindiff.train._adaptation import Adaptation, Rescue, SolveFailure
from impindiff.train._batches import Batches, Batching, Order
from impindiff.train._by_name import moving
from impindiff.train._diagnosis import check_epoch, check_expected
from impindiff.train._epoch import Fixed, init, refresh, update
from impindiff.train._fit_options import EpochRecord, FitOptions
from impindiff.train._memory_plan import Work, choose_policy
from impindiff.train._objective import Evaluation, Trial
from impindiff.train._observations import Observations, listed
from impindiff.train._optimisers import Epoch
from impindiff.train._stages import Stage
from impindiff.train._time_steps import AbstractSteps, Steps, is_due, steps_of
from impindiff.train._units import Look, are_wanted, find_units, unknown_units


class EpochResult(NamedTuple):
    """An epoch that succeeded, and what it took; its loss may be that from before its update."""

    learned: PyTree
    state: Any
    epoch: Epoch
    adaptation: Adaptation
    failures: list[SolveFailure]
    is_before: bool
    stage: "CompiledStage"

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
class CompiledStage:
    """What stays the same through a stage, and what its compiled functions do with it.

    Attributes:
        stage: as it was given.
        stepper: advances one step.
        steps: how its steps come about.
        known: the system without its learned arrays.
        observations: what is fitted.
        memory: which states are kept for the gradient.
        samples_at_once: how many samples' states are held at a time; all where None.
        seed: of the order of batches.
        first: the steps where training begins, see `AbstractSteps.find`.
        fallback: a stepper to go on with where a solve fails, see `Choice.fallback`.
    """

    stage: Stage
    stepper: AbstractStepper
    steps: AbstractSteps
    known: System
    observations: Observations
    memory: MemoryPolicy
    samples_at_once: int | None
    seed: int
    first: Steps = ()
    fallback: AbstractStepper | None = None
    _made: dict[tuple[Steps, tuple[int, ...]], Batches] = field(default_factory=dict)

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
    ) -> EpochResult:
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
                adaptation, epoch.evaluation, self.steps.whole(adaptation.steps)
            )
            if not remedied:
                is_before = self.stage.optimiser.loss_is_before
                point = learned if is_before else updated[0]
                check_epoch(epoch, number, grids, partial(self._cause, point, data))
                return EpochResult(
                    updated[0], updated[1], epoch, adaptation, failures, is_before, self
                )
            adaptation, found = remedied
            failures += found
            state = self.refresh(learned, state, adaptation)

    def with_units(self, learned: PyTree, adaptation: Adaptation) -> Adaptation:
        """With the units of what is learned, where the optimiser takes them and none are known."""
        moved, still = self.fixed.split(learned)
        if not self.stage.optimiser.takes_units or not are_wanted(moved, adaptation.units):
            return adaptation
        units = adaptation.units or unknown_units(learned)
        trying = adaptation.model_copy(update={"units": units})
        trial = trying.trial(self.observations.num_samples, is_held=True)
        state = self.init(learned, trying)
        data, order, _ = self.data(1, trying)

        def look(at: PyTree) -> Look:
            *_, epoch = update(self.fixed, data, order, trial, eqx.combine(at, still), state)
            return Look.at(epoch.evaluation)

        return adaptation.model_copy(update={"units": find_units(look, moved, units)})

    def _cause(self, learned: PyTree, data: Batches, sample: int, step: int) -> str:
        """What of the system is not finite at a step; nothing where data come in batches."""
        if not data.is_whole:
            return ""
        batch = data.first
        grid = batch.time_grid
        initial, given = jax.tree.map(lambda u: u[sample], (batch.initial, batch.sample_parameters))
        system = self._system(learned).with_sample_parameters(given)
        dtype = next(iter(initial.values())).dtype
        initial |= system.start(grid.starts[0], dtype)
        return cause_of(system, initial, self.stepper, grid, step + 1)

    def begin(self, learned: PyTree, adaptation: Adaptation) -> Adaptation:
        """With the steps that are taken until they are found again; those known already stay.

        Raises: NumericsError where steps that follow their error cannot be taken.
        """
        steps = adaptation.steps or self.steps.find(self._system(learned), adaptation.masked)
        return adaptation.model_copy(update={"steps": steps})

    def go_on(self, learned: PyTree, adaptation: Adaptation, epochs: int) -> Adaptation:
        """The same after so many epochs of the stage; unchanged where steps are not due."""
        return self.with_new_steps(learned, adaptation) if is_due(epochs) else adaptation

    def with_new_steps(self, learned: PyTree, adaptation: Adaptation) -> Adaptation:
        """With the steps that what is learned by now asks for, see `AbstractSteps.find_again`."""
        found = self.steps.find_again(self._system(learned), adaptation.steps, adaptation.masked)
        if found == adaptation.steps:
            return adaptation
        # Those that had to be halved were others.
        return adaptation.model_copy(update={"steps": found, "halvings": ()})

    def settled(self, learned: PyTree, adaptation: Adaptation) -> tuple["CompiledStage", Choice]:
        """The stage with its steps' solver chosen, for what is learned by now, or as it was before.

        Chosen from the first sample, by the steps that no remedy has halved.
        """
        system, initial, steps = self._first_sample(learned, adaptation)
        initial = {field: u[None] for field, u in initial.items()}
        chosen = select_for_samples(system, initial, steps, self.stepper, named=adaptation.solver)
        return replace(self, stepper=chosen.stepper, fallback=chosen.fallback), chosen

    def ringing(self, learned: PyTree, adaptation: Adaptation) -> tuple[str, ...]:
        """What is to be said of steps that ring in the first sample, see `find_ringing`.

        The sample is simulated where its start has a fast part, and not otherwise.
        """
        if not self.stepper.rings:
            return ()
        system, initial, steps = self._first_sample(learned, adaptation)
        dynamics = system.prepare(jnp.result_type(*initial.values()))
        if not may_ring(dynamics, initial, steps, self.stepper):
            return ()
        found = _run(system, initial, steps, self.stepper)
        return find_ringing(dynamics, initial, found.states, steps, self.stepper)

    def _system(self, learned: PyTree) -> System:
        return eqx.combine(learned, self.known)

    def _first_sample(
        self, learned: PyTree, adaptation: Adaptation
    ) -> tuple[System, State, TimeGrid]:
        """The system of the first sample, where it starts, and its steps."""
        observed = self.observations
        initial, given = jax.tree.map(
            lambda u: u[0], (observed.initial, observed.sample_parameters)
        )
        system = self._system(learned).with_sample_parameters(given)
        steps, dtype = self.steps.whole(adaptation.steps), next(iter(initial.values())).dtype
        return system, initial | system.start(float(steps.starts[0]), dtype), steps

    @property
    def fixed(self) -> Fixed:
        """What its compiled functions are given."""
        return Fixed(self.stage, self.stepper, self.known, self.memory, self.samples_at_once)

    def data(self, number: int, adaptation: Adaptation) -> tuple[Batches, Order, list[TimeGrid]]:
        """The training data of an epoch, the order of batches, the steps in each window."""
        data = self._data(adaptation)
        return data, data.order((self.seed, number)), data.grids

    def _data(self, adaptation: Adaptation) -> Batches:
        """The training data with the steps that are to be taken; made once for each."""
        key = adaptation.steps, adaptation.halvings
        if key not in self._made:
            grids = [grid.halved(adaptation.halvings) for grid in self.steps.grids(key[0])]
            self._made[key] = Batches.make(self.observations, grids, self.stage.batches)
        return self._made[key]

    def _trial(self, adaptation: Adaptation) -> Trial:
        return adaptation.trial(self.observations.num_samples)


@eqx.filter_jit
def _run(
    system: System, initial: State, time_grid: TimeGrid, stepper: AbstractStepper
) -> Trajectory:
    return simulate(system, initial, time_grid, stepper, on_failure="keep")


def _failed(evaluation: Evaluation) -> bool:
    """Whether a solve missed its tolerance, forward or adjoint."""
    adjoint = np.asarray(evaluation.adjoint)
    return has_failed_solve(evaluation.outcome) or bool((adjoint[..., 2] > 0).any())


def compile_stages(
    learned: PyTree,
    known: System,
    observations: Observations,
    dt: float | None,
    stages: Sequence[Stage],
    options: FitOptions,
) -> list[CompiledStage]:
    """The stages of a training, with the memory policy that is left to each.

    What is refused is refused before the first of them begins.

    Args:
        learned: the learned arrays of a system.
        known: the system without them.
        observations: what to fit.
        dt: longest step, for stages that do not set their own; steps follow their error where None.
        stages: one after the other.
        options: how to compute.

    Raises: InputError for no stages, data beyond what learned functions expect, a division of the
        data that cannot be, a name that no latent has, or a memory budget that is too small.
    """
    stages = listed(stages, Stage, "stages", "[Stage(Adam(), 100)]")
    if not stages:
        raise InputError("training needs at least one stage, such as Stage(Adam(), 100).")
    system = eqx.combine(learned, known)
    check_expected(system, observations)
    policies: dict[tuple[float | None, Batching, tuple[str, ...]], tuple[MemoryPolicy, Steps]] = {}
    compiled = []
    for stage in stages:
        moved, still = eqx.partition(learned, moving(learned, stage.freeze))
        stage.optimiser.check(moved)
        if known.initial and stage.batches.window is not None:
            raise InputError(
                f"the system gives initial values of {', '.join(known.initial)}, and windows begin "
                "at later states: leave out the window, or Field(..., initial=...)."
            )
        stage.batches.check(observations)
        longest = stage.dt or dt
        stepper = options.stepper_for(longest)
        steps = steps_of(observations, stage.batches, longest, stepper, options.control)
        key = (longest, stage.batches, stage.freeze)
        if key not in policies:
            first = steps.find(system)
            grids = steps.grids(first)
            batch = Batches.make(observations, grids, stage.batches).first
            frozen, at_once = eqx.combine(still, known), options.samples_at_once
            work = Work(moved, frozen, batch, stepper, at_once)
            memory = options.memory
            if longest is None and isinstance(memory, Snapshots):
                # How many steps there are nobody can know beforehand.
                memory = Snapshots(min(memory.count, work.num_steps))
            policies[key] = choose_policy(work, memory), first
        policy, first = policies[key]
        compiled.append(
            CompiledStage(
                stage,
                stepper,
                steps,
                known,
                observations,
                policy,
                options.samples_at_once,
                options.seed,
                first,
            )
        )
    return compiled
