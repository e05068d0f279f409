"""What every linear solver shares: its interface, its guards, and the judgement of its solution.

A solver's own file holds its iteration and nothing else. Around it, here and once: iterated is the
correction to the guess, in units of the right-hand side (squared, a right-hand side of 1e-20 would
be zero in single precision, and any answer to it right); a right-hand side of zero has the solution
zero, whatever the guess; and the residual is formed anew at the end, since the one that an
iteration carries along drifts from it. Where it has drifted far, the iteration begins again there.
"""

import abc
from collections.abc import Callable
from dataclasses import replace
from typing import ClassVar, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

from impindiff._types import Scalar, Vector
from impindiff.implicit import _tree as tree
from impindiff.implicit._limits import tolerance_of
from impindiff.implicit._loop import Loop, once_where, while_loop
from impindiff.implicit._outcome import Outcome, Result
from impindiff.implicit._preconditioner import AbstractPreconditioner

Operator = Callable[[Vector], Vector]


class LinearProblem(NamedTuple):
    """What an iteration is to solve, from zero.

    Attributes:
        operator: the product with $A$.
        residual: right-hand side, of a size whose square is neither lost nor infinite; or zero.
        norm2: its squared norm.
        tolerance2: square of the residual norm to reach.
    """

    operator: Operator
    residual: Vector
    norm2: Scalar
    tolerance2: Scalar


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


