"""The stages of a training that names none."""

import equinox as eqx
import jax
import numpy as np
from jaxtyping import PyTree

from impindiff.systems import System
from impindiff.train._adam import Adam
from impindiff.train._batch import Batching
from impindiff.train._by_name import moving
from impindiff.train._lbfgs import LBFGS
from impindiff.train._levenberg_marquardt import LevenbergMarquardt
from impindiff.train._observations import Observations
from impindiff.train._optimisers import AbstractOptimiser

# So many derivatives are carried along a rollout at once, at little more than the cost of one.
FEW_UNKNOWNS = 64


def default_stages(
    learned: PyTree,
    known: System,
    observations: Observations,
    *,
    freeze: tuple[str, ...] = (),
    has_rescue: bool = False,
) -> list[AbstractOptimiser]:
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
        freeze: names of latents that keep their values.
        has_rescue: whether steps may be halved, which windows do not allow.
    """
    moved = eqx.filter(learned, moving(learned, freeze))
    if sum(leaf.size for leaf in jax.tree.leaves(moved)) <= FEW_UNKNOWNS:
        return [LevenbergMarquardt(50)]
    has_windows = not (has_rescue or known.initial or known.limits) and _has_states(observations)
    batching = Batching(window=1) if has_windows else Batching()
    return [Adam(100, batching=batching), LBFGS(200)]


def _has_states(observations: Observations) -> bool:
    """Whether a rollout may begin at each observed time, of which there are several."""
    fields, observed = observations.initial, observations.observed
    are_states = all(name in observed and name not in observations.operators for name in fields)
    return (
        are_states
        and len(observations.times) > 1
        and not any(np.isnan(np.asarray(observed[name])).any() for name in fields)
    )
