"""Systems that were trained from different first weights: what they agree on, and how far."""

from typing import NamedTuple, final

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array

from impindiff._types import Scalar
from impindiff.coefficients import Instant
from impindiff.latent import learned
from impindiff.systems._system import System


class Spread(NamedTuple):
    """Mean and standard deviation over members, the latter of a sample: over one less than all."""

    mean: Array
    std: Array


@final
class Ensemble(eqx.Module):
    """Systems that differ in their learned arrays only.

    Attributes:
        systems: all as one, whose learned arrays have the members along a leading axis.
        seeds: that of each member.
        diverged: seed and reason of members whose training failed, and which are not among them.
    """

    systems: System
    seeds: tuple[int, ...] = eqx.field(static=True)
    diverged: tuple[tuple[int, str], ...] = eqx.field(static=True, default=())

    @property
    def members(self) -> list[System]:
        """Each system by itself."""
        stacked, known = eqx.partition(self.systems, learned(self.systems))
        return [
            eqx.combine(jax.tree.map(lambda a, i=i: a[i], stacked), known)
            for i in range(len(self.seeds))
        ]

    def latents(self, time: Scalar | Instant | float | None = None) -> dict[str, Spread]:
        """Values of the learned coefficients on the grid, by name."""
        values = [member.latents(time) for member in self.members]
        stacked = {name: jnp.stack([v[name] for v in values]) for name in values[0]}
        return {name: Spread(a.mean(0), a.std(0, ddof=1)) for name, a in stacked.items()}
