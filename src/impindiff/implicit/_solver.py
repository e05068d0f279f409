"""What a root solver is."""

import abc
from collections.abc import Callable
from typing import ClassVar, NamedTuple

import equinox as eqx
import jax.numpy as jnp

from impindiff._types import Scalar, Vector
from impindiff.implicit._adjoint import AbstractAdjoint
from impindiff.implicit._linear import AbstractLinearSolver
from impindiff.implicit._loop import Loop, while_loop
from impindiff.implicit._outcome import Outcome
from impindiff.implicit._preconditioner import AbstractPreconditioner


class AtZero(NamedTuple):
    """What is known of a residual before it is solved.

    Attributes:
        value: $R(0)$.
        floor: the norm that rounding the unknown gives it; what is below is no error.
    """

    value: Vector
    floor: Scalar


class AbstractRootSolver(eqx.Module):
    r"""Finds $u$ with $R(u) = 0$, and says how gradients go through it.

    What it is to reach is relative to $\lVert R(0) \rVert$. `root` hands over the change from its
    guess for $u$, so that this is the residual at the guess: a solve is judged by what it changes,
    and neither an offset nor the size of the state plays a part.
    """

    reads_zero_only: ClassVar[bool] = False
    """Whether it evaluates the residual at zero alone, as one that is affine allows."""

    # Not an `AbstractVar`: type checkers would take it for the first field of every solver.
    @property
    @abc.abstractmethod
    def adjoint(self) -> AbstractAdjoint:
        """How gradients are made; given a linear solver, `ImplicitAdjoint` with that solver."""

    @property
    def tangent_solver(self) -> AbstractLinearSolver | None:
        """The linear solver for derivatives where `ImplicitAdjoint` names none.

        None where this solver has none that is fit for all of the unknown.
        """
        return None

    def goal(self, at_zero: Scalar, rtol: Scalar | None) -> Scalar:
        """The residual norm that it is to reach; zero for what is as small as it can be.

        Args:
            at_zero: the norm at zero.
            rtol: see `solve`.
        """
        return jnp.zeros_like(at_zero)

    @abc.abstractmethod
    def solve(
        self,
        residual: Callable[[Vector], Vector],
        guess: Vector | None,
        preconditioner: AbstractPreconditioner | None = None,
        *,
        rtol: Scalar | None = None,
        loop: Loop = while_loop,
        at_zero: AtZero | None = None,
    ) -> tuple[Vector, Outcome]:
        """A root and how it was reached.

        Args:
            residual: $R$.
            guess: where to start; None for zero, which wants `at_zero`.
            preconditioner: approximates the inverse of the Jacobian.
            rtol: a looser tolerance than the solver's own, for this solve.
            loop: repeats iterations; with `unrolled_loop` they can be differentiated.
            at_zero: the residual at zero, where the caller has it.
        """
