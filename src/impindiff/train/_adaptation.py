"""What training changes of its own accord: steps halved, samples left out, looser solves."""

from typing import Self, final

import equinox as eqx
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float
from pydantic import BaseModel, ConfigDict


@final
class Trial(eqx.Module):
    """The same for compiled code.

    Attributes:
        active: which samples count; all where None.
        rtol: a looser tolerance than the solvers' own; theirs where None.
    """

    active: Bool[Array, " samples"] | None = None
    rtol: Float[Array, ""] | None = None


@final
class Adaptation(BaseModel):
    """What is adapted in the stage under way; saved, so that training goes on as it was.

    Attributes:
        halvings: how often each step is halved; none is where this is empty.
        masked: samples that are left out.
        rtol: relative tolerance of solves and adjoint solves where it is looser than their own; 0
            is their own, and so is None, which leaves no choice open.
        losses: since the tolerance was last changed.
    """

    model_config = ConfigDict(frozen=True)

    halvings: tuple[int, ...] = ()
    masked: tuple[int, ...] = ()
    rtol: float | None = None
    losses: tuple[float, ...] = ()

    @property
    def is_loose(self) -> bool:
        """Whether solves are looser than they will be."""
        return bool(self.rtol)

    def trial(self, num_samples: int) -> Trial:
        """What compiled code is given."""
        active = None
        if self.masked:
            active = np.ones(num_samples, bool)
            active[list(self.masked)] = False
            active = jnp.asarray(active)
        rtol = None if self.rtol is None else jnp.asarray(self.rtol, jnp.float32)
        return Trial(active, rtol)

    def for_next_stage(self) -> Self:
        """Steps and samples get another chance; the tolerance stays."""
        return type(self)(rtol=self.rtol)
