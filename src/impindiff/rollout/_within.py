"""Steps of a system whose fields have limits: each is looked at, and nothing is clipped."""

from dataclasses import replace
from typing import Protocol, runtime_checkable

import jax
import jax.numpy as jnp
from jax.core import Tracer

from impindiff._types import Dynamics, State
from impindiff.implicit import Excess, Outcome, Result


@runtime_checkable
class LimitedDynamics(Dynamics, Protocol):
    """A system that may say what its fields can be."""

    def excess(self, state: State) -> Excess | None:
        """How a state leaves their limits; None where none has any."""
        ...


def watched(dynamics: Dynamics, state: State, outcome: Outcome) -> Outcome:
    """The outcome of a step that ends at a state: it fails outside of the limits.

    A solve that failed stays what it is. Where there are no limits, nothing is computed.
    """
    excess = dynamics.excess(state) if isinstance(dynamics, LimitedDynamics) else None
    if excess is None:
        return outcome
    outside = outcome.converged & excess.is_outside
    result = jnp.where(outside, Result.OUT_OF_LIMITS, outcome.result)
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
    excess = jax.tree.map(blamed, start, outcome.excess)
    return replace(outcome, result=result, excess=excess)
