"""What a system has to say of its rollout, as warnings: on the host, when all is done."""

import warnings
from typing import Protocol, runtime_checkable

import jax
import numpy as np
from jax.core import Tracer

from impindiff._types import Dynamics, GivenState, State, real_state
from impindiff.integrate import AbstractStepper
from impindiff.rollout._stability import outgrown
from impindiff.rollout._times import TimeGrid

# Times at which what is given at the ends is looked at: all of a rollout of so many steps.
_MOST_TIMES = 1000


@runtime_checkable
class AdvisingDynamics(Dynamics, Protocol):
    """A system that looks at its rollouts."""

    def advice(
        self, initial: State, states: GivenState, saved: np.ndarray, ends: np.ndarray
    ) -> tuple[str, ...]:
        """What is to be said of one.

        Args:
            initial: where it starts.
            states: the saved ones, along a leading axis.
            saved: their times.
            ends: the start, and times at which steps end.
        """
        ...


def advise(
    dynamics: Dynamics,
    initial: State,
    states: GivenState,
    time_grid: TimeGrid,
    stepper: AbstractStepper,
) -> None:
    """Warn of what a rollout shows, `RuntimeWarning`; nothing where it is traced."""
    for message in advice_of(dynamics, initial, states, time_grid, stepper):
        warnings.warn(message, RuntimeWarning, stacklevel=3)


def advice_of(
    dynamics: Dynamics,
    initial: GivenState,
    states: GivenState,
    time_grid: TimeGrid,
    stepper: AbstractStepper,
) -> tuple[str, ...]:
    """What is to be said of a rollout; nothing where it is traced.

    Args:
        dynamics: the system.
        initial: where it starts.
        states: the saved ones, along a leading axis.
        time_grid: the steps.
        stepper: took them.
    """
    if not time_grid.num_steps:
        return ()
    if any(isinstance(leaf, Tracer) for leaf in jax.tree.leaves((dynamics, initial, states))):
        return ()
    initial = real_state(initial)
    found = outgrown(dynamics, initial, states, time_grid, stepper)
    if found or not isinstance(dynamics, AdvisingDynamics):
        return found
    ends = np.append(time_grid.starts, time_grid.starts[-1] + time_grid.lengths[-1])
    ends = ends[:: -(-len(ends) // _MOST_TIMES)]
    return dynamics.advice(initial, states, time_grid.saved, ends)
