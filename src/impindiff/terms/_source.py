"""Sources that do not depend on the state, once their strength is known."""

from functools import partial
from typing import Any, final

import equinox as eqx
import jax.numpy as jnp
from jaxtyping import Array, Float

from impindiff._errors import InputError, as_flag
from impindiff._types import as_array, as_real
from impindiff.grid import Grid
from impindiff.terms._term import AbstractSource, check_coefficient


@final
class Source(AbstractSource):
    """A given rate of production, $s(t, x)$ per unit of volume and time.

    Args:
        strength: a number, an array of the grid's shape, a learned field, or a function of time,
            position and the state: see `impindiff.Reaction`.
        is_explicit: see `AbstractTerm`; True for what is slow, but not affine.

    Raises: InputError for what is no coefficient, or an array of another shape.
    """

    strength: Any = eqx.field(converter=as_real)
    is_explicit: bool = eqx.field(
        static=True, default=False, kw_only=True, converter=partial(as_flag, what="is_explicit")
    )

    def __check_init__(self) -> None:
        """Refuse what is no coefficient."""
        check_coefficient(self.strength, "the strength of a source")

    def rate(self, grid: Grid | None) -> Float[Array, "..."]:
        """See `AbstractSource.rate`."""
        shape = jnp.shape(self.strength)
        if grid is not None and shape not in ((), grid.shape):
            raise InputError(
                f"the source has shape {shape}: it must be one number or of the grid's shape "
                f"{grid.shape}."
            )
        return as_array(self.strength)
