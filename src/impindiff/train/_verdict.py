"""What is to be said of how a training ended: that it fits poorly, or never left its start."""

import math
from collections.abc import Sequence
from typing import final

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import PyTree

from impindiff.latent import latents_of
from impindiff.linear import tolerance_of
from impindiff.train._observations import Observations
from impindiff.train._optimisers import Epoch

# Residuals of twice the stated noise: few users know theirs to better than that.
_POOR = 4.0
# Standard deviations of chi squared above 1, for few readings.
_BEYOND_CHANCE = 5.0
# Share of the loss, and of a learned number, below which nothing has changed.
_NOTHING = 1e-6
# Fall of the loss over a tenth of the last stage, as a share of it, that is still a way down.
_STILL_FALLING = 0.01


@final
class Verdict:
    """Follows a training, and says at its end what is to be said.

    Args:
        observations: what is fitted.
        learned: the learned arrays at the start.
    """

    def __init__(self, observations: Observations, learned: PyTree) -> None:
        self._has_noise = bool(observations.deviations)
        self._has_penalties = bool(observations.penalties)
        self._count = sum(int(jnp.sum(~jnp.isnan(u))) for u in observations.observed.values())
        self._start = jax.device_get(learned)
        self._losses: list[float] = []
        self._flat: list[str] = []
        self._drifts = False
        self._is_comparable = True
        # The loss of a fit that is as good as steps are solved.
        dtypes = [leaf.dtype for leaf in jax.tree.leaves(self._start)] or [np.dtype(np.float32)]
        self._exact = 100 * tolerance_of(None, np.result_type(*dtypes)) ** 2

    def begin_stage(self) -> None:
        """Forget losses that are not of the same steps."""
        self._losses = []

    def after(self, epoch: Epoch, number: int, is_before: bool, is_whole: bool) -> None:
        """An epoch that counted.

        Args:
            epoch: on the host.
            number: counted from 1 over all stages; the first shows the start.
            is_before: whether its loss and gradient are those before its update.
            is_whole: whether they are of all data at once.
        """
        evaluation = epoch.evaluation
        if number == 1:
            self._flat = _flat_latents(evaluation.gradient, float(evaluation.loss))
            # Adam takes steps of one length along a slope of any size, be it one of round-off.
            self._drifts = is_before
        self._is_comparable = is_whole
        self._losses.append(float(evaluation.loss))

    def remarks(self, learned: PyTree) -> list[str]:
        """A sentence or two for each thing that is wrong; none where nothing is.

        Args:
            learned: the learned arrays at the end.
        """
        return [text for text in (self._of_start(learned), self._of_fit()) if text]

    def _of_start(self, learned: PyTree) -> str:
        still = _unmoved(self._start, jax.device_get(learned))
        names = [name for name in self._flat if self._drifts or name in still]
        if not names or (self._losses and self._losses[-1] <= self._exact):
            return ""
        return (
            f"the loss had no slope by {', '.join(map(repr, names))} where training began, and "
            "nothing was learned of it. Either (a) the start is so far off that the forecast no "
            "longer depends on it: start elsewhere; (b) nothing observed depends on it: observe "
            "more, or give it as known; or (c) the start is already the best value."
        )

    def _of_fit(self) -> str:
        if not (self._has_noise and self._losses and self._is_comparable):
            return ""
        chi2 = self._losses[-1]
        if not chi2 > max(_POOR, 1 + _BEYOND_CHANCE * math.sqrt(2 / max(self._count, 1))):
            return ""
        penalised = ", penalties included" if self._has_penalties else ""
        return (
            f"the training ended at a poor fit: chi squared per reading is {chi2:.3g}{penalised} "
            f"({self._count:,} readings), where a fit as good as the stated noise has about 1. "
            f"{self._remedy()}"
        )

    def _remedy(self) -> str:
        tenth = max(1, len(self._losses) // 10)
        if len(self._losses) > tenth:
            before, last = self._losses[-1 - tenth], self._losses[-1]
            if before - last > _STILL_FALLING * before:
                return (
                    f"The loss was still falling, by {100 * (1 - last / before):.0f} % over the "
                    f"last {tenth} of {len(self._losses)} epochs of the last stage: give it more."
                )
        return (
            "The loss had settled: either (a) this is a local minimum: start elsewhere, or train "
            "from several starts (fit_ensemble); (b) the equations, the grid or the steps do not "
            "describe what was measured; or (c) the noise is larger than stated."
        )


def _flat_latents(gradient: PyTree, loss: float) -> list[str]:
    """Latents whose whole slope, by numbers that are learned near 1, drowns in round-off."""
    found = []
    for latent in latents_of(gradient):
        leaves = [np.asarray(leaf) for leaf in jax.tree.leaves(latent)]
        if leaves and max(np.abs(leaf).max(initial=0.0) for leaf in leaves) <= _NOTHING * loss:
            found.append(", ".join(latent.names))
    return found


def _unmoved(start: PyTree, end: PyTree) -> Sequence[str]:
    """Latents whose learned numbers are those that training began with."""
    found = []
    for before, after in zip(latents_of(start), latents_of(end), strict=True):
        pairs = zip(jax.tree.leaves(before), jax.tree.leaves(after), strict=True)
        if all(np.all(np.abs(b - a) <= _NOTHING * (1 + np.abs(a))) for a, b in pairs):
            found.append(", ".join(before.names))
    return found
