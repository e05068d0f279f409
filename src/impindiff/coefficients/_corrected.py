"""A known prior, corrected by what is learned."""

from typing import Any, ClassVar, final

import jax.numpy as jnp
from jaxtyping import Array

from impindiff._types import Scalar
from impindiff.coefficients._closure import as_coefficients
from impindiff.coefficients._coefficient import AbstractCoefficient
from impindiff.grid import Grid


@final
class Corrected(AbstractCoefficient):
    r"""A known prior times a learned correction, $p\,e^{c}$, which never changes its sign.

    Args:
        prior: $p$: a number, an array, a function, any coefficient.
        correction: $c$: a latent that starts at or near zero. A `NeuralClosure` without bounds does
            by itself; give a `SineField` an `output_range` around zero.
    """

    prior: Any
    correction: Any
    is_local: ClassVar[bool] = True

    def __init__(self, prior: Any, correction: Any) -> None:
        self.prior, self.correction = map(as_coefficients, (prior, correction))

    @property
    def is_steady(self) -> bool:
        """As steady as its parts, which are evaluated first."""
        return True

    def evaluate(self, grid: Grid | None, time: Scalar | None = None) -> Array:
        """See `AbstractCoefficient.evaluate`."""
        return jnp.asarray(self.prior) * jnp.exp(self.correction)
