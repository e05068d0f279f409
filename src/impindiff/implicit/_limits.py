"""Tolerances and counts: what is allowed, and what holds where nothing is given."""

import math
from typing import Protocol, runtime_checkable

import jax.numpy as jnp

from impindiff._errors import InputError, as_count, as_number
from impindiff._types import Scalar

# Of the change that a step makes, not of the state: in single precision about as much as rounding
# leaves of a change of a hundredth of the state.
_BY_PRECISION = {jnp.dtype(jnp.float32): 1e-5, jnp.dtype(jnp.float64): 1e-10}


# Coarser numbers than these lose changes that matter.
_COARSE = 1e-10


def is_coarse(dtype: jnp.dtype) -> bool:
    """Whether a state of such numbers loses changes that matter: single precision and below."""
    return bool(jnp.finfo(dtype).eps > _COARSE)


@runtime_checkable
class Limited(Protocol):
    """A solver with tolerances and a largest number of steps."""

    @property
    def rtol(self) -> float | None:
        """Relative tolerance; None for that of the precision."""
        ...

    @property
    def atol(self) -> float:
        """Absolute tolerance."""
        ...

    @property
    def max_steps(self) -> int:
        """Largest number of steps."""
        ...


def tolerance_of(rtol: float | None, dtype: jnp.dtype) -> float:
    """A relative tolerance, by precision where none is given: 1e-5 in float32, 1e-10 in float64."""
    return _BY_PRECISION.get(jnp.dtype(dtype), 1e-5) if rtol is None else rtol


def goal_of(solver: Limited, at_zero: Scalar, loosest: Scalar | None) -> Scalar:
    r"""The residual norm to reach: the larger of `atol` and `rtol` $\lVert R(0) \rVert$.

    Args:
        solver: with tolerances.
        at_zero: the norm at zero.
        loosest: where given, a relative tolerance that is enough this once.
    """
    own = tolerance_of(solver.rtol, at_zero.dtype)
    tolerance = own if loosest is None else jnp.maximum(loosest, own)
    return jnp.maximum(tolerance * at_zero, solver.atol)


def check_limits(solver: Limited) -> None:
    """Raise InputError for tolerances that cannot be met, or no iteration allowed."""
    name, rtol = type(solver).__name__, solver.rtol
    own = 1.0 if rtol is None else as_number(rtol, f"the tolerance rtol of {name}")
    as_number(solver.atol, f"the tolerance atol of {name}")
    as_count(solver.max_steps, f"max_steps of {name}")
    # Comparisons that NaN fails, too.
    if not (own >= 0 and solver.atol >= 0 and 0 < own + solver.atol < math.inf):
        raise InputError(
            f"{name}(rtol={rtol}, atol={solver.atol}): tolerances must not be negative, "
            "both must be finite, and one of them must be positive. Leave rtol out for 1e-5 in "
            "float32 and 1e-10 in float64."
        )
    if solver.max_steps < 1:
        raise InputError(f"{name}(max_steps={solver.max_steps}): at least 1 step must be allowed.")
