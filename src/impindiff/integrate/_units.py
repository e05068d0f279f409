"""In what units a stage is solved: of its fields, and of its rows."""

from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from impindiff._types import BalanceTendency, Scalar, State


def over(state: State, units: State) -> State:
    """A state in units, field by field."""
    return jax.tree.map(jnp.divide, state, units)


def units_of(scales: Mapping[str, float], like: State) -> State:
    """For each field its scale; 1 where it has none."""
    return {field: jnp.asarray(scales.get(field, 1.0), u.dtype) for field, u in like.items()}


def rows_of(tendency: BalanceTendency, weight: Scalar, state: State, units: State) -> State:
    """For each row the sum of what a change of each field by its scale does to it, over all cells.

    Stored and fast alike: the row of a field that reacts within the step is large by its rate, and
    so is its round-off. Changes are uniform, which fluxes do not see: how far a field spreads is no
    reason to solve less well for its mean. The rows of algebraic fields may be fluxes only; there
    every other cell changes.
    """

    def effect(change: State) -> tuple[State, State]:
        return jax.jvp(lambda u: (tendency.stored(u), tendency(u)), (state,), (change,))[1]

    fields = list(state)

    def changes(shares: Any) -> State:
        """For each field a state in which it alone is not zero."""
        return {
            field: jnp.zeros((len(fields), *u.shape), u.dtype).at[k].set(shares(u) * units[field])
            for k, (field, u) in enumerate(state.items())
        }

    stored_change, rates = jax.vmap(effect)(changes(jnp.ones_like))
    if tendency.algebraic:
        _, uneven = jax.vmap(effect)(changes(lambda u: _every_other(u.shape).astype(u.dtype)))
        rates = rates | {name: uneven[name] for name in tendency.algebraic}
    total = jax.tree.map(
        lambda q, f: jnp.sum(jnp.abs(q - weight * f), axis=0), stored_change, rates
    )

    def size(row):
        found = jnp.sqrt(jnp.mean(row**2))
        return jnp.where(jnp.isfinite(found) & (found > 0), found, 1)

    return jax.tree.map(size, total)


def _every_other(shape: tuple[int, ...]) -> np.ndarray:
    return np.indices(shape).sum(axis=0) % 2 == 0 if shape else np.array(True)
