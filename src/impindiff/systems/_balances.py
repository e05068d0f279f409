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

from impindiff._dates import as_seconds
from impindiff._errors import InputError
from impindiff._types import State, real_state
from impindiff.coefficients import Coarse, Instant, coefficients_of, time_parts
from impindiff.grid import Grid
from impindiff.systems._scope import check_parameters_known
from impindiff.systems._system import System


@final
@dataclass(frozen=True)
class BalanceChanges:
    """How the parts of a balance have changed, and by how much that misses zero.

    Attributes:
        changes: of each part's integral over the grid since the first state, `(time,)`; without a
            grid, of its sum.
        defect: the sum of the changes at each time, relative to the largest of a part at any time,
            or to `least` where that is more; 0 where nothing changes.
        least: the least change that is told from round-off, half of the digits of what is held.
    """

    changes: Mapping[str, np.ndarray]
    defect: np.ndarray
    least: float = 0.0

    @property
    def worst(self) -> float:
        """The largest magnitude of the defect."""
        return float(np.max(np.abs(self.defect)))


def balances(
    system: System, states: Mapping[str, ArrayLike], times: ArrayLike = 0.0
) -> dict[str, BalanceChanges]:
    """The balances of a system along a trajectory, by name.

    Args:
        system: with `balances`, its sample parameters known.
        states: for each field and integral an array `(time, *grid)`, such as `Trajectory.states`;
            the first is what the others are compared with.
        times: of the states, for parts that are functions of the time.

    Raises: InputError for unknown sample parameters, states without what a part is a function
        of or without an axis of time, other times, or a part that is not one number or one for each
        cell.
    """
    check_parameters_known(system.missing_parameters)
    if not system.accounts.balances:
        return {}
    values = real_state(states)
    count = _count(values, system.grid)
    dtype = jnp.result_type(*values.values())
    clock = as_seconds(times)
    if clock.shape not in ((), (count,)):
        raise InputError(
            f"the times have the shape {clock.shape}, the states are those of {count} times: give "
            "one number, or one for each."
        )
    clock = np.broadcast_to(clock, (count,))
    elapsed, origin = jnp.asarray(clock - clock[0], dtype), jnp.asarray(time_parts(clock[0]), dtype)
    spans = np.diff(clock)
    coarse = Coarse.among(clock[:-1], spans) if np.all(spans > 0) else None
    densities = jax.device_get(_densities(system, values, elapsed, origin, coarse))
    grid = system.grid
    volumes = None
    if grid is not None:
        volumes = grid.cell_volumes()
        volumes = volumes if grid.solid is None else np.where(grid.solid, 0, volumes)
    # Added up over steps and cells, round-off is no more than this, unless there are very many.
    share = float(np.sqrt(jnp.finfo(dtype).eps))
    return {
        name: _changes(
            {part: _integral(_change(of), volumes) for part, of in parts.items()},
            share * sum(_most_held(of, volumes) for of in parts.values()),
        )
        for name, parts in densities.items()
    }


def relative_defect(
    missed: np.ndarray | float, largest: np.ndarray | float, least: np.ndarray | float
) -> np.ndarray:
    """What the changes of a balance miss zero by, relative to the largest of them.

    Where nothing happens both are round-off, and their ratio says nothing, though it may be one:
    so relative to no less than can be told from round-off.

    Args:
        missed: the sum of the changes.
        largest: the largest change of a part.
        least: see `BalanceChanges`.
    """
    size = np.maximum(largest, least)
    return np.asarray(missed) / np.where(size > 0, size, 1)


def _count(states: Mapping[str, Array], grid: Grid | None) -> int:
    """How many times states are of.

    Raises: InputError for states without an axis of time in front, or of different times.
    """
    counts = {u.shape[0] if u.ndim else 0 for u in states.values()}
    cells = () if grid is None else grid.shape
    whole = all(u.ndim and (grid is None or u.shape[1:] == cells) for u in states.values())
    if not whole or len(counts) != 1 or 0 in counts:
        found = ", ".join(f"{field} {u.shape}" for field, u in states.items()) or "no field"
        allowed = "(time, ...)" if grid is None else f"(time, {', '.join(map(str, cells))})"
        raise InputError(
            f"balances compare states of several times with the first, of the shape {allowed} all, "
            f"and found {found}. Give what `simulate` saved with the initial time among the saved, "
            "of one sample; or stack: {'c': jnp.stack([before, after])}."
        )
    return counts.pop()


@eqx.filter_jit
def _densities(
    system: System, states: State, times: Array, origin: Array, coarse: Coarse | None
) -> dict[str, dict[str, Array]]:
    """`(time, *grid)`, or `(time,)` of what is one number."""

    def at(time: Array, state: State) -> dict[str, dict[str, Any]]:
        scope = system.scope(times.dtype).at(Instant(time, origin, coarse))
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


def _change(density: np.ndarray) -> np.ndarray:
    # What has changed is added up, and not what is there: digits would be lost in single precision.
    values = np.asarray(density, np.float64)
    return values - values[:1]


def _most_held(density: np.ndarray, volumes: np.ndarray | None) -> float:
    """The most that there is of a part at any time, be it positive or negative."""
    return float(np.max(_integral(np.abs(np.asarray(density, np.float64)), volumes)))


def _integral(density: np.ndarray, volumes: np.ndarray | None) -> np.ndarray:
    if volumes is None:
        return density.reshape(len(density), -1).sum(axis=1)
    density = density.reshape((len(density), *(density.shape[1:] or (1,) * volumes.ndim)))
    return (density * volumes).reshape(len(density), -1).sum(axis=1)


def _changes(changes: dict[str, np.ndarray], least: float) -> BalanceChanges:
    largest = max(float(np.max(np.abs(change))) for change in changes.values())
    total = np.sum(list(changes.values()), axis=0)
    return BalanceChanges(changes, relative_defect(total, largest, least), least)
