"""What error of a step is allowed, and how large it is in units of that.

The error of a field is compared with its scale or, where it has none, with how far it ranges at the
start and has moved since.
"""

from collections.abc import Mapping
from typing import NamedTuple

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array

from impindiff._types import Scalar, State
from impindiff.grid import in_free_cells
from impindiff.integrate import AbstractDynamics, tendency_at

# A tolerance below so many units of round-off of a field cannot be met.
ROUND_OFF_UNITS = 4
# What begins to move from rest is compared with this part, too, of what it would come to by its
# present rate. Else a start like $\sqrt t$ has the same relative error in a step of any length.
_OF_PROSPECT = 0.01


class Allowed(NamedTuple):
    """What error is allowed.

    Attributes:
        rtol: relative.
        atol: absolute, by field; a field without one is compared with how far it moves.
    """

    rtol: Scalar
    atol: State

    def stored(self, dynamics: AbstractDynamics, time: Scalar, state: State, sizes: State) -> State:
        """The error allowed in what each field stores.

        Args:
            dynamics: the system.
            time: at which its storage is taken.
            state: the fields.
            sizes: what each field is compared with, a number each.
        """
        tolerances = {}
        for field, size in sizes.items():
            u = jnp.abs(state[field])
            atol = self.atol.get(field)
            wanted = self.rtol * size if atol is None else atol + self.rtol * u
            largest = in_free_cells(dynamics.grid, u).max(initial=0)
            least = ROUND_OFF_UNITS * jnp.finfo(u.dtype).eps * largest
            tolerances[field] = jnp.broadcast_to(jnp.maximum(wanted, least), u.shape)
        return more_stored(dynamics, time, state, tolerances)


def sizes_of(dynamics: AbstractDynamics, first: State, moved: State) -> State:
    """What the error of a field is compared with: its scale, or how far it ranges and has moved."""
    scales = _scales(dynamics, first)
    return {
        field: jnp.asarray(scales[field], far.dtype)
        if field in scales
        else _range(dynamics, first[field]) + far
        for field, far in moved.items()
    }


def _scales(dynamics: AbstractDynamics, state: State) -> Mapping[str, float]:
    return dynamics.at(jnp.zeros((), jnp.result_type(*state.values()))).scales


def _range(dynamics: AbstractDynamics, u: Array) -> Scalar:
    return jnp.ptp(in_free_cells(dynamics.grid, u))


def prospects(
    dynamics: AbstractDynamics,
    first: State,
    moved: State,
    speeds: State,
    elapsed: Scalar,
    whole: Scalar,
) -> State:
    """What the error of a step is compared with, besides, of what begins to move from rest.

    That is a part of what an integral would come to in the whole time by its rate at the end of the
    step, and a field that has been at rest, and the same everywhere, in the time until now.

    Args:
        dynamics: the system.
        first: the state at the start of the rollout.
        moved: how far each field had moved until this step.
        speeds: of what has an error: of integrals at the end of the step, of fields their mean.
        elapsed: the time until this step.
        whole: the time of the whole rollout.
    """
    scales = _scales(dynamics, first)
    found = {}
    for name, speed in speeds.items():
        if name in scales:
            found[name] = jnp.zeros_like(speed)
        elif name in dynamics.integrals:
            found[name] = _OF_PROSPECT * speed * whole
        else:
            rested = (moved[name] == 0) & (_range(dynamics, first[name]) == 0)
            found[name] = jnp.where(rested, _OF_PROSPECT * speed * elapsed, 0)
    return found


def more_stored(dynamics: AbstractDynamics, time: Scalar, state: State, change: State) -> State:
    r"""How much more is stored where fields are larger by a change, or smaller by it.

    Smaller, where a storage has no value beyond: $-\ln(1 - u)$ just below 1.
    """
    if not dynamics.has_storage:
        return change
    tendency = tendency_at(dynamics, time, state)
    stored = tendency.stored(state)

    def apart(sign: int) -> State:
        moved = {f: u + sign * change[f] if f in change else u for f, u in state.items()}
        there = tendency.stored(moved)
        return {field: jnp.abs(there[field] - stored[field]) for field in change}

    larger, smaller = apart(1), apart(-1)
    return {f: jnp.where(jnp.isfinite(more), more, smaller[f]) for f, more in larger.items()}


def judge(dynamics: AbstractDynamics, error: Array, allowed: Array) -> tuple[Scalar, Array]:
    """The root mean square of an error in units of what is allowed, by volume; where it is most."""
    ratio = jnp.abs(error) / allowed
    # In a solid cell, and where a field rests, nothing moves, whatever is allowed.
    ratio = jnp.where(error == 0, 0, ratio)
    squares, shares = in_free_cells(dynamics.grid, ratio**2), dynamics.volume_shares
    if shares is None or np.shape(shares) != ratio.shape:
        return jnp.sqrt(jnp.mean(squares)), jnp.argmax(ratio)
    weights = in_free_cells(dynamics.grid, shares)
    return jnp.sqrt(jnp.sum(weights / weights.sum() * squares)), jnp.argmax(ratio)
