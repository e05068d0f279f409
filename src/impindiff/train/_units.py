r"""Units of what is learned, for optimisers that step by learned numbers as if they were near 1.

A latent without bounds has its values' unit in its learned arrays: $w = s\,v$, and what an
optimiser changes is $v$. The unit $s$ is found where training begins, from the loss $L$ and its
slope $g$ by the latent's arrays:

$$ s = 2 L / |g|, $$

the length of the step along $-g$ on which a sum of squares would fall to zero if its residuals were
linear and pointed along their derivative. It is an upper bound of the best step, so it is divided
by four until the loss falls by a quarter of what the slope promises. A unit near 1 is left at 1,
and all are powers of two, so that a unit costs no digit.

For this all readings of an instrument weigh the same. Where the smallest weigh most, by their noise
or because a batch is compared with its own size, the slope is theirs, and so would be the unit.
The components of a latent share it.

Reference: Polyak's step, Introduction to Optimization (1987), section 5.3.
"""

import math
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import NamedTuple, final

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, PyTree

from impindiff._types import Scalar
from impindiff.latent import AbstractLatent, is_latent, latents_of
from impindiff.observe import misfit_scale
from impindiff.rollout import StepOutcome
from impindiff.train._objective import AbstractObjective, Evaluation, TrainingLoss
from impindiff.train._observations import Observations

Units = tuple[float, ...]
"""One for each latent, in their order in the system; `UNKNOWN` for what has not changed yet."""

UNKNOWN = 0.0

# A learning rate that suits numbers near 1 also suits those of ten.
_NEAR_ONE = 16.0
# Share of what the slope promises by which the loss must fall.
_SUFFICIENT_DECREASE = 0.25
# By which a step is shortened, and how often: float32 still sees the loss fall.
_FACTOR, _MOST_TRIALS = 4.0, 8


class Look(NamedTuple):
    """A loss and its gradient, on the host."""

    loss: float
    gradient: PyTree
    is_finite: bool

    @classmethod
    def at(cls, evaluation: Evaluation) -> "Look":
        """What an evaluation says; NaN and failed solves are not finite."""
        is_finite = bool(evaluation.is_finite)
        loss, gradient = jax.device_get((evaluation.loss, evaluation.gradient))
        return cls(float(loss), gradient, is_finite)


@final
class InUnits(AbstractObjective):
    """An objective of learned numbers in their units.

    Attributes:
        objective: of the learned arrays themselves.
        units: by which numbers are multiplied, of the learned arrays' structure.
        held: learned arrays to stay at, whatever it is called with, if `is_held`.
        is_held: whether it is only looked at.
    """

    objective: AbstractObjective
    units: PyTree
    held: PyTree
    is_held: Bool[Array, ""]

    def __call__(self, learned: PyTree) -> Evaluation:
        """The loss and its gradient by the numbers in their units."""
        evaluation = self.objective(self.arrays(learned))
        slope = jax.tree.map(jnp.multiply, evaluation.gradient, self.units)
        return eqx.tree_at(lambda e: e.gradient, evaluation, slope)

    def value(self, learned: PyTree) -> tuple[Scalar, StepOutcome]:
        """See `AbstractObjective.value`."""
        return self.objective.value(self.arrays(learned))

    def arrays(self, numbers: PyTree) -> PyTree:
        """The learned arrays of numbers in their units."""
        return jax.tree.map(
            lambda held, number, unit: jnp.where(self.is_held, held, number * unit),
            self.held,
            numbers,
            self.units,
        )


def weighed_evenly(
    objective: TrainingLoss, observations: Observations, where: Bool[Array, ""]
) -> TrainingLoss:
    """With the same weight for all readings of an instrument, where told to.

    Args:
        objective: of a batch.
        observations: what the batch is a part of.
        where: otherwise the weights stay what they are.
    """
    batch, everything = objective.batch, observations.observed
    # The mean over batches is then as large beside the penalties as the loss on all.
    share = max(batch.observed[name].size / everything[name].size for name in everything)
    scales = misfit_scale(everything, observations.deviations)
    scale = {
        name: jnp.where(where, scales[name] * share**0.5, old)
        for name, old in objective.scale.items()
    }

    def typical(name: str) -> Scalar:
        seen = ~jnp.isnan(everything[name])
        deviations = jnp.broadcast_to(observations.deviations[name], seen.shape)
        return jnp.sum(jnp.where(seen, deviations, 0)) / jnp.maximum(jnp.sum(seen), 1)

    deviations = {
        name: jnp.where(where, typical(name), old).astype(old.dtype)
        for name, old in batch.deviations.items()
    }
    return replace(objective, batch=replace(batch, deviations=deviations), scale=scale)


