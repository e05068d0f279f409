"""What iterations for nonlinear residuals share: what they are to reach, and how they conclude."""

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Int

from impindiff._types import Scalar, Vector
from impindiff.implicit import _tree as tree
from impindiff.implicit._limits import Limited, goal_of
from impindiff.implicit._outcome import Outcome, Result
from impindiff.implicit._solver import AbstractRootSolver, AtZero

# A residual that no step lowers is round-off up to this many units of it, relative to where the
# iteration began; and up to so many of what rounding the unknown gives it.
_ROUND_OFF_UNITS = 1e3
_FLOOR_UNITS = 4.0
# What one more iteration may leave of a residual at the level of round-off, to be worth the next.
_FALLING = 0.9


class AbstractIteration(AbstractRootSolver):
    """A root solver with tolerances, which says what it is to reach."""

    def goal(self: Limited, at_zero: Scalar, rtol: Scalar | None) -> Scalar:
        """See `AbstractRootSolver.goal`."""
        return goal_of(self, at_zero, rtol)


class Target(NamedTuple):
    """What an iteration is to reach, and from where."""

    goal: Scalar
    """Residual norm at or below which it has converged."""
    scale: Scalar
    """What a relative tolerance is relative to: the residual norm at zero."""
    floor: Scalar
    """Residual norm that rounding the unknown gives."""
    guess: Vector
    """Where to start."""
    value: Vector
    """The residual there."""
    norm: Scalar
    """Its norm."""

    def is_missed(self, norm: Scalar, before: Scalar) -> Bool[Array, ""]:
        """Whether an iteration goes on.

        A residual at the level of round-off ends it where it no longer falls, and not before: what
        changes less in a step than rounding does would never change, whatever the number of steps.

        Args:
            norm: of the residual.
            before: that of the iterate before; infinite at the start.
        """
        return (norm > self.goal) & ((norm > self.floor) | (norm < _FALLING * before))


def target(
    residual: Callable[[Vector], Vector],
    guess: Vector | None,
    solver: Limited,
    loosest: Scalar | None,
    at_zero: AtZero | None,
) -> Target:
    r"""The residual norm to reach: the larger of `atol` and `rtol` $\lVert R(0) \rVert$.

    Args:
        residual: of the equations.
        guess: where the iteration starts; None for zero.
        solver: with tolerances.
        loosest: where given, a relative tolerance that is enough this once.
        at_zero: the residual at zero, where it is known.

    Raises: ValueError for neither a guess nor the residual at zero.
    """
    if at_zero is None:
        if guess is None:
            raise ValueError("a solve starts from a guess, or from what the residual is at zero.")
        at_zero = AtZero(residual(tree.zeros_like(guess)), jnp.zeros((), tree.scalar_dtype(guess)))
    scale = tree.steering_norm(at_zero.value)
    start, value, norm = guess, at_zero.value, scale
    if start is None:
        start = tree.zeros_like(value)
    else:
        value = residual(start)
        norm = tree.steering_norm(value)
    goal = goal_of(solver, scale, loosest)
    return Target(goal, scale, jax.lax.stop_gradient(at_zero.floor), start, value, norm)


def conclude(
    norm: Scalar,
    aim: Target,
    stalled: Bool[Array, ""],
    steps: Int[Array, ""],
    iterations: Int[Array, ""],
) -> Outcome:
    """The outcome of an iteration that ended at a residual norm.

    Args:
        norm: of the true residual.
        aim: what it was to reach.
        stalled: whether the iteration ended because no step lowered the residual.
        steps: nonlinear steps done.
        iterations: linear iterations done, summed over steps.
    """
    floor = _ROUND_OFF_UNITS * jnp.finfo(norm.dtype).eps * aim.scale
    floor = jnp.maximum(floor, _FLOOR_UNITS * aim.floor)
    result = jnp.where(stalled & (norm > floor), Result.STALLED, Result.MAX_STEPS)
    at_floor = (stalled & (norm <= floor)) | (norm <= aim.floor)
    result = jnp.where(at_floor, Result.ROUND_OFF, result)
    result = jnp.where(norm <= aim.goal, Result.CONVERGED, result)
    result = jnp.where(jnp.isfinite(norm), result, Result.NOT_FINITE)
    relative = norm / jnp.where(aim.scale == 0, 1, aim.scale)
    return Outcome(result, iterations, relative, steps)