class AbstractLinearSolver(eqx.Module):
    r"""Solves $A x = b$ for an operator given by its product.

    Stops where $\lVert b - A x \rVert \le \max(\mathrm{rtol} \lVert b \rVert, \mathrm{atol})$. A
    solution that misses this is as good as the precision allows, and accepted, where its backward
    error is that of round-off, $\lVert b - A x \rVert \le 4 \epsilon\,(\lVert A \rVert \lVert x
    \rVert + \lVert b \rVert)$.

    Attributes:
        rtol: tolerance relative to the right-hand side; None for 1e-5 in single and 1e-10 in double
            precision.
        atol: absolute tolerance, in the right-hand side's units.
        max_steps: most iterations; counted anew where the carried residual turned out to be wrong.
    """

    forms_residual: ClassVar[bool] = False
    """Whether what `iterate` believes of the residual is formed by the equation itself."""

    rtol: eqx.AbstractVar[float | None]
    atol: eqx.AbstractVar[float]
    max_steps: eqx.AbstractVar[int]

    @abc.abstractmethod
    def iterate(
        self,
        problem: LinearProblem,
        precondition: Callable[[Vector], Vector],
        loop: Loop,
    ) -> Iterated:
        """Solve for the correction of a residual, from zero.

        Args:
            problem: what to solve.
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
        is_final: bool = True,
        rhs_norm: Scalar | None = None,
    ) -> tuple[Vector, Outcome]:
        """Solve, and judge the solution by its true residual.

        Args:
            operator: the product with $A$.
            rhs: $b$.
            guess: where to start; zero by default.
            preconditioner: approximates the inverse.
            rtol: a looser tolerance than the solver's own, for this solve.
            loop: repeats the iteration; with `unrolled_loop` it can be differentiated.
            is_final: whether the solution is judged here, and not by what it is a part of.
            rhs_norm: the norm of the right-hand side, where the caller has it.
        """
        # A right-hand side of 1e-20 has a square of zero in single precision.
        scaled, unit, rhs_norm2 = _in_range(rhs, rhs_norm, loop)
        goal = tolerance_of(self.rtol, rhs_norm2.dtype)
        goal = goal if rtol is None else jnp.maximum(rtol, goal)
        # Tolerances only decide when to stop.
        tolerance2 = jax.lax.stop_gradient(
            jnp.maximum(goal**2 * rhs_norm2, (self.atol / unit) ** 2)
        )
        start, residual, norm2 = tree.zeros_like(rhs), scaled, rhs_norm2
        if guess is not None:
            residual = tree.scale(1 / unit, tree.subtract(rhs, operator(guess)))
            # Nothing but zero solves a system of right-hand side zero, whatever the guess was.
            is_zero = rhs_norm2 == 0
            start, residual = jax.tree.map(lambda v: jnp.where(is_zero, 0, v), (guess, residual))
            norm2 = tree.dot(residual, residual)
        # Where the equation is not finite, NaN, for where it began would pass as a solution.
        unit_or_nan = unit + 0 * norm2
        precondition = (lambda v: v) if preconditioner is None else preconditioner.apply

        def improve(at: _Arrived) -> _Arrived:
            found = self.iterate(
                LinearProblem(operator, at.residual, at.norm2, tolerance2), precondition, loop
            )
            x = jax.tree.map(lambda x, d: x + unit_or_nan * d, at.x, found.correction)
            if self.forms_residual and guess is None:
                return at.moved(x, at.residual, found.norm2, found)
            residual = tree.subtract(scaled, tree.scale(1 / unit, operator(x)))
            return at.moved(x, residual, tree.dot(residual, residual), found)

        at = _Arrived.at_start(start, residual, norm2)
        round_off2 = (_ROUND_OFF_UNITS * jnp.finfo(rhs_norm2.dtype).eps) ** 2 * rhs_norm2
        if loop is while_loop and not self.forms_residual:
            enough2 = jnp.maximum(tolerance2, round_off2)
            at = jax.lax.while_loop(
                lambda at: (at.passes == 0) | at.is_mistaken(tolerance2, enough2), improve, at
            )
        else:
            # What is known to be so far off is not mistaken; and where iterations are kept, memory
            # would be reserved for restarts that hardly ever happen.
            at = improve(at)
        x, outcome = at.x, at.judge(rhs_norm2, tolerance2, round_off2)
        if loop is while_loop and is_final:
            outcome = _forgive_round_off(outcome, operator, x, unit, rhs_norm2)
        if guess is not None:
            outcome = blame_guess(outcome, guess, loop)
        return x, outcome


# Norms, squared, between which iterations need no other units, whatever an operator does.
_LEAST, _MOST = 1e-12, 1e12


def _in_range(vector: Vector, norm: Scalar | None, loop: Loop) -> tuple[Vector, Scalar, Scalar]:
    """A vector in units in which its square is neither lost nor infinite, these, and that square.

    Powers of two: nothing is rounded. Its norm, where that is known, need not be formed.
    """

    def rescaled(given: tuple[Vector, Scalar, Scalar]) -> tuple[Vector, Scalar, Scalar]:
        vector, *_ = given
        unit = tree.unit(vector)
        scaled = tree.scale(1 / unit, vector)
        return scaled, unit, tree.dot(scaled, scaled)

    if norm is not None and loop is while_loop:
        is_safe = (norm**2 >= _LEAST) & (norm**2 <= _MOST)
        unit = jnp.where(is_safe, 1, tree.unit(norm))
        return tree.scale(1 / unit, vector), unit, (norm / unit) ** 2
    norm2 = tree.dot(vector, vector)
    as_it_is = vector, jnp.ones_like(norm2), norm2
    if loop is not while_loop:
        return rescaled(as_it_is)
    return once_where(~((norm2 >= _LEAST) & (norm2 <= _MOST)), rescaled, as_it_is)


def divide(numerator: Float[Array, "..."], denominator: Scalar) -> Float[Array, "..."]:
    """The quotient, or zero where the denominator is zero."""
    return jnp.where(denominator == 0, 0, numerator / jnp.where(denominator == 0, 1, denominator))


class _Arrived(NamedTuple):
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
    def at_start(cls, x: Vector, residual: Vector, norm2: Scalar) -> "_Arrived":
        none = jnp.array(0)
        return cls(x, residual, norm2, norm2, none, none, none, jnp.array(True))

    def moved(self, x: Vector, residual: Vector, norm2: Scalar, found: Iterated) -> "_Arrived":
        """After one more pass: at its end, or where it began if it brought nothing."""
        went_on = (self.passes == 0) | (norm2 < WORTHWHILE * self.norm2)
        # The residual is not looked at again where it brought nothing.
        return _Arrived(
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


def _forgive_round_off(
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
    if loop is while_loop:
        result = once_where(is_bad, blamed, outcome.result, guess)
    else:
        result = jnp.where(is_bad, blamed(outcome.result, guess), outcome.result)
    return replace(outcome, result=result)