def unit_of_each(learned: PyTree, units: tuple[Scalar, ...]) -> PyTree:
    """For each learned array the number that it is a multiple of: 1 for those without a unit."""
    left: Iterator[Scalar] = iter(units)

    def of(node: object) -> PyTree:
        if not isinstance(node, AbstractLatent):
            return node
        unit, having = next(left), _having_units(node)
        known = unit != UNKNOWN
        return jax.tree.map(
            lambda leaf: jnp.where(known & _is_one_of(leaf, having), unit, 1).astype(leaf.dtype),
            node,
        )

    return jax.tree.map(of, learned, is_leaf=is_latent)


def are_wanted(learned: PyTree, units: Units) -> bool:
    """Whether any of the arrays has a unit that is not known.

    Args:
        learned: the arrays that are about to be changed.
        units: those that are known.
    """
    latents = latents_of(learned)
    known = units or (UNKNOWN,) * len(latents)
    return any(
        unit == UNKNOWN and _slopes(latent, latent)
        for latent, unit in zip(latents, known, strict=True)
    )


def find_units(look: Callable[[PyTree], Look], learned: PyTree, units: Units) -> Units:
    """Those of `units` that are unknown, where arrays have them: 1 where none can be found.

    Args:
        look: gives the loss and its gradient, on the host.
        learned: the arrays that are about to be changed.
        units: those that are known.
    """
    here = look(learned)
    if not here.is_finite:
        return units
    found = list(units)
    pairs = zip(latents_of(learned), latents_of(here.gradient), strict=True)
    for number, (latent, slope) in enumerate(pairs):
        slopes = _slopes(latent, slope)
        if units[number] == UNKNOWN and slopes:
            found[number] = _unit(look, learned, number, slopes, here.loss)
    return tuple(found)


def _unit(
    look: Callable[[PyTree], Look],
    learned: PyTree,
    number: int,
    slopes: list[Array | np.ndarray],
    loss: float,
) -> float:
    """That of one latent, by the slopes of its arrays that have one."""
    peak = max((float(np.abs(slope).max(initial=0.0)) for slope in slopes), default=0.0)
    if not peak > 0:
        return 1.0
    # By the largest first: squares of single precision underflow.
    directions = [np.asarray(np.asarray(slope, float) / peak) for slope in slopes]
    length = math.sqrt(sum(float(np.sum(direction**2)) for direction in directions))
    steepness = peak * length
    unit = 2 * loss / steepness
    if 1 / _NEAR_ONE <= unit <= _NEAR_ONE:
        return 1.0
    for _ in range(_MOST_TRIALS):
        found = look(_moved(learned, number, directions, unit / length))
        if found.is_finite and found.loss <= loss - _SUFFICIENT_DECREASE * unit * steepness:
            break
        unit /= _FACTOR
    else:
        # Along its slope nothing is gained: what is small stays small, as the bound on it says.
        unit = min(unit, 1.0)
    return 1.0 if 1 / _NEAR_ONE <= unit <= _NEAR_ONE else 2.0 ** round(math.log2(unit))


def _moved(learned: PyTree, number: int, directions: list[np.ndarray], length: float) -> PyTree:
    """The learned arrays after a step of one latent against given directions."""
    left, count = iter(directions), iter(range(len(latents_of(learned))))

    def of(node: object) -> PyTree:
        if not isinstance(node, AbstractLatent) or next(count) != number:
            return node
        having = _having_units(node)
        return jax.tree.map(
            lambda leaf: (
                leaf - jnp.asarray(length * next(left), leaf.dtype)
                if _is_one_of(leaf, having)
                else leaf
            ),
            node,
        )

    return jax.tree.map(of, learned, is_leaf=is_latent)


def _slopes(latent: AbstractLatent, slope: AbstractLatent) -> list[Array | np.ndarray]:
    """Of the slopes by a latent's arrays, those by the arrays that have a unit."""
    having = _having_units(latent)
    pairs = zip(jax.tree.leaves(latent), jax.tree.leaves(slope), strict=True)
    return [slope for leaf, slope in pairs if _is_one_of(leaf, having)]


def _having_units(latent: AbstractLatent) -> tuple[Array, ...]:
    """The arrays of a latent that have its unit; none of one that is frozen, and so not there."""
    return latent.in_unit_of_values if jax.tree.leaves(latent) else ()


def _is_one_of(leaf: Array, others: tuple[Array, ...]) -> bool:
    return any(leaf is other for other in others)
