"""What iterations for nonlinear residuals share: what they are to reach, and how they conclude."""

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Int

from impindiff._types import Scalar, Vector
from impindiff.implicit import _tree as tree
from impindiff.implicit._outcome import Outcome, Result

# A residual that no step lowers is taken for round-off up to this many units of it.
_ROUND_OFF_UNITS = 1e3


class Target(NamedTuple):
    """What an iteration is to reach, and from where."""

    goal: Scalar
    """Residual norm at or below which it has converged."""
    scale: Scalar
    """What a relative tolerance is relative to."""
    start: Scalar
    """Residual norm at the guess."""


def target(
    residual: Callable[[Vector], Vector],
    guess: Vector,
    rtol: float,
    atol: float,
    loosest: Scalar | None,
) -> Target:
    r"""The residual norm to reach: the larger of `atol` and `rtol` times $\lVert R(0) \rVert$.

    For an affine residual the scale $\lVert R(0) \rVert$ is the norm of the right-hand side. It
    does not shrink as guesses get better, as the residual at the guess would. Where it is zero or
    not finite, the larger of $\lVert R(u) \rVert$ and $\lVert J(u)\,u \rVert$ at the guess stands
    in for it: the second is what is left of the first, in size, when the guess is the root.

    Args:
        residual: of the equations.
        guess: where the iteration starts.
        rtol: the solver's own relative tolerance.
        atol: its absolute one.
        loosest: where given, a relative tolerance that is enough this once.
    """
    # Zero and the guess at once, so that the residual is compiled once for both.
    points = jax.tree.map(lambda u: jnp.stack([jnp.zeros_like(u), u]), guess)
    at_zero, at_guess = jax.vmap(lambda point: tree.norm(residual(point)))(points)

    def stand_in():
        _, change = jax.jvp(residual, (guess,), (guess,))
        return jnp.maximum(at_guess, tree.norm(change))

    usable = jnp.isfinite(at_zero) & (at_zero > 0)
    scale = jax.lax.cond(usable, lambda: at_zero, stand_in)
    tolerance = rtol if loosest is None else jnp.maximum(loosest, rtol)
    # Norms steer; what they steer has no derivative.
    return jax.lax.stop_gradient(Target(jnp.maximum(tolerance * scale, atol), scale, at_guess))


def conclude(
    guess: Vector,
    norm: Scalar,
    aim: Target,
    stalled: Bool[Array, ""],
    steps: Int[Array, ""],
    iterations: Int[Array, ""],
) -> Outcome:
    """The outcome of an iteration that ended at a residual norm.

    Args:
        guess: where the iteration started.
        norm: of the true residual.
        aim: what it was to reach.
        stalled: whether the iteration ended because no step lowered the residual.
        steps: nonlinear steps done.
        iterations: linear iterations done, summed over steps.
    """
    floor = _ROUND_OFF_UNITS * jnp.finfo(norm.dtype).eps * aim.scale
    result = jnp.where(stalled & (norm <= floor), Result.ROUND_OFF, Result.MAX_STEPS)
    result = jnp.where(stalled & (norm > floor), Result.STALLED, result)
    result = jnp.where(norm <= aim.goal, Result.CONVERGED, result)
    finite_start = jnp.isfinite(tree.norm(guess))
    not_finite = jnp.where(finite_start, Result.NOT_FINITE, Result.GUESS_NOT_FINITE)
    result = jnp.where(jnp.isfinite(norm), result, not_finite)
    relative = norm / jnp.where(aim.scale == 0, 1, aim.scale)
    return Outcome(result, iterations, relative, steps)
