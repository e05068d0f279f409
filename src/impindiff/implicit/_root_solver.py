"""What a root solver is, what an adjoint is, and what passes between them.

A root solver finds $u$ with $R(u) = 0$; an adjoint makes that root differentiable in what $R$
depends on besides.
"""

import abc
from collections.abc import Callable
from dataclasses import replace
from typing import Any, ClassVar, NamedTuple, final

import equinox as eqx
import jax
import jax.numpy as jnp
from jax.flatten_util import ravel_pytree
from jaxtyping import Array, Bool, Float, Int, PyTree

from impindiff._errors import InputError
from impindiff._types import Scalar, Vector
from impindiff.linear import (
    AbstractInverse,
    AbstractLinearSolver,
    Loop,
    Outcome,
    PackedInverse,
    while_loop,
)
from impindiff.precondition import Scaling

Residual = Callable[[Vector, Any], Vector]


class Root(NamedTuple):
    """A root and how it was found.

    Attributes:
        value: $u$, with its derivative.
        increment: what it is above the guess, with more digits than the difference of the two may
            have, and with its derivative.
        outcome: of the solve.
    """

    value: Vector
    increment: Vector
    outcome: Outcome


@final
class SolveContext(eqx.Module):
    """What a caller wants of a solve, besides its root.

    Attributes:
        probe: `AdjointOutcome.probe()`; its gradient is the outcome of the adjoint solves.
        number: of this root among many, for messages.
        noun: what messages call it.
        rtol: a looser tolerance than the solvers' own, forward and adjoint.
        root: the root, where it is known already and wanted for its derivative alone.
            `ImplicitAdjoint` then solves nothing forward.
        is_known: whether `root` is the root, where that is seen at run time only; if so the solve
            begins, and so ends, there.
        start: of the increment, where the solve is to start elsewhere than at the guess.
        scaling: units in which the solver sees unknowns and equations.
        inverse: of the Jacobian at a point nearby, for chord steps before the solver's own.
    """

    probe: Float[Array, " 4"] | None = None
    number: Int[Array, ""] | None = None
    rtol: Scalar | None = None
    root: Vector | None = None
    is_known: Bool[Array, ""] | None = None
    start: Vector | None = None
    scaling: Scaling | None = None
    inverse: AbstractInverse | None = None
    noun: str = eqx.field(static=True, default="root")

    def packed(self, like: Vector, unpack: Callable[[Array], Vector]) -> "SolveContext":
        """The same for unknowns that stand in one array.

        Args:
            like: a vector of their structure.
            unpack: gives it from an array.
        """

        def pack(vector: Vector) -> Array:
            whole = jax.tree.map(lambda part, u: jnp.broadcast_to(part, u.shape), vector, like)
            return ravel_pytree(whole)[0]

        def packed(vector: Vector | None) -> Vector | None:
            return None if vector is None else pack(vector)

        scaling, inverse = self.scaling, self.inverse
        return replace(
            self,
            root=packed(self.root),
            start=packed(self.start),
            scaling=scaling and Scaling(pack(scaling.columns), pack(scaling.rows)),
            inverse=inverse and PackedInverse(inverse, unpack),
        )


class AbstractAdjoint(eqx.Module):
    """Makes a root differentiable in its inputs."""

    @abc.abstractmethod
    def root(
        self,
        residual: Residual,
        solver: "AbstractRootSolver",
        guess: Vector,
        inputs: PyTree,
        preconditioner: AbstractInverse | None,
        context: SolveContext,
    ) -> Root:
        r"""The root that a solver finds, with a derivative.

        Args:
            residual: $R(u, \theta)$.
            solver: finds it.
            guess: what it is counted from; not differentiated.
            inputs: $\theta$.
            preconditioner: of the Jacobian; not differentiated.
            context: what else is wanted.
        """


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

    assumes_affine: ClassVar[bool] = False
    """Whether it takes the residual for affine, and evaluates it at zero alone."""

    @property
    def takes_any_structure(self) -> bool:
        """Whether unknowns may as well stand in one array."""
        return False

    @property
    def num_chord_steps(self) -> int:
        """How many steps with the Jacobian of a point nearby may go before its own."""
        return 0

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

    @property
    def is_open(self) -> bool:
        """Whether it leaves open how its linear systems are solved."""
        return any(linear.is_open for linear in self.linear_solvers)

    @property
    def linear_solvers(self) -> list[AbstractLinearSolver]:
        """All that it has, those of its derivatives included."""
        parts = jax.tree.leaves(self, is_leaf=_is_linear_solver)
        return [part for part in parts if _is_linear_solver(part)]

    def with_linear(
        self, change: Callable[[AbstractLinearSolver], AbstractLinearSolver]
    ) -> "AbstractRootSolver":
        """The same with other linear solvers, those of its derivatives included.

        Args:
            change: gives the one that takes the place of each.
        """
        return jax.tree.map(
            lambda part: change(part) if _is_linear_solver(part) else part,
            self,
            is_leaf=_is_linear_solver,
        )

    def with_group(self, names: tuple[str, ...]) -> "AbstractRootSolver":
        """The same for an unknown that has some more parts, which nothing else depends on.

        Args:
            names: of these parts.
        """
        return self

    def tightened(self, factor: float, dtype: jnp.dtype) -> "AbstractRootSolver":
        """The same with a tighter tolerance, where it has one of its own.

        Args:
            factor: times which the tolerance is taken, as far as the precision allows.
            dtype: the precision of the unknown.
        """
        return self

    def accepted(self, outcome: Outcome) -> Outcome:
        """The outcome of a tightened solve, good if it is as good as this solver is asked for."""
        return outcome

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
        preconditioner: AbstractInverse | None = None,
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


def as_linear_solver(given: Any) -> AbstractLinearSolver:
    """What solves linear systems.

    Raises: InputError for anything else.
    """
    if not isinstance(given, AbstractLinearSolver):
        raise InputError(
            f"the linear solver is {given!r:.60}: give one such as BiCGStab() or DenseLU(), called."
        )
    return given


def _is_linear_solver(part: Any) -> bool:
    return isinstance(part, AbstractLinearSolver)
