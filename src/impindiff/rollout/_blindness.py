"""Whether a step passes over something that its method does not evaluate, such as a short pulse.

Of a state at rest nothing else tells of it. So the right-hand side is looked at between the times
at which the method evaluates it: at times that are evenly spread, and wherever a coefficient says
that it has an extremum in the step. A given series knows that of itself, however short its pulse.
"""

import jax
import jax.numpy as jnp
from jaxtyping import Array

from impindiff._types import Scalar, State
from impindiff.integrate import AbstractDynamics, tendency_at

# A right-hand side is looked at so many times in each step, and at as many as this in the whole
# time; it may vary so many times as far there as where the method evaluates it.
_LOOKS, _LOOKS_IN_ALL, _VARIES = 32, 1024, 3.0
_FEW_NUMBERS = 1024
# By so many units of round-off rows without a storage may vary.
_ROUND_OFF = 100


def is_step_blind(
    dynamics: AbstractDynamics,
    nodes: tuple[float, ...],
    time: Scalar,
    dt: Scalar,
    whole: Scalar,
    state: State,
    limits: State,
) -> Array:
    """Whether the right-hand side varies in a step where the method does not evaluate it.

    So does a source that is on for a short while. Without this, steps would be as long as they may.

    Args:
        dynamics: the system.
        nodes: where the method evaluates it, in units of the step.
        time: at the start of the step.
        dt: its length.
        whole: the time of the whole rollout.
        state: at its end.
        limits: what error is allowed in what fields store; a change by less does not matter.
    """
    if dynamics.is_steady and not dynamics.integrals:
        return jnp.array(False)

    # So few numbers are evaluated at many moments at once, others one after the other.
    is_small = sum(u.size for u in state.values()) <= _FEW_NUMBERS
    width = _LOOKS if is_small else 1

    def ends(at: Array) -> tuple[State, State]:
        """The least and the greatest of the rates at some moments."""
        rates = jax.vmap(lambda at: tendency_at(dynamics, time + at * dt, state)(state))(at)
        low, high = (jax.tree.map(lambda k, f=f: f(k, 0), rates) for f in (jnp.min, jnp.max))
        return low, high

    def widen(sofar: tuple[State, State], at: Array) -> tuple[State, State]:
        (low, high), (lower, higher) = sofar, ends(at)
        return jax.tree.map(jnp.minimum, low, lower), jax.tree.map(jnp.maximum, high, higher)

    many = jnp.ceil(_LOOKS_IN_ALL * (dt / whole)).astype(int)
    count = jnp.clip(many, _LOOKS, _LOOKS_IN_ALL)

    def more(turn: Array, sofar: tuple[State, State]) -> tuple[State, State]:
        number = jnp.minimum(turn * width + jnp.arange(width), count - 1)
        return widen(sofar, (number + 0.5) / count.astype(dt.dtype))

    def widen_by(sofar: tuple[State, State], at: Array) -> tuple[State, State]:
        rows = at[None] if is_small else at[:, None]
        return jax.lax.fori_loop(0, len(rows), lambda k, sofar: widen(sofar, rows[k]), sofar)

    places = jnp.asarray(nodes, dt.dtype)
    # Small systems at all nodes at once; others at the first, then at the rest one by one.
    now, rest = (places, places[:0]) if is_small else (places[:1], places[1:])
    seen = ends(now)
    seen = widen_by(seen, rest) if rest.size else seen
    every = jax.lax.fori_loop(0, (count + width - 1) // width, more, seen)
    extrema = dynamics.extrema_within(time, dt)
    if extrema.size:
        # In place of one that is not in the step, what has been seen already.
        is_inside = (extrema > 0) & (extrema < dt)
        every = widen_by(every, jnp.where(is_inside, extrema / dt, places[0]).astype(dt.dtype))
    here, there = (jax.tree.map(jnp.subtract, high, low) for low, high in (seen, every))

    def is_seen(field: str) -> Array:
        """Whether what is there is more than nothing; without a storage, than round-off."""
        if field in limits:
            return dt * there[field] > limits[field]
        low, high = (jnp.abs(ends[field]) for ends in every)
        return there[field] > _ROUND_OFF * jnp.finfo(dt.dtype).eps * jnp.maximum(low, high)

    missed = [jnp.any((there[f] > _VARIES * here[f]) & is_seen(f)) for f in there]
    return jnp.stack(missed).any()
