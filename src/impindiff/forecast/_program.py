"""The compiled program of a forecast, which takes no longer to make than the forecast is worth."""

from collections.abc import Callable
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp

from impindiff._types import State
from impindiff.integrate import AbstractStepper
from impindiff.rollout import TimeGrid, Trajectory, simulate
from impindiff.systems import System

# Up to so many numbers in the states of all steps together, a forecast is over in moments. XLA's
# older way to make kernels takes four fifths of the time, and what it makes up to twice as long.
_MOMENTS = 1_000_000
_OLDER_WAY = {"xla_cpu_use_fusion_emitters": False}


def program(initial: State, time_grid: TimeGrid) -> Any:
    """Rollouts of many samples, compiled where it is called with what it is for.

    Args:
        initial: for each field an array `(sample, *grid)`.
        time_grid: the steps.

    Returns: a function of the system, the initial states, the stepper, the time grid and the
        settings; its attribute `lower` is that of `jax.jit`.
    """
    numbers = time_grid.num_steps * sum(values.size for values in initial.values())
    is_brief = numbers <= _MOMENTS and jax.default_backend() == "cpu"
    return _brief if is_brief else _usual


def _run(
    system: System,
    initial: State,
    stepper: AbstractStepper,
    time_grid: TimeGrid,
    settings: State,
) -> Trajectory:
    if not settings:
        return jax.vmap(lambda state: simulate(system, state, time_grid, stepper))(initial)
    shared = system.prepare_shared(jnp.result_type(*initial.values()))

    def run(state: State, given: State) -> Trajectory:
        return simulate(shared.with_settings(given), state, time_grid, stepper)

    return jax.vmap(run)(initial, settings)


_jit: Callable[..., Any] = eqx.filter_jit  # whose declared types leave out the compiler's options
_usual, _brief = _jit(_run), _jit(_run, compiler_options=_OLDER_WAY)
