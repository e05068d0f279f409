r"""Fields that are a sum of fixed shapes with amplitudes that vary in time."""

import abc
from typing import final

import equinox as eqx
from jaxtyping import Array, Float

from impindiff._types import Scalar
from impindiff.coefficients import AbstractCoefficient, Instant
from impindiff.grid import Grid
from impindiff.latent._coordinates import Span, given_time
from impindiff.latent._field import outside_span_of
from impindiff.latent._output import Output


class AbstractAmplitudes(eqx.Module):
    """From the time to the amplitudes: a row for each component, or one row for all."""

    @property
    @abc.abstractmethod
    def span(self) -> Span | None:
        """The times that they are wanted for; None where any is fine."""

    @abc.abstractmethod
    def __call__(self, time: Scalar | Instant) -> Float[Array, "rows shapes"]:
        """The amplitudes at a time."""


@final
class Series(AbstractCoefficient):
    r"""$k(t, \mathbf x) = g\bigl(m + r \sum_j a_j(t)\,\varphi_j(\mathbf x)\bigr)$.

    What remains of a latent of this form once its shapes $\varphi$ have been evaluated: each time
    then costs the sum only.

    Attributes:
        shapes: $\varphi$, of all components where each has its own.
        amplitudes: from the time to $a$.
        output: $g$, $m$ and $r$.
    """

    shapes: Float[Array, "shapes values"]
    amplitudes: AbstractAmplitudes
    output: Output

    @property
    def time_span(self) -> tuple[float, float] | None:
        """See `AbstractCoefficient.time_span`."""
        return None if self.amplitudes.span is None else self.amplitudes.span.ends

    def outside_span(self, first: float, last: float, what: str) -> str:
        """See `AbstractCoefficient.outside_span`: as its latent says it."""
        span = self.time_span or (first, last)
        return outside_span_of(self.output.names, span, (first, last), what)

    @property
    def is_steady(self) -> bool:
        """See `AbstractCoefficient.is_steady`."""
        return False

    @property
    def takes_instants(self) -> bool:
        """See `AbstractCoefficient.takes_instants`: its span says what to count from."""
        return True

    def evaluate(
        self, grid: Grid | None, time: Scalar | Instant | None = None
    ) -> Float[Array, "..."]:
        """See `AbstractCoefficient.evaluate`."""
        shape = () if grid is None else grid.shape
        total = self.amplitudes(given_time(time, self.output.names)) @ self.shapes
        return self.output(total.reshape(len(self.output.names), -1), shape)
