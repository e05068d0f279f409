r"""In what units a stage is solved: of its fields, of its rows, and of its cells.

A norm over fields of different units would see the largest of them alone, and one over cells of
different sizes the smallest cells. Solved for is therefore $d_f \sqrt v / c_f$ with a cell's share
$v$ of the volume and the change $c_f$ that a field is expected to make, and each row is taken in
units of what such changes do to it. All of it follows the units in which a problem is written.
"""

from collections.abc import Callable, Mapping

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from impindiff._types import AbstractTendency, Scalar, State
from impindiff.linear import tolerance_of
from impindiff.precondition import Scaling

# How often fields that do not move by themselves are asked what others do to them.
_PASSES = 2
# A field is at rest whose own rate is less than this of what the others do to it.
_REST = 1e-6
# How far a field is moved, in units of round-off, to see how its residual is rounded.
_NUDGE = 4.0
# By how much the tolerance of a field lies above the round-off of its residual.
_ABOVE_NOISE = 4.0


def scaling_of(
    tendency: AbstractTendency,
    weight: Scalar,
    state: State,
    residual: Callable[[State], State],
    shares: np.ndarray | None,
) -> Scaling | None:
    """The units of a stage; None where they make no difference.

    Args:
        tendency: $F$, with scales of fields where they are given.
        weight: $w$.
        state: at the step's start.
        residual: of the stage.
        shares: volumes of the cells over their mean; None where all are equal.
    """
    scales = dict(tendency.scales)
    alone = len(state) == 1 and not scales and not tendency.algebraic
    if alone and shares is None:
        return None
    fields = list(state)
    columns = {field: jnp.ones((), u.dtype) for field, u in state.items()}
    rows = columns
    if not alone:
        effects = _effects(tendency, weight, state)
        start, noise = _start_and_noise(residual, state)
        rates, noise = _sizes(start, fields), _sizes(noise, fields)
        sizes = _changes(effects, rates, noise, fields, scales)
        totals = _positive(effects @ sizes)
        columns = {field: sizes[k].astype(u.dtype) for k, (field, u) in enumerate(state.items())}
        rows = {field: totals[k].astype(u.dtype) for k, (field, u) in enumerate(state.items())}
    if shares is not None:
        roots = {
            field: jnp.asarray(np.sqrt(shares) if u.shape == shares.shape else 1.0, u.dtype)
            for field, u in state.items()
        }
        columns = jax.tree.map(jnp.divide, columns, roots)
        rows = jax.tree.map(jnp.divide, rows, roots)
    return jax.lax.stop_gradient(Scaling(columns, rows))


def _start_and_noise(residual: Callable[[State], State], state: State) -> tuple[State, State]:
    """The residual at the start, and the round-off that it is evaluated with.

    That is by how much it misses, a few units of round-off away, what its derivative says.
    """

    def nudged(u: Array) -> Array:
        eps = jnp.finfo(u.dtype).eps
        return u * (1 + _NUDGE * eps * (2 * every_other(u) - 1))

    beside = jax.tree.map(nudged, state)
    change = jax.tree.map(jnp.subtract, beside, state)
    start, expected = jax.jvp(residual, (state,), (change,))
    noise = jax.tree.map(lambda a, b, c: a - b - c, residual(beside), start, expected)
    return start, noise


def _sizes(values: State, fields: list[str]) -> Float[Array, " n"]:
    """Of each field's row, a number."""
    if all(u.ndim == 0 for u in values.values()):
        return finite_size(jnp.stack([values[field] for field in fields]))
    return jnp.stack([root_mean_square(values[field]) for field in fields])


def _changes(
    effects: Float[Array, "n n"],
    rates: Float[Array, " n"],
    noise: Float[Array, " n"],
    fields: list[str],
    scales: Mapping[str, float],
) -> Float[Array, " n"]:
    """By how much each field can be expected to change: its scale, or what its own row says."""
    own = jnp.diagonal(effects)
    given = jnp.array([scales.get(field, 0.0) for field in fields], effects.dtype)
    of_others = effects - jnp.diag(own)
    by_itself = _over(rates, own)
    found = jnp.where(given > 0, given, by_itself)
    for _ in range(_PASSES):
        # A field at rest, but for round-off, moves by what the others do to it.
        moved = _over(of_others @ found, own)
        found = jnp.where(given > 0, given, jnp.where(by_itself > _REST * moved, by_itself, moved))
    # What only round-off moves would be all that a norm sees, and the others would not be solved.
    least = _over(_ABOVE_NOISE * noise / tolerance_of(None, effects.dtype), own)
    return _positive(jnp.where(given > 0, given, jnp.maximum(found, least)))


def _effects(tendency: AbstractTendency, weight: Scalar, state: State) -> Float[Array, "n n"]:
    """What a change of each field by 1 does to each row, over all cells: row, field.

    Stored and fast alike: the row of a field that reacts within the step is large by its rate, and
    so is its round-off. Changes are uniform, which fluxes do not see: how far a field spreads is no
    reason to solve less well for its mean. The rows of algebraic fields may be fluxes only; there
    every other cell changes.
    """

    def effect(change: State) -> tuple[State, State]:
        def both(u: State) -> tuple[State, State]:
            return tendency.stored(u), tendency(u)

        return jax.jvp(both, (state,), (change,))[1]

    def changes(values: Callable[[Array], Array]) -> State:
        """For each field a state in which it alone is not zero."""
        return {
            field: jnp.zeros((len(state), *u.shape), u.dtype).at[k].set(values(u))
            for k, (field, u) in enumerate(state.items())
        }

    stored, rates = jax.vmap(effect)(changes(jnp.ones_like))
    if tendency.algebraic:
        _, uneven = jax.vmap(effect)(changes(every_other))
        rates = rates | {name: uneven[name] for name in tendency.algebraic}
    total = {field: jnp.abs(stored[field] - weight * rates[field]) for field in state}
    return jnp.stack([jax.vmap(root_mean_square)(total[field]) for field in state])


def root_mean_square(row: Array) -> Scalar:
    """Root mean square; zero where that is not finite."""
    largest = jnp.max(jnp.abs(row), initial=0)
    unit = jnp.where(largest > 0, largest, 1)
    found = unit * jnp.sqrt(jnp.mean((row / unit) ** 2))
    return jnp.where(jnp.isfinite(found), found, 0)


def finite_size(numbers: Array) -> Array:
    """The magnitude of each number; zero where that is not finite."""
    return jnp.where(jnp.isfinite(numbers), jnp.abs(numbers), 0)


def _over(size: Array, own: Array) -> Array:
    return jnp.where(own > 0, size / jnp.where(own > 0, own, 1), 0)


def _positive(size: Array) -> Array:
    return jnp.where(jnp.isfinite(size) & (size > 0), size, 1)


def every_other(like: Array) -> Array:
    odd = np.indices(like.shape).sum(axis=0) % 2 == 0 if like.ndim else np.array(True)
    return jnp.asarray(odd, like.dtype)
