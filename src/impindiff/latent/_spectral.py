"""A field as a truncated series in space and time: few numbers, and no network."""

from collections.abc import Sequence
from typing import Any, final

import equinox as eqx
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, DTypeLike, Float
from numpy.polynomial.legendre import legvander

from impindiff._errors import InputError
from impindiff._types import Scalar
from impindiff.coefficients import Instant
from impindiff.grid import Axis, Grid
from impindiff.latent._coordinates import Span, Times, on_grid
from impindiff.latent._output import AbstractField, Bounds, Output, Ranges
from impindiff.latent._series import AbstractAmplitudes, Series


@final
class SpectralField(AbstractField):
    r"""A smooth field as a truncated Fourier or Legendre series, in time if wanted.

    $\sum_{d,\mathbf m} c_{d\mathbf m}\,P_d(t)\prod_a \psi_{m_a}(x_a)$ with, for $\psi$, sines and
    cosines of up to `modes` whole turns along a periodic axis and as many Legendre polynomials, of
    up to twice that degree, along any other; $P_d$ are those of the time, scaled to (-1, 1) over
    the span. All coefficients are zero at first. The sum is scaled and bounded as the head of a
    `SineField` is.

    Where the unknown is known to be smooth this has far fewer numbers than a network, and what is
    observed determines them far better.

    Args:
        num_axes: space dimensions of the grid.
        names: a name for each component.
        modes: most turns along a periodic axis, or half the degree along another; one number for
            all axes, or one for each.
        span: first and last time (or date) it is wanted for, forecasts included; none for a
            steady field.
        degree: of the polynomials of the time.
        output_range: what it starts in the middle of, and how large a coefficient of one is; as
            that of `SineField`.
        bounds: as those of `SineField`.
        dtype: as that of `SineField`.

    Raises: InputError as `SineField`, for modes or a degree under 0, a degree without a span, a
        span that is not two increasing times, and, when evaluated, more modes than a grid resolves.
    """

    coefficients: Float[Array, "outputs degrees *modes"]
    output: Output
    names: tuple[str, ...] = eqx.field(static=True)
    modes: tuple[int, ...] = eqx.field(static=True)
    span: Span | None = eqx.field(static=True)

    def __init__(
        self,
        num_axes: int,
        names: Sequence[str],
        modes: int | Sequence[int],
        span: Times | None = None,
        *,
        degree: int | None = None,
        output_range: Ranges | None = None,
        bounds: Bounds | None = None,
        dtype: DTypeLike | None = None,
    ) -> None:
        self.output = Output(names, output_range, bounds, dtype)
        self.names = self.output.names
        whose = f"the spectral field {', '.join(self.names)}"
        given = modes if isinstance(modes, Sequence) else (modes,) * num_axes
        if len(given) != num_axes or not all(map(_is_count, given)):
            raise InputError(
                f"{whose} has modes={modes!r}: give one whole number of at least 0, or one for "
                f"each of the {num_axes} axes."
            )
        if (span is None) != (degree is None) or not (degree is None or _is_count(degree)):
            raise InputError(
                f"{whose} has span={span!r} and degree={degree!r}: give both for a field that "
                "varies in time, with a whole degree of at least 0, and neither for a steady one."
            )
        self.modes = tuple(int(count) for count in given)
        self.span = None if span is None else Span(span, self.names)
        waves = (2 * m + 1 for m in self.modes)
        shape = len(self.names), (degree or 0) + 1, *waves
        self.coefficients = jnp.zeros(shape, self.output.dtype)

    @property
    def is_steady(self) -> bool:
        """See `AbstractCoefficient.is_steady`."""
        return self.span is None

    @property
    def time_span(self) -> tuple[float, float] | None:
        """See `AbstractLatent.time_span`."""
        return None if self.span is None else self.span.ends

    @property
    def takes_instants(self) -> bool:
        """See `AbstractCoefficient.takes_instants`: its span says what to count from."""
        return True

    def prepared(self, grid: Grid | None) -> Series:
        """With the sums over space done; see `AbstractCoefficient.prepared`."""
        grid = on_grid(grid, len(self.modes), self.names)
        values = self.coefficients
        for axis, modes in zip(grid.axes, self.modes, strict=True):
            waves = jnp.asarray(_waves(axis, modes, self.names), values.dtype)
            # The first of what is left of the modes' axes becomes the last of the cells'.
            values = jnp.tensordot(values, waves, axes=([2], [0]))
        degrees = values.shape[1]
        shapes = jnp.moveaxis(values, 1, 0).reshape(degrees, -1)
        return Series(shapes, Polynomials(self.span, degrees - 1), self.output)

    def evaluate(
        self, grid: Grid | None, time: Scalar | Instant | None = None
    ) -> Float[Array, "..."]:
        """See `AbstractCoefficient.evaluate`."""
        moment = jnp.zeros((), self.coefficients.dtype) if self.is_steady else time
        return self.prepared(grid).evaluate(grid, moment)


@final
class Polynomials(AbstractAmplitudes):
    """Legendre polynomials of the time, in one row."""

    over: Span | None
    degree: int = eqx.field(static=True)

    @property
    def span(self) -> Span | None:
        """See `AbstractAmplitudes.span`."""
        return self.over

    def __call__(self, time: Scalar | Instant) -> Float[Array, "1 degrees"]:
        if self.over is None:
            return jnp.ones((1, 1), jnp.result_type(time))
        s = self.over.scaled(time)
        found = [jnp.ones_like(s), s]
        for d in range(1, self.degree):
            found.append(((2 * d + 1) * s * found[d] - d * found[d - 1]) / (d + 1))
        return jnp.stack(found[: self.degree + 1])[None]


def _is_count(given: Any) -> bool:
    return isinstance(given, int | np.integer) and not isinstance(given, bool) and bool(given >= 0)


def _waves(axis: Axis, modes: int, names: Sequence[str]) -> np.ndarray:
    """The functions along one axis at the cell centres, shape `(2 * modes + 1, cells)`."""
    if 2 * modes + 1 > axis.num_cells:
        raise InputError(
            f"the spectral field {', '.join(names)} has {modes} modes along {axis.name!r}, whose "
            f"{axis.num_cells} cells resolve {(axis.num_cells - 1) // 2}: give no more."
        )
    along = (np.asarray(axis.centres) - axis.lower) / axis.length
    if not axis.periodic:
        return legvander(2 * along - 1, 2 * modes).T
    angles = 2 * np.pi * np.arange(1, modes + 1)[:, None] * along
    return np.concatenate([np.ones((1, axis.num_cells)), np.cos(angles), np.sin(angles)])
