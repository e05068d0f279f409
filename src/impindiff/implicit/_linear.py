"""What every linear solver shares: its interface, its guards, and the judgement of its solution.

A solver's own file holds its iteration and nothing else. Around it, here and once: iterated is the
correction to the guess, in units of the right-hand side (squared, a right-hand side of 1e-20 would
be zero in single precision, and any answer to it right); a right-hand side of zero has the solution
zero, whatever the guess; and the residual is formed anew at the end, since the one that an
iteration carries along drifts from it.
"""

import abc
from collections.abc import Callable
from typing import NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from impindiff._types import Scalar, Vector
from impindiff.implicit import _tree as tree
from impindiff.implicit._loop import Loop, while_loop
from impindiff.implicit._outcome import Outcome, Result
from impindiff.implicit._preconditioner import AbstractPreconditioner

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


class AbstractLinearSolver(eqx.Module):
    r"""Solves $A x = b$ for an operator given by its product.

    Stops where $\lVert b - A x \rVert \le \max(\mathrm{rtol} \lVert b \rVert, \mathrm{atol})$.

    Attributes:
        rtol: tolerance relative to the right-hand side.
        atol: absolute tolerance, in the right-hand side's units.
        max_steps: most iterations.
    """

    rtol: eqx.AbstractVar[float]
    atol: eqx.AbstractVar[float]
    max_steps: eqx.AbstractVar[int]

    @abc.abstractmethod
    def iterate(
        self,
        operator: Operator,
        residual: Vector,
        tolerance2: Scalar,
        precondition: Callable[[Vector], Vector],
        loop: Loop,
    ) -> Iterated:
        """Solve for the correction of a residual, from zero.

        Args:
            operator: the product with $A$.
            residual: right-hand side; its largest entry is about 1, or all are zero.
            tolerance2: square of the residual norm to reach.
            precondition: approximates the product with the inverse.
            loop: repeats the iteration.
        """

    def solve(
        self,
        operator: Operator,
        rhs: Vector,
        guess: Vector | None = None,
        preconditioner: AbstractPreconditioner | None = None,
        *,
        rtol: Scalar | None = None,
        loop: Loop = while_loop,
    ) -> tuple[Vector, Outcome]:
        """Solve, and judge the solution by its true residual.

        Args:
            operator: the product with $A$.
            rhs: $b$.
            guess: where to start; zero by default.
            preconditioner: approximates the inverse.
            rtol: a looser tolerance than the solver's own, for this solve.
            loop: repeats the iteration; with `unrolled_loop` it can be differentiated.
        """
        # No derivative of its own: the unit cancels, and tolerances only decide when to stop.
        unit = jax.lax.stop_gradient(_unit(rhs))
        scaled = tree.scale(1 / unit, rhs)
        rhs_norm2 = tree.dot(scaled, scaled)
        goal = self.rtol if rtol is None else jnp.maximum(rtol, self.rtol)
        tolerance2 = jax.lax.stop_gradient(
            jnp.maximum(goal**2 * rhs_norm2, (self.atol / unit) ** 2)
        )
        start, residual = tree.zeros_like(rhs), scaled
        if guess is not None:
            start, residual = guess, tree.scale(1 / unit, tree.subtract(rhs, operator(guess)))
        # Nothing but zero solves a system of right-hand side zero, whatever the guess was. Where
        # the equation is not finite, NaN, for the guess would pass as a solution.
        is_zero = rhs_norm2 == 0
        residual = jax.tree.map(lambda r: jnp.where(is_zero, 0, r), residual)
        nan_or_zero = 0 * tree.dot(residual, residual)
        start = jax.tree.map(lambda g: jnp.where(is_zero, 0, g + nan_or_zero), start)
        precondition = (lambda v: v) if preconditioner is None else preconditioner.apply
        found = self.iterate(operator, residual, tolerance2, precondition, loop)
        x = jax.tree.map(lambda x, d: x + unit * d, start, found.correction)
        true = tree.scale(1 / unit, tree.subtract(rhs, operator(x)))
        outcome = _judge(found, tree.dot(true, true), rhs_norm2, tolerance2)
        if guess is not None:
            outcome = _blame_guess(outcome, guess)
        return x, outcome


def divide(numerator: Float[Array, "..."], denominator: Scalar) -> Float[Array, "..."]:
    """The quotient, or zero where the denominator is zero."""
    return jnp.where(denominator == 0, 0, numerator / jnp.where(denominator == 0, 1, denominator))


def _unit(vector: Vector) -> Scalar:
    """The largest magnitude of a vector's entries, or 1 where that is zero to its precision."""
    largest = jax.tree.reduce(
        jnp.maximum, jax.tree.map(lambda leaf: jnp.max(jnp.abs(leaf)), vector)
    )
    return jnp.where(largest < jnp.finfo(largest.dtype).tiny, 1, largest)


def _judge(
    found: Iterated,
    true_norm2: Scalar,
    rhs_norm2: Scalar,
    tolerance2: Scalar,
) -> Outcome:
    """Compare what the iteration believes with what the equation says."""
    round_off2 = (_ROUND_OFF_UNITS * jnp.finfo(rhs_norm2.dtype).eps) ** 2 * rhs_norm2
    short = jnp.where(true_norm2 <= round_off2, Result.ROUND_OFF, Result.STALLED)
    result = jnp.where(found.norm2 <= tolerance2, short, Result.MAX_STEPS)
    result = jnp.where(jnp.isfinite(true_norm2), result, Result.NOT_FINITE)
    result = jnp.where(found.failure == Result.CONVERGED, result, found.failure)
    result = jnp.where(true_norm2 <= tolerance2, Result.CONVERGED, result)
    relative = tree.root_of(divide(true_norm2, rhs_norm2))
    return Outcome(result, found.iterations, relative)


def _blame_guess(outcome: Outcome, guess: Vector) -> Outcome:
    """The same outcome, but for an equation that is not finite because its guess is not."""
    to_blame = (outcome.result == Result.NOT_FINITE) & ~jnp.isfinite(tree.dot(guess, guess))
    result = jnp.where(to_blame, Result.GUESS_NOT_FINITE, outcome.result)
    return Outcome(result, outcome.iterations, outcome.relative_residual)
