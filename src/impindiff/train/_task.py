"""What a checkpoint was trained on, so that no other training goes on from it.

A script that is run again with other data finds the checkpoints of the first time. A training that
had come to its end would return what was learned then, and look at nothing.
"""

import hashlib
from collections.abc import Mapping
from typing import Any, final

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import PyTree
from pydantic import BaseModel

from impindiff.train._observations import Observations

# Numbers that JAX computed may differ in round-off on another machine.
_RTOL = 1e-4


@final
class Task(BaseModel):
    """The data and the known numbers of a training.

    Attributes:
        data: hash of what is fitted: readings, times, noise, initial fields, sample parameters and
            penalties. In single precision, in which a training may go on.
        known: of each array of known numbers its size, and means that tell it from others.
    """

    data: str
    known: list[list[float]]

    @classmethod
    def of(cls, observations: Observations, known: PyTree, computed: Mapping[str, Any]) -> "Task":
        """That of a training.

        Args:
            observations: what is fitted.
            known: the system without what is learned.
            computed: fields whose initial values are the system's, by name.
        """
        given = {f: u for f, u in observations.initial.items() if f not in computed}
        digest = hashlib.sha256()
        digest.update(np.array([observations.start, *observations.reading_times]).tobytes())
        for arrays in (
            observations.observed,
            observations.deviations,
            observations.sample_parameters,
            given,
        ):
            for name in sorted(arrays):
                values = np.asarray(arrays[name])
                digest.update(f"{name} {values.shape}".encode())
                digest.update(_in_single(values).tobytes())
        digest.update("\n".join(map(eqx.tree_pformat, observations.penalties)).encode())
        numbers = [_means(leaf) for leaf in jax.tree.leaves((known, observations.operators))]
        return cls(data=digest.hexdigest(), known=[each for each in numbers if each])

    def difference(self, other: "Task") -> str | None:
        """What of another task is not as in this one, in words; None where all is."""
        if self.data != other.data:
            return "other data (readings, times, samples, noise, initial fields or penalties)"
        if len(self.known) != len(other.known) or not all(map(_are_alike, self.known, other.known)):
            return "a system with other known numbers"
        return None


def _in_single(values: np.ndarray) -> np.ndarray:
    with np.errstate(over="ignore", under="ignore"):
        return values.astype(np.float32)


def _means(leaf: Any) -> list[float]:
    """Size, mean magnitude, and weighted means of what is above and below 0.

    The weights tell numbers from the same ones in another order.
    """
    if not isinstance(leaf, bool | int | float | np.ndarray | np.generic | jax.Array):
        return []
    if isinstance(leaf, jax.Array) and jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key):
        return []
    values = np.asarray(leaf).astype(np.float64).ravel()
    values = np.where(np.isfinite(values), values, 0.0)  # JSON has no others
    if not values.size:
        return [0.0]
    weights = np.linspace(1, 2, values.size)
    parts = np.abs(values), weights * values.clip(0), weights * -values.clip(None, 0)
    return [float(values.size), *(float(part.mean()) for part in parts)]


def _are_alike(mine: list[float], theirs: list[float]) -> bool:
    if len(mine) != len(theirs) or mine[0] != theirs[0]:
        return False
    round_off = _RTOL * abs(mine[1]) if len(mine) > 1 else 0.0
    return np.allclose(mine, theirs, rtol=0, atol=round_off)
