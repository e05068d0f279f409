"""Tolerances and counts: what is allowed, and what holds where nothing is given."""

import math

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


def tolerance_of(rtol: float | None, dtype: jnp.dtype) -> float:
    """A relative tolerance, by precision where none is given: 1e-5 in float32, 1e-10 in float64."""
    return _BY_PRECISION.get(jnp.dtype(dtype), 1e-5) if rtol is None else rtol


def goal_of(rtol: float | None, atol: float, at_zero: Scalar, loosest: Scalar | None) -> Scalar:
    r"""The residual norm to reach: the larger of `atol` and `rtol` $\lVert R(0) \rVert$.

    Args:
        rtol: relative tolerance; None for that of the precision.
        atol: absolute tolerance.
        at_zero: the norm at zero.
        loosest: where given, a relative tolerance that is enough this once.
    """
    own = tolerance_of(rtol, at_zero.dtype)
    tolerance = own if loosest is None else jnp.maximum(loosest, own)
    return jnp.maximum(tolerance * at_zero, atol)


def check_tolerances(name: str, rtol: float | None, atol: float, max_steps: int) -> None:
    """Raise InputError for tolerances that cannot be met, or no iteration allowed.

    Args:
        name: of the solver, for the message.
        rtol: relative tolerance; None for that of the precision.
        atol: absolute tolerance.
        max_steps: most steps.
    """
    own = 1.0 if rtol is None else as_number(rtol, f"the tolerance rtol of {name}")
    as_number(atol, f"the tolerance atol of {name}")
    as_count(max_steps, f"max_steps of {name}")
    # Comparisons that NaN fails, too.
    if not (own >= 0 and atol >= 0 and 0 < own + atol < math.inf):
        raise InputError(
            f"{name}(rtol={rtol}, atol={atol}): tolerances must not be negative, "
            "both must be finite, and one of them must be positive. Leave rtol out for 1e-5 in "
            "float32 and 1e-10 in float64."
        )
    if max_steps < 1:
        raise InputError(f"{name}(max_steps={max_steps}): at least 1 step must be allowed.")
