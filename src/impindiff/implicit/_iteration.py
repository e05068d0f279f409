"""What iterations for nonlinear residuals share.

What they are to reach, how they conclude, and what they do at a point where a function has no slope
that can be computed with.
"""

import abc
from collections.abc import Callable
from dataclasses import replace
from typing import ClassVar, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Int

from impindiff._types import Scalar, Vector
from impindiff.implicit._root_solver import AbstractRootSolver, AtZero
from impindiff.linear import (
    Outcome,
    Result,
    check_tolerances,
    goal_of,
    once_where,
    tolerance_of,
    tree,
)

# A residual that no step lowers is round-off up to this many units of it, relative to where the
# iteration began; and up to so many of what rounding the unknown gives it.
_ROUND_OFF_UNITS = 1e3
_FLOOR_UNITS = 4.0
# What one more iteration may leave of a residual at the level of round-off, to be worth the next.
_FALLING = 0.9


class AbstractIteration(AbstractRootSolver):
    """A root solver that iterates until the residual meets a tolerance.

    A subclass has the tolerances as fields with defaults.
    """

    converges_fast: ClassVar[bool] = False
    """Whether more digits cost few iterations, so that a tighter tolerance may be asked for."""

    # Not `AbstractVar`s: type checkers would take them for the first fields of every solver.
    @property
    @abc.abstractmethod
    def rtol(self) -> float | None:
        """Tolerance relative to the residual at zero; None for that of the precision."""

    @property
    @abc.abstractmethod
    def atol(self) -> float:
        """Absolute tolerance."""

    @property
    @abc.abstractmethod
    def max_steps(self) -> int:
        """Most iterations."""

    def __check_init__(self) -> None:
        """Refuse tolerances and counts that cannot be met."""
        check_tolerances(type(self).__name__, self.rtol, self.atol, self.max_steps)

    def goal(self, at_zero: Scalar, rtol: Scalar | None) -> Scalar:
        """See `AbstractRootSolver.goal`."""
        return goal_of(self.rtol, self.atol, at_zero, rtol)

    def tightened(self, factor: float, dtype: jnp.dtype) -> "AbstractIteration":
        """See `AbstractRootSolver.tightened`."""
        if not self.converges_fast:
            return self
        rtol, least = tolerance_of(self.rtol, dtype), _ROUND_OFF_UNITS * float(jnp.finfo(dtype).eps)
        return replace(self, rtol=min(rtol, max(factor * rtol, least)))

    def accepted(self, outcome: Outcome) -> Outcome:
        """See `AbstractRootSolver.accepted`."""
        if not self.converges_fast:
            return outcome
        finished = outcome.result <= Result.STALLED
        rtol = tolerance_of(self.rtol, outcome.relative_residual.dtype)
        enough = finished & (outcome.relative_residual <= rtol)
        return replace(outcome, result=jnp.where(enough, Result.CONVERGED, outcome.result))


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
    solver: AbstractRootSolver,
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
    goal = solver.goal(scale, loosest)
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


def beside_singular(
    residual: Callable[[Vector], Vector], point: Vector, value: Vector | None = None
) -> Vector:
    r"""The point, moved up by a trifle where the residual's slope is not finite.

    Args:
        residual: $R$.
        point: $u$.
        value: $R(u)$; what its largest entry would move is what a trifle is measured by. Without
            it the point itself is.

    Where all slopes are finite, this is the point itself. One product with the Jacobian.
    """
    ones = jax.tree.map(jnp.ones_like, point)
    _, slopes = jax.lax.stop_gradient(jax.jvp(residual, (point,), (ones,)))

    def shift(_: Vector, point: Vector, slopes: Vector) -> Vector:
        finite = jax.tree.map(jnp.isfinite, slopes)
        trifle = tree.unit(point)
        if value is not None:
            steepest = tree.largest(jax.tree.map(lambda s, ok: jnp.where(ok, s, 0), slopes, finite))
            trifle = tree.unit(jax.lax.stop_gradient(value)) / jnp.where(steepest > 0, steepest, 1)
        trifle = jnp.sqrt(jnp.finfo(trifle.dtype).eps) * trifle
        return jax.tree.map(lambda u, ok: jnp.where(ok, 0, trifle).astype(u.dtype), point, finite)

    fixed = jax.lax.stop_gradient((point, slopes))
    shifted = once_where(~tree.is_finite(slopes), shift, tree.zeros_like(point), *fixed)
    return tree.add(point, shifted)
