"""Single unknown numbers, kept inside their bounds by a transform."""

from typing import final

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from impindiff._errors import InputError
from impindiff._types import Scalar
from impindiff.grid import Grid
from impindiff.latent._field import AbstractLatent


@final
class Parameter(AbstractLatent):
    r"""An unknown number $a < p < b$, learned as $p = a + (b - a)\,\mathrm{sigmoid}(s)$.

    Args:
        name: as in data files.
        initial: where to start, strictly inside the bounds.
        bounds: $(a, b)$, finite.

    Raises: InputError for bounds that are not finite, or an initial value that is not inside them.
    """

    raw: Float[Array, ""]
    names: tuple[str, ...] = eqx.field(static=True)
    bounds: tuple[float, float] = eqx.field(static=True)

    def __init__(self, name: str, initial: float, bounds: tuple[float, float]) -> None:
        low, high = bounds
        if not np.isfinite(high - low):
            raise InputError(
                f"parameter {name!r} has the bounds ({low}, {high}): both must be finite numbers."
            )
        if not low < initial < high:
            raise InputError(
                f"parameter {name!r} starts at {initial}, which is not inside its bounds ({low}, "
                f"{high})."
            )
        self.raw = jnp.asarray(np.log((initial - low) / (high - initial)), jnp.float32)
        self.names, self.bounds = (name,), (float(low), float(high))

    @property
    def is_steady(self) -> bool:
        """See `AbstractLatent.is_steady`."""
        return True

    def evaluate(self, grid: Grid, time: Scalar | None = None) -> Float[Array, ""]:
        """The number itself, for every cell alike."""
        low, high = self.bounds
        return low + (high - low) * jax.nn.sigmoid(self.raw)
