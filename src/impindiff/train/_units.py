r"""Units of what is learned, for optimisers that step by learned numbers as if they were near 1.

A latent without bounds has its values' unit in its learned arrays: $w = s\,v$, and what an
optimiser changes is $v$. Each of its components has a unit $s$ of its own, which is found where
training begins, from the loss $L$ and its slope $g$ by the component's part of the arrays:

$$ s = 2 L / |g|, $$

the length of the step along $-g$ on which a sum of squares would fall to zero if its residuals were
linear and pointed along their derivative. It is an upper bound of the best step, so it is divided
by four until the loss falls by a quarter of what the slope promises. A unit near 1 is left at 1,
and all are powers of two, so that a unit costs no digit.

For this all readings of an instrument weigh the same. Where the smallest weigh most, by their
noise, the slope is theirs, and so would be the unit.

Reference: Polyak's step, Introduction to Optimization (1987), section 5.3.
"""

import itertools
import math
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any, NamedTuple, final

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, PyTree

from impindiff._types import Scalar
from impindiff.latent import AbstractLatent, is_latent, latents_of
from impindiff.rollout import StepOutcome
from impindiff.train._objective import AbstractObjective, Evaluation, TrainingLoss
from impindiff.train._observations import Observations

Units = tuple[float, ...]
"""One for each component of each latent, in their order in the system.

`UNKNOWN` for what has not changed yet.
"""

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

    def typical(name: str) -> Scalar:
        seen = ~jnp.isnan(everything[name])
        deviations = jnp.broadcast_to(observations.deviations[name], seen.shape)
        return jnp.sum(jnp.where(seen, deviations, 0)) / jnp.maximum(jnp.sum(seen), 1)

    deviations = {
        name: jnp.where(where, typical(name), old).astype(old.dtype)
        for name, old in batch.deviations.items()
    }
    return replace(objective, batch=replace(batch, deviations=deviations))


def unit_of_each(learned: PyTree, units: tuple[Scalar | float, ...]) -> PyTree:
    """For each learned array what it is a multiple of: 1 for those without a unit.

    It is a number, or varies along the axis of the components.
    """
    left: Iterator[Scalar | float] = iter(units)

    def of(node: object) -> PyTree:
        if not isinstance(node, AbstractLatent):
            return node
        known = jnp.stack([next(left) for _ in node.names])
        known = jnp.where(known == UNKNOWN, 1, known)
        leaves, structure = jax.tree.flatten(node)
        each = [jnp.ones((), leaf.dtype) for leaf in leaves]
        for place, axis in _axes(node).items():
            leaf = leaves[place]
            shape = [] if axis is None else [-1 if a == axis else 1 for a in range(leaf.ndim)]
            each[place] = known.reshape(shape).astype(leaf.dtype)
        return jax.tree.unflatten(structure, each)

    return jax.tree.map(of, learned, is_leaf=is_latent)


def unknown_units(learned: PyTree) -> Units:
    """Those of a training that has not begun."""
    return tuple(UNKNOWN for latent in latents_of(learned) for _ in latent.names)


def are_wanted(learned: PyTree, units: Units) -> bool:
    """Whether any of the arrays has a unit that is not known.

    Args:
        learned: the arrays that are about to be changed.
        units: those that are known.
    """
    known = units or unknown_units(learned)
    pairs = zip(_components(learned), known, strict=True)
    return any(unit == UNKNOWN and part.places for part, unit in pairs)


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
    return tuple(
        _unit(look, learned, part, here) if unit == UNKNOWN and part.places else unit
        for part, unit in zip(_components(learned), units, strict=True)
    )


def _unit(look: Callable[[PyTree], Look], learned: PyTree, part: "_Component", here: Look) -> float:
    """That of one component, by the slopes of its part of the arrays."""
    slopes = part.slopes(here.gradient)
    peak = max((float(np.abs(slope).max(initial=0.0)) for slope in slopes), default=0.0)
    if not peak > 0:
        return 1.0
    # By the largest first: squares of single precision underflow.
    directions = [np.asarray(slope / peak) for slope in slopes]
    length = math.sqrt(sum(float(np.sum(direction**2)) for direction in directions))
    steepness = peak * length
    unit = 2 * here.loss / steepness
    if 1 / _NEAR_ONE <= unit <= _NEAR_ONE:
        return 1.0
    for _ in range(_MOST_TRIALS):
        found = look(part.moved(learned, directions, unit / length))
        if found.is_finite and found.loss <= here.loss - _SUFFICIENT_DECREASE * unit * steepness:
            break
        unit /= _FACTOR
    else:
        # Along its slope nothing is gained: what is small stays small, as the bound on it says.
        unit = min(unit, 1.0)
    return 1.0 if 1 / _NEAR_ONE <= unit <= _NEAR_ONE else 2.0 ** round(math.log2(unit))


class _Component(NamedTuple):
    """A component of a latent, as parts of the learned arrays that have its unit.

    Attributes:
        latent: which of the latents.
        places: for each of its arrays in question which one it is, and the component's part of it.
    """

    latent: int
    places: dict[int, Any]

    def slopes(self, gradient: PyTree) -> list[np.ndarray]:
        """Those by its parts of the arrays, in double precision."""
        leaves = jax.tree.leaves(latents_of(gradient)[self.latent])
        return [np.asarray(leaves[place][index], float) for place, index in self.places.items()]

    def moved(self, learned: PyTree, directions: list[np.ndarray], length: float) -> PyTree:
        """The learned arrays after a step of this component against given directions."""
        count = itertools.count()

        def of(node: object) -> PyTree:
            if not isinstance(node, AbstractLatent) or next(count) != self.latent:
                return node
            leaves, structure = jax.tree.flatten(node)
            for (place, index), along in zip(self.places.items(), directions, strict=True):
                leaf = leaves[place]
                leaves[place] = leaf.at[index].add(jnp.asarray(-length * along, leaf.dtype))
            return jax.tree.unflatten(structure, leaves)

        return jax.tree.map(of, learned, is_leaf=is_latent)


def _components(learned: PyTree) -> Iterator[_Component]:
    """All of them, in the order of the units."""
    for number, latent in enumerate(latents_of(learned)):
        axes = _axes(latent)
        for component in range(len(latent.names)):
            places = {
                place: ... if axis is None else (slice(None),) * axis + (component,)
                for place, axis in axes.items()
            }
            yield _Component(number, places)


def _axes(latent: AbstractLatent) -> dict[int, int | None]:
    """For each array that has a unit which one it is, and the axis that counts the components.

    Empty for a latent that is frozen, and so is not there.
    """
    leaves = jax.tree.leaves(latent)
    if not leaves:
        return {}
    return {
        place: axis
        for array, axis in latent.in_unit_of_values
        for place, leaf in enumerate(leaves)
        if leaf is array
    }
