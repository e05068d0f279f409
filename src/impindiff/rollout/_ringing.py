r"""Steps that ring: a fast part of a solution that changes sign from step to step and hardly dies.

A theta method below 1 multiplies a part that decays at a rate $\lambda$ by
$(1 - (1 - \theta) z) / (1 + \theta z)$ in a step, $z = \lambda\,\Delta t$: for Crank-Nicolson and
$z \gg 2$ that is nearly $-1$, where it should be nearly 0. Such a part is in the state at the end
of a step with its amplitude $a$, in the rate of change with $a \lambda$, and in what follows of
that rate, $\ddot u$, with $a \lambda^2$. What a step resolves is in them with small numbers: if
$\lVert\ddot u\rVert / \lVert\dot u\rVert$ is many times the inverse of a step, then
$\lVert\dot u\rVert^2 / \lVert\ddot u\rVert$ is the amplitude of what rings.
"""

from collections.abc import Mapping
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array

from impindiff._types import AbstractTendency, GivenState, State
from impindiff.coefficients import Instant
from impindiff.grid import Grid, in_free_cells
from impindiff.integrate import AbstractDynamics, AbstractStepper, split_integrals
from impindiff.rollout._times import TimeGrid, start_clock_at

# Of a step as many times as long as the time in which a part decays, three fifths of the part are
# left, with the other sign. Spoken of is what is more than such a share of the field's range.
_UNRESOLVED, _SEEN = 8.0, 0.01
# Of round-off may be left what is so many times the spacing of the field's numbers.
_SPACINGS = 100.0


def find_ringing(
    dynamics: AbstractDynamics,
    initial: State,
    states: GivenState,
    time_grid: TimeGrid,
    stepper: AbstractStepper,
    before: Mapping[str, np.ndarray] | None = None,
) -> tuple[str, ...]:
    """What is to be said of the saved states in which a field rings: the first and the last.

    Args:
        dynamics: the system, prepared.
        initial: where the rollout starts.
        states: the saved ones, along a leading axis.
        time_grid: the steps.
        stepper: took them.
        before: values that a field has had, where this is the continuation of a rollout: its range
            is that of the whole.
    """
    ends = np.flatnonzero(time_grid.slots < len(time_grid.saved))
    if not (stepper.rings and ends.size):
        return ()
    ranges = {
        field: _range(dynamics.grid, start, states[field], (before or {}).get(field, ()))
        for field, start in initial.items()
    }
    for step in dict.fromkeys((int(ends[-1]), int(ends[0]))):
        slot, dt = int(time_grid.slots[step]), float(time_grid.lengths[step])
        state = {field: jnp.asarray(values[slot]) for field, values in states.items()}
        dtype = jnp.result_type(*state.values())
        now = Instant.of(float(time_grid.saved[slot]), dtype)
        found = _ringing_at(*start_clock_at(dynamics, now), state, ranges, dt)
        if found is not None:
            field, amplitude, times = found
            share = amplitude / ranges[field][0]
            return (
                f"{field!r} rings at t = {time_grid.saved[slot]:.10g}: about {amplitude:.2g} of it "
                f"({100 * share:.2g} % of its range) changes sign from step to step, for the steps "
                f"of {dt:.3g} are {times:.2g} times as long as the time in which that should have "
                f"died, and {stepper.name} does not damp it. Take a stepper that does, "
                "SDIRK2() or BackwardEuler(), or lower dt, or begin from values that agree with "
                "the conditions at the ends and with fast reactions.",
            )
    return ()


def may_ring(
    dynamics: AbstractDynamics, initial: State, time_grid: TimeGrid, stepper: AbstractStepper
) -> bool:
    """Whether the start has a fast part of which so much is left where a state is saved first.

    Without a rollout: what is excited on the way is not known here.

    Args:
        dynamics: the system, prepared.
        initial: where a rollout starts.
        time_grid: the steps.
        stepper: takes them.
    """
    weight, steps = stepper.implicit_weight, np.flatnonzero(time_grid.slots == 0)
    if not (stepper.rings and weight and len(steps)):
        return False
    dt, now = float(time_grid.lengths[0]), time_grid.start(jnp.result_type(*initial.values()))
    dynamics, now = start_clock_at(dynamics, now)
    for field, (amplitude, times) in _fast_parts(dynamics, now, initial, dt).items():
        left = abs(1 - (1 - weight) * times) / (1 + weight * times)
        spread = _range(dynamics.grid, initial[field])[0]
        if left ** (int(steps[0]) + 1) * amplitude > _SEEN * (amplitude + spread):
            return True
    return False


