"""Random waves that drift: coefficients that vary in time, to make data from."""

from dataclasses import dataclass
from typing import Self, final

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from impindiff._types import Scalar
from impindiff.grid import Grid


@final
@dataclass(frozen=True)
class Drift:
    r"""$s + c \sum_j a_j \sin(2\pi(\mathbf m_j\cdot\mathbf x + r_j t) + \varphi_j)$ on a grid.

    Attributes:
        sines: $\sin 2\pi\,\mathbf m_j\cdot\mathbf x$.
        cosines: the same of the cosine.
        amplitudes: $a$.
        rates: $r$, in turns per unit of time.
        phases: $\varphi$.
        low: the least of the sum over space and time.
        high: the largest.
    """

    sines: np.ndarray
    cosines: np.ndarray
    amplitudes: np.ndarray
    rates: np.ndarray
    phases: np.ndarray
    low: float = 0.0
    high: float = 1.0

    @classmethod
    def draw(
        cls,
        grid: Grid,
        count: int,
        max_mode: int,
        max_rate: float,
        times: np.ndarray,
        rng: np.random.Generator,
    ) -> Self:
        """Random waves, scaled to [0, 1] over all `times`; see `sine_waves`."""
        modes = rng.integers(0, max_mode + 1, (count, grid.num_axes))
        amplitudes = rng.uniform(-1, 1, count)
        phases = rng.uniform(0, 2 * np.pi, count)
        rates = rng.uniform(-max_rate, max_rate, count)
        place = np.stack(np.broadcast_arrays(*grid.centres()))
        angles = 2 * np.pi * np.tensordot(modes, place, 1)
        waves = cls(np.sin(angles), np.cos(angles), amplitudes, rates, phases)
        values = np.stack([np.asarray(waves(time)) for time in times])
        parts = waves.sines, waves.cosines, amplitudes, rates, phases
        return cls(*parts, float(values.min()), float(values.max()))

    def __call__(self, time: Scalar | float) -> Float[Array, "..."]:
        """The values at a time.

        By the sine of a sum: the waves are evaluated once, and each time costs a sum of them.
        """
        phase = 2 * np.pi * self.rates * jnp.asarray(time) + self.phases
        total = jnp.tensordot(self.amplitudes * jnp.cos(phase), self.sines, 1)
        total += jnp.tensordot(self.amplitudes * jnp.sin(phase), self.cosines, 1)
        return (total - self.low) / (self.high - self.low)
