"""States that steps may not end at: each is looked at, and nothing is clipped."""

from dataclasses import replace
from typing import Protocol, runtime_checkable

import jax.numpy as jnp
from jax.core import Tracer

from impindiff._types import Dynamics, Scalar, State
from impindiff.implicit import Excess, Outcome, Result


@runtime_checkable
class LimitedDynamics(Dynamics, Protocol):
    """A system that may say what its fields can be."""

    def excess(self, state: State) -> Excess | None:
        """How a state leaves their limits; None where none has any."""
        ...


@runtime_checkable
class DiffusiveDynamics(Dynamics, Protocol):
    """A system that may have diffusivities that depend on the state."""

    def negative_diffusivity(self, state: State, time: Scalar, dt: Scalar) -> Excess | None:
        """Where one is negative at the end of a step; None where none depends on the state."""
        ...


def watched(
    dynamics: Dynamics, state: State, time: Scalar, dt: Scalar, outcome: Outcome
) -> Outcome:
    """The outcome of a step that ends at a state: outside of the limits it fails.

    So it does where a diffusivity is negative: an implicit step has such roots, too. A solve that
    failed stays what it is. Where there is nothing to look at, nothing is computed.
    """
    excess = dynamics.excess(state) if isinstance(dynamics, LimitedDynamics) else None
    negative = None
    if isinstance(dynamics, DiffusiveDynamics):
        negative = dynamics.negative_diffusivity(state, time, dt)
    found = (negative, Result.NEGATIVE_DIFFUSIVITY), (excess, Result.OUT_OF_LIMITS)
    result = outcome.result
    for at, reason in found:
        if at is not None:
            result = jnp.where(outcome.converged & at.is_outside, reason, result)
    if excess is not None and negative is not None:
        excess = Excess.first_of(excess, negative)
    excess = negative if excess is None else excess
    return replace(outcome, result=result.astype(outcome.result.dtype), excess=excess)


def check_start(dynamics: Dynamics, state: State) -> Excess | None:
    """How the state that a rollout starts from leaves the limits; None where there are none.

    Raises: InputError if it does and this is known, as it is not under `jit` and `vmap`.
    """
    excess = dynamics.excess(state) if isinstance(dynamics, LimitedDynamics) else None
    if excess is None or isinstance(excess.is_outside, Tracer):
        return excess
    excess.check()
    return None


def started(outcome: Outcome, start: Excess | None) -> Outcome:
    """The outcome of all steps, in which the first is to blame for where it started from."""
    if start is None or outcome.excess is None:
        return outcome

    def blamed(of_start, of_steps):
        first = jnp.where(start.is_outside, of_start, of_steps[0])
        return of_steps.at[0].set(first.astype(of_steps.dtype))

    result = blamed(Result.START_OUT_OF_LIMITS, outcome.result)
    # Limits come first in either: what steps are watched for besides has numbers above.
    arrays = ("is_outside", "number", "cell", "value", "field_value")
    of_start = {
        name: blamed(getattr(start, name), getattr(outcome.excess, name)) for name in arrays
    }
    return replace(outcome, result=result, excess=replace(outcome.excess, **of_start))
