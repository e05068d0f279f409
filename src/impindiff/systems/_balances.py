"""Whether what must stay the same has stayed the same: the balances of a trajectory."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, final

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array
from numpy.typing import ArrayLike

from impindiff._errors import InputError
from impindiff._types import State
from impindiff.coefficients import coefficients_of
from impindiff.systems._settings import check_given
from impindiff.systems._system import System


@final
@dataclass(frozen=True)
class BalanceChanges:
    """How the parts of a balance have changed, and by how much that misses zero.

    Attributes:
        changes: of each part's integral over the grid since the first state, `(time,)`; without a
            grid, of its sum.
        defect: the sum of the changes at each time, relative to the largest of a part at any time;
            0 where nothing changes.
    """

    changes: Mapping[str, np.ndarray]
    defect: np.ndarray

    @property
    def worst(self) -> float:
        """The largest magnitude of the defect."""
        return float(np.max(np.abs(self.defect)))


def balances(
    system: System, states: Mapping[str, ArrayLike], times: ArrayLike = 0.0
) -> dict[str, BalanceChanges]:
    """The balances of a system along a trajectory, by name.

    Args:
        system: with `balances`, its settings given.
        states: for each field and integral an array `(time, *grid)`, such as `Trajectory.states`;
            the first is what the others are compared with.
        times: of the states, for parts that are functions of the time.

    Raises: InputError for settings that are not given, states without what a part is a function
        of, or a part that is not one number or one for each cell.
    """
    check_given(system.awaited)
    if not system.accounts.balances:
        return {}
    given = {field: jnp.asarray(values) for field, values in states.items()}
    dtype = jnp.result_type(*given.values())
    count = len(next(iter(given.values())))
    clock = jnp.broadcast_to(jnp.asarray(times, dtype), (count,))
    densities = jax.device_get(_densities(system, given, clock))
    grid = system.grid
    volumes = None
    if grid is not None:
        volumes = grid.cell_volumes()
        volumes = volumes if grid.solid is None else np.where(grid.solid, 0, volumes)
    return {
        name: _changes({part: _integral(of, volumes) for part, of in parts.items()})
        for name, parts in densities.items()
    }


@eqx.filter_jit
def _densities(system: System, states: State, times: Array) -> dict[str, dict[str, Array]]:
    """`(time, *grid)`, or `(time,)` of what is one number."""

    def at(time: Array, state: State) -> dict[str, dict[str, Any]]:
        scope = system.scope(times.dtype).at(time)
        found = scope.evaluate(system.accounts.balances, state)
        shapes = ((),) if system.grid is None else ((), system.grid.shape)
        for name, parts in found.items():
            for part, value in parts.items():
                if coefficients_of(value):
                    raise InputError(
                        f"the part {part!r} of the balance {name!r} is a function of what the "
                        f"states do not hold: they hold {', '.join(state)}."
                    )
                if system.grid is not None and jnp.shape(value) not in shapes:
                    raise InputError(
                        f"the part {part!r} of the balance {name!r} has the shape "
                        f"{jnp.shape(value)}: it must be one number, or one for each cell."
                    )
        return jax.tree.map(jnp.asarray, found)

    return jax.lax.map(lambda one: at(*one), (times, states))


def _integral(density: np.ndarray, volumes: np.ndarray | None) -> np.ndarray:
    # What has changed is added up, and not what is there: digits would be lost in single precision.
    change = np.asarray(density, np.float64)
    change = change - change[:1]
    if volumes is None:
        return change.reshape(len(change), -1).sum(axis=1)
    change = change.reshape((len(change), *(change.shape[1:] or (1,) * volumes.ndim)))
    return (change * volumes).reshape(len(change), -1).sum(axis=1)


def _changes(changes: dict[str, np.ndarray]) -> BalanceChanges:
    largest = max(float(np.max(np.abs(change))) for change in changes.values())
    total = np.sum(list(changes.values()), axis=0)
    return BalanceChanges(changes, total / largest if largest else total)
