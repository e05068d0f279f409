"""Which function of a system a rollout ended by: looked for when it has failed, and not before."""

from typing import Protocol, runtime_checkable

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np

from impindiff._errors import InputError
from impindiff._types import Dynamics, Scalar, State
from impindiff.integrate import AbstractStepper
from impindiff.rollout._simulate import Trajectory, simulate
from impindiff.rollout._times import TimeGrid

# States that are held to look for it, at most [bytes].
_MOST_BYTES = 2**30


@runtime_checkable
class Checkable(Protocol):
    """A system that can say which of its functions is not finite at a state."""

    def prepare(self, dtype: jnp.dtype) -> Dynamics:
        """See `Preparable.prepare`."""
        ...

    def check(self, state: State, time: Scalar | float = 0.0) -> None:
        """Raise InputError for the first that is not."""
        ...


@eqx.filter_jit
def _run(
    system: Checkable, initial: State, stepper: AbstractStepper, steps: TimeGrid
) -> Trajectory:
    return simulate(system, initial, steps, stepper, on_failure="keep")


def cause_of(
    system: Checkable, initial: State, stepper: AbstractStepper, time_grid: TimeGrid, count: int
) -> str:
    """The function that is not finite where a rollout fails, as a sentence; empty if none is found.

    The rollout is taken again, to the last state that is finite.

    Args:
        system: the equations.
        initial: of the sample that failed.
        stepper: advances one step.
        time_grid: the steps.
        count: how many of them, the one that failed included.
    """
    if count * sum(u.nbytes for u in initial.values()) > _MOST_BYTES:
        return ""
    starts, lengths = time_grid.starts[:count], time_grid.lengths[:count]
    given = starts, lengths, starts + lengths, np.arange(count), False
    steps = TimeGrid(*given, elapsed=time_grid.elapsed[:count], like=time_grid)
    after = jax.device_get(_run(system, initial, stepper, steps).states)
    # By step: what it starts from.
    states = {f: np.concatenate([np.asarray(u)[None], after[f][:-1]]) for f, u in initial.items()}
    is_finite = [all(np.isfinite(u[k]).all() for u in states.values()) for k in range(count)]
    last = count - 1 if all(is_finite) else max(int(np.argmin(is_finite)) - 1, 0)
    state = {field: jnp.asarray(u[last]) for field, u in states.items()}
    for time in (starts[last], starts[last] + lengths[last] / 2, starts[last] + lengths[last]):
        try:
            system.check(state, time)
        except InputError as error:
            return f"At t = {time:.10g}, {error}"
    return ""
