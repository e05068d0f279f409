"""One stage of training as compiled functions, and an epoch of it that may be tried again."""

from typing import Any, NamedTuple

import equinox as eqx
import jax
from jaxtyping import PyTree

from impindiff.integrate import AbstractStepper
from impindiff.rollout import MemoryPolicy, TimeGrid
from impindiff.systems import System
from impindiff.train._adaptation import Adaptation, Trial
from impindiff.train._guard import check_epoch
from impindiff.train._objective import make_objective, time_grid_of
from impindiff.train._observations import Observations
from impindiff.train._optimisers import AbstractOptimiser, Epoch
from impindiff.train._rescue import Rescue, SolveFailure


class Tried(NamedTuple):
    """An epoch that succeeded, and what it took."""

    learned: PyTree
    state: Any
    epoch: Epoch
    adaptation: Adaptation
    failures: list[SolveFailure]


class Stage(NamedTuple):
    """What stays the same through a stage."""

    optimiser: AbstractOptimiser
    stepper: AbstractStepper
    dt: float
    frozen: System
    observations: Observations
    memory: MemoryPolicy

    @property
    def time_grid(self) -> TimeGrid:
        """The steps before any was halved."""
        return time_grid_of(self.observations, self.dt)

    def init(self, learned: PyTree, adaptation: Adaptation) -> Any:
        """The optimiser's first state."""
        return _init(*self, self._trial(adaptation), learned)

    def template(self, learned: PyTree, adaptation: Adaptation) -> Any:
        """Shapes of the optimiser's state."""
        return eqx.filter_eval_shape(_init, *self, self._trial(adaptation), learned)

    def refresh(self, learned: PyTree, state: Any, adaptation: Adaptation) -> Any:
        """The optimiser's state after another adaptation."""
        return _refresh(*self, self._trial(adaptation), learned, state)

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
        while True:
            updated = _update(*self, self._trial(adaptation), learned, state)
            epoch = jax.device_get(updated[2])
            remedied = rescue and rescue.remedy(adaptation, epoch.evaluation, self.time_grid)
            if not remedied:
                check_epoch(epoch, number, self.time_grid.halved(adaptation.halvings))
                return Tried(updated[0], updated[1], epoch, adaptation, failures)
            adaptation, found = remedied
            failures += found
            state = self.refresh(learned, state, adaptation)

    def _trial(self, adaptation: Adaptation) -> Trial:
        num_samples = len(jax.tree.leaves(self.observations.initial)[0])
        return adaptation.trial(num_samples)


# At module level, so that a second training of the same shape need not compile again.
@eqx.filter_jit
def _init(optimiser, stepper, dt, frozen, observations, memory, trial, learned):
    objective = make_objective(frozen, observations, stepper, dt, trial, memory)
    return strongly_typed(optimiser.init(objective, learned))


@eqx.filter_jit
def _refresh(optimiser, stepper, dt, frozen, observations, memory, trial, learned, state):
    objective = make_objective(frozen, observations, stepper, dt, trial, memory)
    return strongly_typed(optimiser.refresh(objective, learned, state))


@eqx.filter_jit
def _update(optimiser, stepper, dt, frozen, observations, memory, trial, learned, state):
    objective = make_objective(frozen, observations, stepper, dt, trial, memory)
    return strongly_typed(optimiser.update(objective, learned, state))


def strongly_typed(tree: PyTree) -> PyTree:
    """Without weak types, which a checkpoint cannot hold: what is restored is what was saved."""
    return jax.tree.map(lambda leaf: jax.lax.convert_element_type(leaf, leaf.dtype), tree)
