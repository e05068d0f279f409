"""What every linear solver shares: its interface and its guards.

A solver's own file holds its iteration and nothing else. Around it, here and once: iterated is the
correction to the guess, in units of the right-hand side (squared, a right-hand side of 1e-20 would
be zero in single precision, and any answer to it right); a right-hand side of zero has the solution
zero, whatever the guess; and the residual is formed anew at the end, since the one that an
iteration carries along drifts from it. Where it has drifted far, the iteration begins again there.
"""

import abc
from collections.abc import Callable
from typing import ClassVar, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp

from impindiff._types import Scalar, Vector
from impindiff.linear import _tree as tree
from impindiff.linear._inverse import AbstractInverse
from impindiff.linear._judgement import (
    Arrived,
    Iterated,
    Operator,
    blame_guess,
    forgive_round_off,
    round_off_of,
)
from impindiff.linear._loop import Loop, once_where, while_loop
from impindiff.linear._outcome import Outcome
from impindiff.linear._tolerance import check_tolerances, tolerance_of


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

    is_open: ClassVar[bool] = False
    """Whether it leaves open how systems are solved, so that another may take its place."""

    needs_line: ClassVar[bool] = False
    """Whether it has to see which unknowns are neighbours on a line."""

    rtol: eqx.AbstractVar[float | None]
    atol: eqx.AbstractVar[float]
    max_steps: eqx.AbstractVar[int]

    def __check_init__(self) -> None:
        """Refuse tolerances and counts that cannot be met."""
        check_tolerances(type(self).__name__, self.rtol, self.atol, self.max_steps)

    def resolved(self, *, direct: bool) -> "AbstractLinearSolver":
        """What takes its place where the choice is made, if it leaves it open.

        Args:
            direct: whether to eliminate along the line.
        """
        return self

    def factorise(self, operator: Operator, like: Vector) -> AbstractInverse | None:
        """The inverse of an operator up to round-off, to apply many times; None of an iteration.

        Args:
            operator: the product.
            like: a vector of its structure.
        """
        return None

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
        preconditioner: AbstractInverse | None = None,
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

        def improve(at: Arrived) -> Arrived:
            found = self.iterate(
                LinearProblem(operator, at.residual, at.norm2, tolerance2), precondition, loop
            )
            x = jax.tree.map(lambda x, d: x + unit_or_nan * d, at.x, found.correction)
            if self.forms_residual and guess is None:
                return at.moved(x, at.residual, found.norm2, found)
            residual = tree.subtract(scaled, tree.scale(1 / unit, operator(x)))
            return at.moved(x, residual, tree.dot(residual, residual), found)

        at = Arrived.at_start(start, residual, norm2)
        round_off2 = round_off_of(rhs_norm2)
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
            outcome = forgive_round_off(outcome, operator, x, unit, rhs_norm2)
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
