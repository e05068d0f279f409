"""The range of values that a field cannot leave: what its start, ends and sources span."""

from typing import Any, NamedTuple, Protocol, runtime_checkable

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from impindiff._types import Scalar, State
from impindiff.coefficients import depends_on
from impindiff.grid import Grid
from impindiff.systems._outer_faces import (
    Ends,
    add_boundary_fluxes,
    end_value,
    evaluate_boundaries,
    select_fluxes,
)
from impindiff.systems._scope import Scope, cast
from impindiff.systems._sources import evaluate_own_rate
from impindiff.systems._state_tendency import Equations, Place, mask_solid
from impindiff.terms import AbstractSource, AbstractTerm, AbstractTwoPointFlux

# At a face whose value is the cell's but for so much, nothing is held.
_HELD = 1e-6
# A flow that makes a field grow by less than this share lets its range be.
_SHARE = 0.01


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


class FieldAtState(NamedTuple):
    """A system where a state is looked at: the terms of one field, evaluated."""

    grid: Grid
    field: str
    terms: tuple[AbstractTerm, ...]
    ends: Ends
    scope: Scope

    @property
    def moving(self) -> list[AbstractTwoPointFlux]:
        """The terms that move the field."""
        return select_fluxes(self.terms)


def evaluate_field(
    system: Prepared, grid: Grid, field: str, time: Scalar, state: State
) -> FieldAtState:
    """The terms and ends of a field, evaluated at a time and a state."""
    scope = cast(system.scope.at(time.astype(system.dtype)), system.dtype)
    terms = scope.evaluate(system.equations[field], state)
    ends = evaluate_boundaries(scope, {field: system.boundaries[field]}, state)[field]
    terms, ends = cast((terms, ends), system.dtype)
    return FieldAtState(grid, field, terms, ends, scope)


def allowed_range(
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
        is_held = isinstance(term, AbstractSource) and not depends_on(term, system.varying)
        if divided or not (is_held or number in own):
            return None

    def at(time: Scalar) -> tuple[Array, ...]:
        moment = evaluate_field(system, grid, field, time, state)
        known = [moment.terms[number] for number, _ in still if number not in own]
        rates = [jnp.zeros(grid.shape)]
        rates += [mask_solid(grid, s.rate(grid)) for s in known if isinstance(s, AbstractSource)]
        slope = jnp.zeros(())
        if own:
            # Those of the state are found as the right-hand side does.
            parts = system.scope.at(time).evaluate(system.equations[field])
            decays = [part for k, part in enumerate(parts) if k in own]
            sources = [part for part in decays if isinstance(part, AbstractSource)]
            rate = evaluate_own_rate(moment.scope, grid, field, sources)
            slope = rate.slope
            rates.append(rate(jnp.zeros(grid.shape)))
        rate = sum(rates[1:], start=rates[0])
        return *_values_at_ends(moment), rate.min(), rate.max(), slope.max(), _growth(moment)

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


def _values_at_ends(moment: FieldAtState) -> tuple[Float[Array, ""], Float[Array, ""]]:
    """The least and the largest value that any end draws the field to; NaN where none does."""
    lows, highs = [jnp.asarray(jnp.nan)], [jnp.asarray(jnp.nan)]
    grid = moment.grid
    for axis, pair in enumerate(moment.ends):
        for side, condition in enumerate(pair):
            if condition is None:
                continue
            const, slope = end_value(grid, moment.field, moment.moving, condition, axis, side)
            const, slope = jnp.broadcast_arrays(jnp.asarray(const), jnp.asarray(slope))
            is_held = slope < 1 - _HELD
            value = jnp.where(is_held, const / jnp.where(is_held, 1 - slope, 1), jnp.nan)
            # A gradient: there is no saying where it leads.
            value = jnp.where(~is_held & (const != 0), jnp.sign(const) * jnp.inf, value)
            lows.append(jnp.nanmin(value))
            highs.append(jnp.nanmax(value))
    return jnp.nanmin(jnp.stack(lows)), jnp.nanmax(jnp.stack(highs))


def _growth(moment: FieldAtState) -> Float[Array, ""]:
    """The fastest rate at which a uniform field grows by the flow alone."""
    first, *others = (term.fluxes(moment.grid) for term in moment.moving)
    fluxes = sum(others, start=first)
    fluxes, _ = add_boundary_fluxes(moment.grid, moment.field, moment.moving, moment.ends, fluxes)
    rate = mask_solid(moment.grid, fluxes.stencil()(jnp.ones(moment.grid.shape)))
    return jnp.maximum(rate.max(), 0)
