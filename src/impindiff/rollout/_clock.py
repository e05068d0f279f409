"""What a rollout counts its times from, and what of a system cannot have them exact.

Steps begin so and so long after the first of them, and that is what they are told: a difference of
doubles, as good as if times had been counted from zero. What wants the time itself gets it as one
number, unless that is too coarse: see `impindiff.coefficients.Coarse`.
"""

from typing import Any, Protocol, runtime_checkable

import jax.numpy as jnp
from jaxtyping import Array, Float

from impindiff._errors import InputError
from impindiff._types import Dynamics, Scalar
from impindiff.coefficients import Coarse, Instant
from impindiff.rollout._times import TimeGrid


@runtime_checkable
class ClockedDynamics(Dynamics, Protocol):
    """A system whose times may be counted from any moment."""

    @property
    def rounding_times(self) -> tuple[str, ...]:
        """What takes the time as one number all the same, as messages call it."""
        ...

    def counted_from(self, origin: Float[Array, " 3"], coarse: Coarse | None = None) -> Dynamics:
        """The same, with times counted from an origin: see `impindiff.coefficients.Instant`."""
        ...


def clocked(
    dynamics: Dynamics, time_grid: TimeGrid, dtype: Any
) -> tuple[Dynamics, Float[Array, " steps"]]:
    """A system whose times are counted as those of the steps, and when each of these begins.

    One that knows no origin gets the times themselves.

    Raises: InputError for what is no function and would see times too coarsely.
    """
    coarse = time_grid.coarse if jnp.dtype(dtype).itemsize <= 4 else None
    origin, elapsed = (jnp.asarray(u, dtype) for u in (time_grid.origin, time_grid.elapsed))
    if isinstance(dynamics, ClockedDynamics):
        rounding = dynamics.rounding_times
        dynamics = dynamics.counted_from(origin, coarse)
    else:
        rounding = () if dynamics.is_steady else (f"the system {type(dynamics).__name__}",)
        elapsed = elapsed + origin[2] + origin[1] + origin[0]
    if coarse and rounding:
        raise InputError(f"{rounding[0]} {coarse.message}")
    return dynamics, elapsed


def clocked_at(dynamics: Dynamics, instant: Instant) -> tuple[Dynamics, Scalar]:
    """The same for one instant."""
    if instant.origin is not None and isinstance(dynamics, ClockedDynamics):
        return dynamics.counted_from(instant.origin), instant.elapsed
    return dynamics, instant.number
