"""From what a network gives, numbers near nought, to values of a coefficient."""

from collections.abc import Sequence
from typing import final

import equinox as eqx
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, DTypeLike, Float

from impindiff._errors import InputError
from impindiff.coefficients import real_precision
from impindiff.latent._field import AbstractLatent, Proportional
from impindiff.latent._interval import Interval

Ranges = Sequence[float] | Sequence[Sequence[float]]
"""(low, high) for all components, or a pair for each."""

Bounds = tuple[float, float]


@final
class Output(eqx.Module):
    r"""$g(m + r\,y)$ for each component, with the midpoint $m$ and half-width $r$ learned.

    $g$ keeps the value inside the bounds as that of `Parameter` does; without bounds it is the
    identity.

    Args:
        names: of the components.
        output_range: interval that $y$ from -1 to 1 is brought to; a start, not a bound. By default
            (0, 1), or with bounds what $g$ makes of -1 and 1.
        bounds: of the values, the same for all components; none by default.
        dtype: precision of what is learned; JAX's default where None.

    Raises: InputError for no names or the same twice, an empty range, as many pairs as there are
        not components, or a range that does not lie inside the bounds.
    """

    midpoint: Float[Array, " outputs"]
    half_width: Float[Array, " outputs"]
    names: tuple[str, ...] = eqx.field(static=True)
    interval: Interval = eqx.field(static=True)

    def __init__(
        self,
        names: Sequence[str],
        output_range: Ranges | None = None,
        bounds: Bounds | None = None,
        dtype: DTypeLike | None = None,
    ) -> None:
        precision = real_precision(dtype)
        given = (names,) if isinstance(names, str) or not isinstance(names, Sequence) else names
        if not all(isinstance(name, str) for name in given):
            raise InputError(f"the names of a neural field must be text, found {names!r}.")
        self.names = tuple(given)
        if not self.names or len(set(self.names)) != len(self.names):
            raise InputError(
                f"a neural field needs a name of its own for each component, found {self.names}."
            )
        whose = f"the neural field {', '.join(self.names)}"
        self.interval = Interval((-np.inf, np.inf) if bounds is None else bounds, whose)
        if output_range is None:
            start = (0.0, 1.0) if bounds is None else (-1.0, 1.0)
            pairs = np.tile(start, (len(self.names), 1))
        else:
            pairs = self.interval.raw(_pairs(output_range, self.names, whose), whose)
        self.midpoint = jnp.asarray(pairs.mean(axis=1), precision)
        self.half_width = jnp.asarray(np.diff(pairs)[:, 0] / 2, precision)

    @property
    def in_unit_of_values(self) -> tuple[Proportional, ...]:
        """The learned arrays that have the values' unit: none where bounds carry it."""
        if not self.interval.is_unbounded:
            return ()
        return Proportional(self.midpoint, axis=0), Proportional(self.half_width, axis=0)

    @property
    def dtype(self) -> jnp.dtype:
        """Precision of what is learned."""
        return self.midpoint.dtype

    def __call__(
        self, raw: Float[Array, "outputs cells"], shape: tuple[int, ...]
    ) -> Float[Array, "..."]:
        """Values of shape `(outputs, *shape)`, or `shape` for a single component."""
        value = self.midpoint[:, None] + self.half_width[:, None] * raw
        value = self.interval.inside(value).reshape(len(self.names), *shape)
        return value[0] if len(self.names) == 1 else value


class AbstractField(AbstractLatent):
    """A latent whose values are those of an `Output`.

    Attributes:
        output: its last part.
    """

    output: eqx.AbstractVar[Output]

    @property
    def in_unit_of_values(self) -> tuple[Proportional, ...]:
        """See `AbstractLatent.in_unit_of_values`."""
        return self.output.in_unit_of_values

    @property
    def lower_bound(self) -> float:
        """See `AbstractLatent.lower_bound`."""
        return self.output.interval.lower


def _pairs(given: Ranges, names: tuple[str, ...], whose: str) -> np.ndarray:
    """A range for each component, shape (components, 2)."""
    try:
        pairs = np.asarray(given, np.float64)
    except (TypeError, ValueError):
        pairs = np.empty(0)
    if pairs.shape not in ((2,), (len(names), 2)):
        raise InputError(
            f"{whose} has the output range {given!r}: give one pair (low, high) for all "
            f"components, or one for each of the {len(names)}."
        )
    pairs = np.broadcast_to(pairs, (len(names), 2))
    for low, high in pairs:
        if not 0 < high - low < np.inf:
            raise InputError(
                f"{whose} has the output range ({low:g}, {high:g}): give finite (low, high) with "
                "high > low."
            )
    return pairs