def _range(grid: Grid | None, first: Array, *others: Any) -> tuple[float, float]:
    """How far the values of a field are apart, and the spacing of numbers of their size."""
    values = [in_free_cells(grid, np.asarray(u, np.float64)) for u in (first, *others)]
    values = [u for u in values if u.size]
    if not all(np.isfinite(u).all() for u in values):
        return 0.0, np.inf
    low, high = min(u.min() for u in values), max(u.max() for u in values)
    return high - low, float(jnp.finfo(first.dtype).eps) * max(abs(low), abs(high))


def _ringing_at(
    dynamics: AbstractDynamics,
    now: Array,
    state: State,
    ranges: Mapping[str, tuple[float, float]],
    dt: float,
) -> tuple[str, float, float] | None:
    """The field that rings most, its amplitude, and how often a step is its time of decay."""
    least = {field: max(_SEEN * span, _SPACINGS * gap) for field, (span, gap) in ranges.items()}
    found = {
        field: part
        for field, part in _fast_parts(dynamics, now, state, dt, least).items()
        if part[0] > least[field] > 0
    }
    if not found:
        return None
    worst = max(found, key=lambda field: found[field][0] / ranges[field][0])
    return worst, *found[worst]


def _fast_parts(
    dynamics: AbstractDynamics,
    now: Array,
    state: State,
    dt: float,
    least: Mapping[str, float] | None = None,
) -> dict[str, tuple[float, float]]:
    """Of fields with a part that a step does not resolve its amplitude and its number of times.

    Args:
        dynamics: the system, its times counted as `now`.
        now: when.
        state: then.
        dt: length of a step.
        least: amplitudes below which a field is not looked at further; all are by default.
    """
    state = split_integrals(dynamics, state)[0]
    tendency = dynamics.at(now)
    slopes = _slopes(tendency, state)
    rates = _rates(tendency, slopes, state)
    sizes = {field: float(jnp.abs(rate).max(initial=0)) for field, rate in rates.items()}
    # What rings is in the rate many times.
    if least and not any(dt * sizes[f] > _UNRESOLVED * least[f] > 0 for f in rates):
        return {}
    still = {field: jnp.zeros_like(u) for field, u in state.items()}
    _, bends = jax.jvp(partial(_rates, tendency, slopes), (state,), (still | rates,))
    found = {}
    for field, rate in rates.items():
        # In double precision: squares may be beyond the range of the other.
        pair = [np.asarray(u, np.float64).ravel() for u in (rate, bends[field])]
        norm, bend = (float(np.linalg.norm(u)) for u in pair)
        if norm > 0 and _UNRESOLVED * norm < dt * bend < np.inf:
            found[field] = sizes[field] * norm / bend, dt * bend / norm
    return found


def _rates(tendency: AbstractTendency, slopes: State, state: State) -> State:
    r"""$\dot u$ of all fields with a storage."""
    rates = tendency(state)
    return {field: rates[field] / slope for field, slope in slopes.items()}


def _slopes(tendency: AbstractTendency, state: State) -> State:
    """What is stored of a field, by its values."""
    moving = [field for field in state if field not in tendency.algebraic]
    if not tendency.has_storage:
        return {field: jnp.ones_like(state[field]) for field in moving}

    def slope(field: str) -> Array:
        def stored(u: Array) -> Array:
            return tendency.stored(state | {field: u})[field]

        value = state[field]
        return jax.jvp(stored, (value,), (jnp.ones_like(value),))[1]

    return {field: slope(field) for field in moving}
