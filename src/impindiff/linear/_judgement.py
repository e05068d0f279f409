"""A solution of a linear system, judged by the equation itself.

The residual that an iteration carries along drifts from the true one. Where it has drifted far, the
iteration begins again there; where less than round-off is left, that is good enough.
"""

from collections.abc import Callable
from dataclasses import replace
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

from impindiff._types import Scalar, Vector
from impindiff.linear import _tree as tree
from impindiff.linear._loop import Loop, once_where, while_loop
from impindiff.linear._outcome import Outcome, Result

Operator = Callable[[Vector], Vector]


class Iterated(NamedTuple):
    """Where an iteration arrived.

    Attributes:
        correction: what it found.
        norm2: the squared norm that the residual of it is believed to have.
        iterations: done.
        failure: what the iteration itself saw to be wrong with the system, if it saw anything.
    """

    correction: Vector
    norm2: Scalar
    iterations: Int[Array, ""]
    failure: Int[Array, ""] | int = int(Result.CONVERGED)


# Relative to the right-hand side, in units of round-off: a residual beyond this that the recurrence
# believes to be small is an error rather than the floor of the precision.
_ROUND_OFF_UNITS = 1e3
# The same for the backward error, relative to |A| |x| + |b|: what is left where A x is formed.
_BACKWARD_UNITS = 4.0
# How often an iteration may begin again at a true residual that it believed to be smaller.
_MOST_RESTARTS = 4
# How much of a residual, squared, one more try may leave for it to be worth the next.
WORTHWHILE = 0.25


def divide(numerator: Float[Array, "..."], denominator: Scalar) -> Float[Array, "..."]:
    """The quotient, or zero where the denominator is zero."""
    return jnp.where(denominator == 0, 0, numerator / jnp.where(denominator == 0, 1, denominator))


def round_off_of(rhs_norm2: Scalar) -> Scalar:
    """Squared norm of a residual that is round-off, whatever the iteration believes of it."""
    return (_ROUND_OFF_UNITS * jnp.finfo(rhs_norm2.dtype).eps) ** 2 * rhs_norm2


class Arrived(NamedTuple):
    """Where a solve stands after some passes of its iteration, by the equation itself.

    Attributes:
        x: the solution so far.
        residual: the true residual of the last pass, in units of the right-hand side.
        norm2: the squared norm of that.
        believed2: what the iteration took it for.
        iterations: of all passes.
        failure: what the iteration saw to be wrong.
        passes: how often it began.
        went_on: whether the last pass was worth its while.
    """

    x: Vector
    residual: Vector
    norm2: Scalar
    believed2: Scalar
    iterations: Int[Array, ""]
    failure: Int[Array, ""]
    passes: Int[Array, ""]
    went_on: Bool[Array, ""]

    @classmethod
    def at_start(cls, x: Vector, residual: Vector, norm2: Scalar) -> "Arrived":
        none = jnp.array(0)
        return cls(x, residual, norm2, norm2, none, none, none, jnp.array(True))

    def moved(self, x: Vector, residual: Vector, norm2: Scalar, found: Iterated) -> "Arrived":
        """After one more pass: at its end, or where it began if it brought nothing."""
        went_on = (self.passes == 0) | (norm2 < WORTHWHILE * self.norm2)
        # The residual is not looked at again where it brought nothing.
        return Arrived(
            jax.tree.map(lambda a, b: jnp.where(went_on, a, b), x, self.x),
            residual,
            jnp.where(went_on, norm2, self.norm2),
            found.norm2,
            self.iterations + found.iterations,
            jnp.asarray(found.failure, self.failure.dtype),
            self.passes + 1,
            went_on,
        )

    def is_mistaken(self, tolerance2: Scalar, enough2: Scalar) -> Bool[Array, ""]:
        """Whether the iteration believes to have converged, has not, and may yet."""
        mistaken = (self.believed2 <= tolerance2) & (self.norm2 > enough2)
        may_yet = self.went_on & (self.failure == Result.CONVERGED)
        return mistaken & may_yet & (self.passes <= _MOST_RESTARTS)

    def judge(self, rhs_norm2: Scalar, tolerance2: Scalar, round_off2: Scalar) -> Outcome:
        """Compare what the iteration believes with what the equation says."""
        why = jnp.maximum(self.failure, Result.STALLED)
        short = jnp.where(self.norm2 <= round_off2, Result.ROUND_OFF, why)
        ended = (self.believed2 <= tolerance2) | (self.failure != Result.CONVERGED)
        result = jnp.where(ended, short, Result.MAX_STEPS)
        result = jnp.where(self.norm2 <= tolerance2, Result.CONVERGED, result)
        # A solver may take an operator of NaN for a singular one; infinity is no tolerance.
        result = jnp.where(jnp.isfinite(self.norm2), result, Result.NOT_FINITE)
        relative = tree.root_of(divide(self.norm2, rhs_norm2))
        return Outcome(result, self.iterations, relative)


def forgive_round_off(
    outcome: Outcome, operator: Operator, x: Vector, unit: Scalar, rhs_norm2: Scalar
) -> Outcome:
    r"""The outcome, good where the backward error of a solution is that of round-off.

    $\lVert A \rVert \lVert x \rVert$ is estimated by products with the parts of $x$, one field at a
    time, their signs made to alternate, so that terms add up that cancel in $A x$. Looked at only
    where a solve ended short of its tolerance, since it takes so many products.
    """
    short = (outcome.result == Result.STALLED) | (outcome.result == Result.MAX_STEPS)

    def judged(outcome: Outcome, x: Vector) -> Outcome:
        eps = jnp.finfo(outcome.relative_residual.dtype).eps
        leaves, structure = jax.tree.flatten(tree.alternating(tree.scale(1 / unit, x)))

        def of_part(k):
            part = [jnp.where(k == j, leaf, 0) for j, leaf in enumerate(leaves)]
            return tree.norm(operator(structure.unflatten(part)))

        # One after the other, so that the product is compiled once.
        largest = jnp.sum(jax.lax.map(of_part, jnp.arange(len(leaves))))
        floor = _BACKWARD_UNITS * eps * (1 + divide(largest, tree.root_of(rhs_norm2)))
        # A solution that grows without bound, as of a singular system, has a small one, too.
        floor = jnp.minimum(floor, eps**0.25)
        good = outcome.relative_residual <= floor
        result = jnp.where(good, Result.ROUND_OFF, outcome.result).astype(outcome.result.dtype)
        return Outcome(result, outcome.iterations, outcome.relative_residual)

    return once_where(short, judged, outcome, x)


def blame_guess(outcome: Outcome, guess: Vector, loop: Loop) -> Outcome:
    """The same outcome, but for an equation that is not finite because its guess is not."""

    def blamed(result: Int[Array, ""], guess: Vector) -> Int[Array, ""]:
        why = jnp.where(tree.is_finite(guess), result, Result.GUESS_NOT_FINITE)
        return why.astype(result.dtype)

    is_bad = outcome.result == Result.NOT_FINITE
    if loop is while_loop and not tree.is_small(guess):
        result = once_where(is_bad, blamed, outcome.result, guess)
    else:
        result = jnp.where(is_bad, blamed(outcome.result, guess), outcome.result)
    return replace(outcome, result=result)
