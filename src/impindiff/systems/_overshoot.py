r"""Advice where a solution shows that central advection had cells too wide for it.

Beyond a cell Peclet number $|v|\,\Delta x / D$ of 2 the central scheme may leave the range that a
field's start, ends and sources span, and oscillates. It need not: a smooth field is carried well
at any number. So the states are looked at first, and the number is computed where one of them lies
outside by more than a hundredth of the range. Nothing is said where the range is not known: with
reactions that are not decay, a gradient given at an end, boundary values that depend on the state.
"""

from typing import Any, NamedTuple, Protocol, runtime_checkable

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from impindiff._types import Scalar, State
from impindiff.coefficients import depends_on
from impindiff.grid import Grid
from impindiff.systems._boundaries import (
    Ends,
    end_value,
    evaluate_boundaries,
    fluxes_among,
    with_boundaries,
)
from impindiff.systems._own_sources import own_rates
from impindiff.systems._scope import Scope, cast
from impindiff.systems._state_tendency import Equations, Place, in_free_cells
from impindiff.terms import AbstractSource, AbstractTerm, AbstractTwoPointFlux, open_faces

# Of the range: how far outside of it a field must lie.
_SHARE = 0.01
# The number up to which central advection makes no new extremes.
_LARGEST_PECLET = 2.0
# At a face whose value is the cell's but for so much, nothing is given.
_GIVEN = 1e-6


@runtime_checkable
class Prepared(Protocol):
    """What is read of a prepared system."""

    scope: Scope
    equations: Equations
    boundaries: dict[str, Ends]
    storage: dict[str, Any]
    capacities: dict[str, Any]
    functions: tuple[str, ...]
    algebraic: tuple[str, ...]
    varying: frozenset[str]
    own: frozenset[Place]
    dtype: jnp.dtype


class _Moment(NamedTuple):
    """A system where a state is looked at: the terms of one field, evaluated."""

    grid: Grid
    field: str
    terms: tuple[AbstractTerm, ...]
    ends: Ends
    scope: Scope

    @property
    def moving(self) -> list[AbstractTwoPointFlux]:
        return fluxes_among(self.terms)


def oscillating(equations: Equations) -> tuple[str, ...]:
    """The fields with a term that makes new extremes where cells are wide."""
    return tuple(
        field
        for field, terms in equations.items()
        if any(term.may_oscillate for term in fluxes_among(terms))
    )


