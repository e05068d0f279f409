r"""Advice on rollouts that went through, and whose results are to be doubted.

Central advection on cells that are too wide: beyond a cell Peclet number $|v|\,\Delta x / D$ of 2
it may leave the range that a field's start, ends and sources span, and oscillates. It need not: a
smooth field is carried well at any number. So the states are looked at first, and the number is
computed where one of them lies outside by more than a hundredth of the range. Nothing is said where
the range is not known: with reactions that are not decay, a gradient given at an end, boundary
values that depend on the state.

Single precision that hardly resolves the field whose flux carries others: such a flux is a
conductance times the difference of two neighbours. A pressure of 1e5 that drops by 1 over fifty
cells differs by 0.02 between them, and numbers at 1e5 are 0.008 apart in float32: its velocities
have hardly one right digit, however well the equations are solved. As the difference from a
reference pressure the same field has five.
"""

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array

from impindiff._types import GivenState, State
from impindiff.grid import Grid
from impindiff.linear import is_coarse
from impindiff.systems._flux_of import carriers
from impindiff.systems._outer_faces import select_fluxes
from impindiff.systems._ranges import FieldAtState, Prepared, allowed_range, evaluate_field
from impindiff.systems._state_tendency import Equations
from impindiff.terms import open_faces

# Of the range: how far outside of it a field must lie.
_SHARE = 0.01
# The number up to which central advection makes no new extremes.
_LARGEST_PECLET = 2.0


def oscillating(equations: Equations) -> tuple[str, ...]:
    """The fields with a term that makes new extremes where cells are wide."""
    return tuple(
        field
        for field, terms in equations.items()
        if any(term.may_oscillate for term in select_fluxes(terms))
    )


def find_overshoots(
    system: Prepared, initial: State, states: GivenState, saved: np.ndarray, ends: np.ndarray
) -> tuple[str, ...]:
    """What is to be said of the fields that central advection has carried out of their range.

    Args:
        system: the equations.
        initial: where the rollout starts.
        states: the saved ones, along a leading axis.
        saved: their times.
        ends: those at which the steps end, and before them the start.
    """
    grid = system.scope.grid
    if grid is None or not len(saved):
        return ()
    messages = (
        _overshoot_message(system, grid, field, initial, states, saved, ends)
        for field in oscillating(system.equations)
    )
    return tuple(filter(None, messages))


def _overshoot_message(
    system: Prepared,
    grid: Grid,
    field: str,
    initial: State,
    states: GivenState,
    saved: np.ndarray,
    ends: np.ndarray,
) -> str:
    free = np.ones(grid.shape, bool) if grid.solid is None else ~grid.solid
    start = np.asarray(initial[field], np.float64)[free]
    values = np.where(free, np.asarray(states[field], np.float64), start[0])
    low, high = float(start.min()), float(start.max())
    # Whatever ends and sources add widens this, and most rollouts have stayed inside.
    if not np.isfinite(values).all() or _worst_value(values, low, high)[0] <= 0:
        return ""
    over = np.maximum(values - high, low - values)
    worst = int(np.argmax(over.reshape(len(over), -1).max(axis=1)))
    state = {name: jnp.asarray(u[worst]) for name, u in states.items()}
    until = float(saved[worst])
    allowed = allowed_range(system, grid, field, state, start, until, ends)
    if allowed is None:
        return ""
    low, high = allowed
    violation, place = _worst_value(values, low, high)
    scale = high - low if high > low else abs(high)
    if not violation > _SHARE * scale:
        return ""
    number, axis, face = _peclet(evaluate_field(system, grid, field, jnp.asarray(until), state))
    if not number > _LARGEST_PECLET:
        return ""
    time, *cell = place
    finer = (
        "the field does not diffuse, so that finer cells will not do"
        if np.isinf(number)
        else f"use cells {number / _LARGEST_PECLET:.2g} times as fine"
    )
    return (
        f"{field!r} is {values[place]:.4g} in cell {tuple(map(int, cell))} at t = {saved[time]:g}, "
        f"while its start, ends and sources span {low:.4g} to {high:.4g}. Central advection "
        "over- and undershoots where the cell Peclet number |v| dx / D exceeds 2: it is "
        f"{number:.3g} at the upper face of cell {face} along {grid.names[axis]!r}. Use "
        "Advection(..., scheme='limited'), of second order without new extremes, or 'upwind'; or "
        f"{finer}."
    )


