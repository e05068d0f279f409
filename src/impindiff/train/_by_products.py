"""Damped Gauss-Newton steps in many unknowns: what an epoch of them does."""

from typing import NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
from jax.flatten_util import ravel_pytree
from jaxtyping import Array, Float, PyTree

from impindiff._types import Scalar
from impindiff.train._krylov_step import krylov_step
from impindiff.train._line_search import unknown
from impindiff.train._objective import AbstractObjective
from impindiff.train._optimisers import Epoch, traced_once

# A step counts that gains this share of what the linearised residuals promise.
LEAST_GAIN = 1e-4
LEAST_DAMPING = 1e-12


class DampedState(NamedTuple):
    """Where the last epoch arrived; of infinite loss where nothing has been evaluated yet.

    Attributes:
        loss: there.
        slope: the triangle of its residuals; the gradient where unknowns are many.
        scale: the diagonal of $D$.
        damping: to try next.
    """

    loss: Scalar
    slope: Float[Array, "columns columns"] | Float[Array, " n"]
    scale: Float[Array, " n"]
    damping: Scalar


def epoch_by_products(
    squares: AbstractObjective,
    learned: PyTree,
    state: DampedState,
    max_attempts: int,
    max_products: int,
) -> tuple[PyTree, DampedState, Epoch]:
    """One step of Levenberg-Marquardt, see there; the start is evaluated first where it is unknown.

    Args:
        squares: the objective, a gradient by reverse mode included.
        learned: where to begin.
        state: what the last epoch left.
        max_attempts: most attempts at the step.
        max_products: most iterations in one attempt.
    """
    flat, restore = ravel_pytree(learned)
    objective = traced_once(squares, learned)
    nothing = unknown(objective, learned)
    dtype = nothing.loss.dtype
    smallest = jnp.finfo(flat.dtype).eps
    here = jax.tree.map(lambda leaf: leaf.astype(dtype), state)
    # Where no step is taken, this is where the stage stays.
    gradient = restore(here.slope.astype(flat.dtype))
    stay = eqx.tree_at(lambda e: (e.loss, e.gradient), nothing, (here.loss, gradient))

    def step_from(point: Array, here: DampedState, damping: Scalar):
        maps = squares.linear_maps(restore(point))
        scale = maps.column_norms(here.scale)
        return *krylov_step(maps, scale, damping, max_products), scale

    def no_step(point: Array, here: DampedState, damping: Scalar):
        zero = jnp.zeros((), dtype)
        return jnp.zeros(point.shape, dtype), zero, jnp.array(True), here.scale

    def attempt(carry):
        point, here, evaluation, _, growth, count, *_ = carry
        is_new = jnp.isposinf(here.loss)
        step, promised, sound, scale = jax.lax.cond(
            is_new, no_step, step_from, point, here, here.damping
        )
        there = point + step.astype(point.dtype)
        found = objective(restore(there))
        gain = (here.loss - found.loss) / promised
        vanishes = (promised <= smallest * here.loss) | jnp.all(
            jnp.abs(step) <= smallest * jnp.abs(point)
        )
        accepted = is_new | (sound & found.is_finite & (gain > LEAST_GAIN) & ~vanishes)
        less = jnp.clip(1 - (2 * gain - 1) ** 3, 1 / 3, 2)
        damping = here.damping * jnp.where(accepted, less, growth)
        damping = jnp.where(is_new, here.damping, jnp.maximum(damping, LEAST_DAMPING))
        slope = ravel_pytree(found.gradient)[0].astype(dtype)
        moved = (there, DampedState(found.loss, slope, scale, damping), found)
        # A derivative that could not be solved for is as bad as a gradient that could not.
        lost = jax.tree.map(lambda leaf: jnp.where(sound, leaf, jnp.nan), evaluation.gradient)
        evaluation = eqx.tree_at(lambda e: e.gradient, evaluation, lost)
        stayed = (point, here._replace(scale=scale, damping=damping), evaluation)
        after = jax.tree.map(lambda new, old: jnp.where(accepted, new, old), moved, stayed)
        ended = jnp.where(is_new, ~found.is_finite, accepted | vanishes | ~sound)
        growth = jnp.where(is_new, growth, 2 * growth)
        return *after, here.damping, growth, count + 1, accepted, ended

    used, no = here.damping, jnp.array(False)
    first = (flat, here, stay, used, jnp.full((), 2, dtype), jnp.array(0), no, no)
    point, found, evaluation, used, _, _, accepted, _ = jax.lax.while_loop(
        lambda carry: ~carry[-1] & (carry[-3] < max_attempts), attempt, first
    )
    epoch = Epoch(evaluation, 1 / (1 + used), ~accepted)
    kept = jax.tree.map(lambda new, old: new.astype(old.dtype), found, state)
    return restore(point), kept, epoch
