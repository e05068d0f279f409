"""Stages of a training: all that is said of one stands in its `Stage`."""

from functools import partial
from typing import final

import equinox as eqx
import jax
import numpy as np
from jaxtyping import PyTree

from impindiff._errors import InputError, as_count, as_names, as_number
from impindiff.systems import System
from impindiff.train._adam_and_optax import Adam
from impindiff.train._batches import WHOLE, Batching
from impindiff.train._lbfgs import LBFGS
from impindiff.train._levenberg_marquardt import LevenbergMarquardt
from impindiff.train._observations import Observations
from impindiff.train._optimisers import AbstractOptimiser


@final
class Stage(eqx.Module):
    """A stage of training: an optimiser, how often it is applied, and to what.

    Args:
        optimiser: changes the learned arrays.
        epochs: most epochs; each sees all training samples.
        dt: longest time step in this stage; the training's own where None.
        batches: how the training data are divided, an update for each part; not at all by default,
            and where the optimiser compares losses.
        freeze: names of latents that keep their values in this stage. No gradient is computed for
            them.

    Raises: InputError for no epochs, a step that is not positive, and batches for an optimiser that
        compares losses.
    """

    optimiser: AbstractOptimiser
    epochs: int = eqx.field(
        static=True, converter=partial(as_count, what="the number of epochs of a Stage", least=1)
    )
    dt: float | None = eqx.field(static=True, default=None)
    batches: Batching = WHOLE
    freeze: tuple[str, ...] = eqx.field(
        static=True, default=(), converter=partial(as_names, what="freeze of a Stage")
    )

    def __check_init__(self) -> None:
        """Refuse what does nothing, or does not go together."""
        if not isinstance(self.optimiser, AbstractOptimiser):
            raise InputError(
                f"Stage: {self.optimiser!r:.80} is no optimiser. Give one, such as Adam(), LBFGS() "
                "or Optax(optax.adamw(1e-3)), and then the number of epochs: Stage(Adam(), 100)."
            )
        if self.dt is not None and not as_number(self.dt, "dt of a Stage") > 0:
            raise InputError(f"dt of a Stage is {self.dt}: it must be positive, or left out.")
        if not isinstance(self.batches, Batching):
            raise InputError(
                f"batches of a Stage is {self.batches!r:.60}: give Batching(samples=2), or leave "
                "it out."
            )
        if self.optimiser.needs_all_data and not self.batches.is_whole:
            raise InputError(
                f"Stage: {type(self.optimiser).__name__} compares losses, which must be of the "
                f"same data: leave out batches = {self.batches}, or take Adam or Optax."
            )


# So many derivatives are carried along a rollout at once, at little more than the cost of one.
FEW_UNKNOWNS = 64


def default_stages(
    learned: PyTree,
    known: System,
    observations: Observations,
    *,
    has_rescue: bool = False,
) -> list[Stage]:
    """Stages by how many numbers are learned, and by what was observed.

    - Up to 64: `LevenbergMarquardt`. Curvature is known from the first step on, and the unknowns'
      units do not matter.
    - More: `Adam`, then `LBFGS`. Where all fields were observed in all cells, Adam first learns
      from windows, each from one observed state to the next. Over the whole span, a rate that is
      wrong at first leads to states where the loss has cliffs, beside which a line search ends.

    Args:
        learned: the learned arrays of a system.
        known: the system without them.
        observations: what is fitted.
        has_rescue: whether steps may be halved, which windows do not allow.
    """
    if sum(leaf.size for leaf in jax.tree.leaves(learned)) <= FEW_UNKNOWNS:
        return [Stage(LevenbergMarquardt(), 50)]
    has_windows = not (has_rescue or known.initial or known.limits) and _has_states(observations)
    batches = Batching(window=1) if has_windows else WHOLE
    return [Stage(Adam(), 100, batches=batches), Stage(LBFGS(), 200)]


def _has_states(observations: Observations) -> bool:
    """Whether a rollout may begin at each observed time, of which there are several."""
    fields, observed = observations.initial, observations.observed
    are_states = all(name in observed and name not in observations.operators for name in fields)
    return (
        are_states
        and len(observations.times) > 1
        and not any(np.isnan(np.asarray(observations.states(name))).any() for name in fields)
    )