def overshoots(
    system: Prepared, initial: State, states: State, saved: np.ndarray, ends: np.ndarray
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
    told = (
        _advice(system, grid, field, initial, states, saved, ends)
        for field in oscillating(system.equations)
    )
    return tuple(filter(None, told))


def _advice(
    system: Prepared,
    grid: Grid,
    field: str,
    initial: State,
    states: State,
    saved: np.ndarray,
    ends: np.ndarray,
) -> str:
    free = np.ones(grid.shape, bool) if grid.solid is None else ~grid.solid
    start = np.asarray(initial[field], np.float64)[free]
    values = np.where(free, np.asarray(states[field], np.float64), start[0])
    low, high = float(start.min()), float(start.max())
    # Whatever ends and sources add widens this, and most rollouts have stayed inside.
    if not np.isfinite(values).all() or _excess(values, low, high)[0] <= 0:
        return ""
    over = np.maximum(values - high, low - values)
    worst = int(np.argmax(over.reshape(len(over), -1).max(axis=1)))
    state = {name: jnp.asarray(u[worst]) for name, u in states.items()}
    until = float(saved[worst])
    allowed = _range(system, grid, field, state, start, until, ends)
    if allowed is None:
        return ""
    low, high = allowed
    excess, place = _excess(values, low, high)
    scale = high - low if high > low else abs(high)
    if not excess > _SHARE * scale:
        return ""
    number, axis, face = _peclet(_at(system, grid, field, jnp.asarray(until), state))
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


def _excess(values: np.ndarray, low: float, high: float) -> tuple[float, tuple[int, ...]]:
    """How far the worst of some values lies outside of a range, and where that is."""
    beyond = np.maximum(values - high, low - values)
    place = np.unravel_index(int(np.argmax(beyond)), beyond.shape)
    return float(beyond[place]), tuple(int(k) for k in place)


def _at(system: Prepared, grid: Grid, field: str, time: Scalar, state: State) -> _Moment:
    scope = cast(system.scope.at(time.astype(system.dtype)), system.dtype)
    terms = scope.evaluate(system.equations[field], state)
    ends = evaluate_boundaries(scope, {field: system.boundaries[field]}, state)[field]
    terms, ends = cast((terms, ends), system.dtype)
    return _Moment(grid, field, terms, ends, scope)


def _range(
    system: Prepared,
    grid: Grid,
    field: str,
    state: State,
    start: np.ndarray,
    until: float,
    ends: np.ndarray,
) -> tuple[float, float] | None:
    """The range that a field cannot leave; None where that is not known."""
    if field in (*system.functions, *system.algebraic):
        return None
    divided = field in {**system.storage, **system.capacities}
    if depends_on(system.boundaries[field], system.varying):
        return None
    still = [
        (number, term)
        for number, term in enumerate(system.equations[field])
        if not isinstance(term, AbstractTwoPointFlux)
    ]
    own = [number for number, _ in still if (field, number) in system.own]
    for number, term in still:
        is_given = isinstance(term, AbstractSource) and not depends_on(term, system.varying)
        if divided or not (is_given or number in own):
            return None

    def at(time: Scalar) -> tuple[Array, ...]:
        moment = _at(system, grid, field, time, state)
        given = [moment.terms[number] for number, _ in still if number not in own]
        rates = [jnp.zeros(grid.shape)]
        rates += [in_free_cells(grid, s.rate(grid)) for s in given if isinstance(s, AbstractSource)]
        slope = jnp.zeros(())
        if own:
            # Those of the state are found as the right-hand side does.
            parts = system.scope.at(time).evaluate(system.equations[field])
            decays = [part for k, part in enumerate(parts) if k in own]
            sources = [part for part in decays if isinstance(part, AbstractSource)]
            slope, rest = own_rates(moment.scope, grid, field, sources)
            rates.append(rest)
        rate = sum(rates[1:], start=rates[0])
        return *_given_at_ends(moment), rate.min(), rate.max(), slope.max(), _growth(moment)

    times = jnp.asarray(ends[ends <= until])
    lows, highs, least, most, slopes, growths = map(np.asarray, jax.lax.map(at, times))
    if slopes.max() > 0:
        return None
    span = until - float(ends[0])
    low = min(start.min(), np.nanmin(lows, initial=np.inf)) + span * min(least.min(), 0)
    high = max(start.max(), np.nanmax(highs, initial=-np.inf)) + span * max(most.max(), 0)
    if own:
        low, high = min(low, 0), max(high, 0)
    # What a flow runs together, or against a wall, piles up.
    share = float(np.exp(min(span * growths.max(), 100)))
    if divided and share > 1 + _SHARE:
        return None
    low, high = min(low, low * share), max(high, high * share)
    return (float(low), float(high)) if np.isfinite(high - low) else None


def _given_at_ends(moment: _Moment) -> tuple[Float[Array, ""], Float[Array, ""]]:
    """The least and the largest value that any end draws the field to; NaN where none does."""
    lows, highs = [jnp.asarray(jnp.nan)], [jnp.asarray(jnp.nan)]
    grid = moment.grid
    for axis, pair in enumerate(moment.ends):
        for side, condition in enumerate(pair):
            if condition is None:
                continue
            const, slope = end_value(grid, moment.field, moment.moving, condition, axis, side)
            const, slope = jnp.broadcast_arrays(jnp.asarray(const), jnp.asarray(slope))
            is_given = slope < 1 - _GIVEN
            value = jnp.where(is_given, const / jnp.where(is_given, 1 - slope, 1), jnp.nan)
            # A gradient: there is no saying where it leads.
            value = jnp.where(~is_given & (const != 0), jnp.sign(const) * jnp.inf, value)
            lows.append(jnp.nanmin(value))
            highs.append(jnp.nanmax(value))
    return jnp.nanmin(jnp.stack(lows)), jnp.nanmax(jnp.stack(highs))


def _growth(moment: _Moment) -> Float[Array, ""]:
    """The fastest rate at which a uniform field grows by the flow alone."""
    first, *others = (term.fluxes(moment.grid) for term in moment.moving)
    fluxes = sum(others, start=first)
    fluxes, _ = with_boundaries(moment.grid, moment.field, moment.moving, moment.ends, fluxes)
    rate = in_free_cells(moment.grid, fluxes.stencil()(jnp.ones(moment.grid.shape)))
    return jnp.maximum(rate.max(), 0)


def _peclet(moment: _Moment) -> tuple[float, int, tuple[int, ...]]:
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
