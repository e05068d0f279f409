r"""Newton's method with the Jacobian of a point nearby: $u \leftarrow u - P^{-1} R(u)$.

Many roots of like equations, as the stages of a step, so share one factorisation. Convergence is
linear, with the ratio by which the Jacobian has changed since; judged are the same residual and
the same tolerance as of any other iteration. Where it is slow, the root solver itself goes on.

Reference: Hairer & Wanner, Solving Ordinary Differential Equations II, section IV.8.
"""

from collections.abc import Callable

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool

from impindiff._types import Scalar, Vector
from impindiff.implicit._iteration import Target, conclude, target
from impindiff.implicit._root_solver import AbstractRootSolver, AtZero
from impindiff.linear import AbstractInverse, Outcome, tree

# A residual that falls by less than this in a step is left to a Jacobian of its own.
_SLOW = 0.3


def approach(
    residual: Callable[[Vector], Vector],
    guess: Vector | None,
    inverse: AbstractInverse,
    solver: AbstractRootSolver,
    rtol: Scalar | None,
    at_zero: AtZero,
) -> tuple[Vector, Outcome]:
    """Where chord steps lead, and whether that is a root; no step back is taken.

    Args:
        residual: $R$.
        guess: where to start; None for zero.
        inverse: $P^{-1}$.
        solver: whose tolerance is to be met.
        rtol: a looser tolerance than the solver's own.
        at_zero: the residual at zero.
    """
    aim = target(residual, guess, solver, rtol, at_zero)
    if guess is not None:
        # An extrapolated guess may lead a function out of its domain.
        aim = _from_zero_unless(jnp.isfinite(aim.norm), aim, at_zero)

    def unfinished(carry):
        _, _, norm, before, steps, is_fast = carry
        return aim.is_missed(norm, before) & is_fast & (steps < solver.num_chord_steps)

    def step(carry):
        u, value, norm, _, steps, _ = carry
        moved = tree.subtract(u, inverse.apply(value))
        value_there = residual(moved)
        after = tree.steering_norm(value_there)
        # Comparisons that NaN fails.
        is_better = after < norm
        u, value = jax.tree.map(
            lambda new, old: jnp.where(is_better, new, old), (moved, value_there), (u, value)
        )
        return u, value, jnp.where(is_better, after, norm), norm, steps + 1, after < _SLOW * norm

    none = jnp.array(0)
    first = aim.guess, aim.value, aim.norm, jnp.full_like(aim.norm, jnp.inf), none, jnp.array(True)
    u, _, norm, _, steps, _ = jax.lax.while_loop(unfinished, step, first)
    outcome = conclude(norm, aim, jnp.array(False), steps, steps)
    # Who goes on begins there where least is left over.
    is_better = norm <= aim.scale
    return jax.tree.map(lambda u: jnp.where(is_better, u, 0), u), outcome


def _from_zero_unless(condition: Bool[Array, ""], aim: Target, at_zero: AtZero) -> Target:
    """The target with its own start, or with zero."""
    zeros = tree.zeros_like(aim.guess)
    guess, value, norm = jax.tree.map(
        lambda own, other: jnp.where(condition, own, other),
        (aim.guess, aim.value, aim.norm),
        (zeros, at_zero.value, aim.scale),
    )
    return aim._replace(guess=guess, value=value, norm=norm)