def _worst_value(values: np.ndarray, low: float, high: float) -> tuple[float, tuple[int, ...]]:
    """How far the worst of some values lies outside of a range, and where that is."""
    beyond = np.maximum(values - high, low - values)
    place = np.unravel_index(int(np.argmax(beyond)), beyond.shape)
    return float(beyond[place]), tuple(int(k) for k in place)


def _peclet(moment: FieldAtState) -> tuple[float, int, tuple[int, ...]]:
    """The largest cell Peclet number of central advection, its axis, and the cell below its face.

    Infinite where nothing diffuses.
    """
    grid, found = moment.grid, (0.0, 0, (0,) * moment.grid.num_axes)
    for axis in range(grid.num_axes):
        speed, conductance = np.zeros(grid.shape), np.zeros(grid.shape)
        for term in moment.moving:
            below, above = (np.asarray(part) for part in term.face_coefficients(grid, axis))
            if term.may_oscillate:
                speed = speed + below + above
            else:
                conductance = conductance + (below - above) / 2
        passable = open_faces(grid, axis)
        speed = np.abs(speed if passable is None else np.where(passable, speed, 0))
        with np.errstate(divide="ignore", invalid="ignore"):
            number = np.where(speed > 0, speed / conductance, 0)
        worst = np.unravel_index(int(np.argmax(number)), number.shape)
        if number[worst] > found[0]:
            found = float(number[worst]), axis, tuple(int(k) for k in worst)
    return found


# Spacings between numbers that neighbours must be apart, for velocities right to so many parts.
_SPACINGS = 500
# Fewer than these are the rounding of a field that does not vary.
_NOISE = 2.0


def find_unresolved(system: Prepared, states: GivenState, saved: np.ndarray) -> tuple[str, ...]:
    """What is to be said of fields that carry others by differences near their own round-off.

    Args:
        system: the equations.
        states: the saved ones, along a leading axis.
        saved: their times.
    """
    grid = system.scope.grid
    if grid is None or not len(saved):
        return ()
    messages = (
        _resolution_message(grid, field, states[field], saved)
        for field in carriers(system.equations)
    )
    return tuple(filter(None, messages))


def _resolution_message(
    grid: Grid, field: str, states: Array | np.ndarray, saved: np.ndarray
) -> str:
    if not is_coarse(states.dtype):
        return ""
    free = np.ones(grid.shape, bool) if grid.solid is None else ~grid.solid
    values = np.asarray(states)
    typical = [
        max(_typical(one.astype(np.float64), free, axis) for axis in range(one.ndim))
        for one in values
    ]
    # A field that has come to rest carries nothing: what is left between its cells is rounding.
    at = int(np.argmax(typical))
    largest = np.abs(values[at][free]).max()
    spacing = float(np.spacing(largest))
    if not np.isfinite(largest) or not _NOISE < typical[at] / spacing < _SPACINGS:
        return ""
    return (
        f"the flux of {field!r} carries other fields, but {values.dtype} hardly resolves it: at t "
        f"= {saved[at]:.4g} neighbouring cells differ by {typical[at]:.2g} (root mean square), and "
        f"numbers at {largest:.4g} are {spacing:.2g} apart. State {field!r} as the difference from "
        'a reference, or compute in double precision: jax.config.update("jax_enable_x64", True).'
    )


def _typical(values: np.ndarray, free: np.ndarray, axis: int) -> float:
    """The root mean square of the differences between free neighbours along an axis."""
    both = np.delete(free & np.roll(free, -1, axis), -1, axis)
    differences = np.diff(values, axis=axis)[both]
    return float(np.sqrt(np.mean(differences**2))) if differences.size else 0.0
