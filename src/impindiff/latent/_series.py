r"""Fields that are a sum of fixed shapes with amplitudes that vary in time."""

from collections.abc import Callable
from typing import final

from jaxtyping import Array, Float

from impindiff._types import Scalar
from impindiff.coefficients import AbstractCoefficient, Instant
from impindiff.grid import Grid
from impindiff.latent._coordinates import given_time
from impindiff.latent._output import Output


@final
class Series(AbstractCoefficient):
    r"""$k(t, \mathbf x) = g\bigl(m + r \sum_j a_j(t)\,\varphi_j(\mathbf x)\bigr)$.

    What remains of a latent of this form once its shapes $\varphi$ have been evaluated: each time
    then costs the sum only.

    Attributes:
        shapes: $\varphi$, of all components where each has its own.
        amplitudes: from the time to $a$: a row for each component where they share the shapes, or
            one row.
        output: $g$, $m$ and $r$.
    """

    shapes: Float[Array, "shapes values"]
    amplitudes: Callable[[Scalar | Instant], Float[Array, "rows shapes"]]
    output: Output

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
