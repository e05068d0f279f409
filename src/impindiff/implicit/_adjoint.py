"""What an adjoint is: the way in which a gradient goes through a root."""

import abc
from collections.abc import Callable
from typing import Any, ClassVar, NamedTuple, Protocol, final, runtime_checkable

import equinox as eqx
import jax
from jaxtyping import Array, Bool, Float, Int, PyTree

from impindiff._types import Scalar, Vector
from impindiff.implicit._linear import AbstractLinearSolver
from impindiff.implicit._outcome import Outcome
from impindiff.implicit._preconditioner import AbstractPreconditioner
from impindiff.implicit._scaled import Scaling

Residual = Callable[[Vector, Any], Vector]


@runtime_checkable
class RootFinder(Protocol):
    """What of an `AbstractRootSolver` the making of a derivative needs."""

    reads_zero_only: ClassVar[bool]
    """See `AbstractRootSolver.reads_zero_only`."""

    @property
    def tangent_solver(self) -> AbstractLinearSolver | None:
        """See `AbstractRootSolver.tangent_solver`."""
        ...

    @property
    def goal(self) -> Callable[[Scalar, Scalar | None], Scalar]:
        """See `AbstractRootSolver.goal`."""
        ...

    @property
    def solve(self) -> Callable[..., tuple[Vector, Outcome]]:
        """See `AbstractRootSolver.solve`."""
        ...


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


def as_root(guess: Vector, value: Vector, increment: Vector, outcome: Outcome) -> Root:
    """A root whose increment has the derivative of the value less that of the guess."""

    def slopes_of(leaf):
        return leaf - jax.lax.stop_gradient(leaf)

    with_slopes = jax.tree.map(
        lambda d, u, g: jax.lax.stop_gradient(d) + slopes_of(u) - slopes_of(g),
        increment,
        value,
        guess,
    )
    return Root(value, with_slopes, outcome)


@final
class SolveContext(eqx.Module):
    """What a caller wants of a solve, besides its root.

    Attributes:
        probe: `AdjointOutcome.probe()`; its gradient is the outcome of the adjoint solves.
        step: number of the time step that is solved, for messages.
        rtol: a looser tolerance than the solvers' own, forward and adjoint.
        root: the root, where it is known already, as in a step that is taken again for its
            derivative alone. `ImplicitAdjoint` then solves nothing forward.
        is_known: whether `root` is the root, where that is seen at run time only; if so the solve
            begins, and so ends, there.
        stages: the roots of the step's solves before its last, where they are known with `root`.
        start: of the increment, where the solve is to start elsewhere than at the guess.
        scaling: units in which the solver sees unknowns and equations.
    """

    probe: Float[Array, " 4"] | None = None
    step: Int[Array, ""] | None = None
    rtol: Scalar | None = None
    root: Vector | None = None
    is_known: Bool[Array, ""] | None = None
    stages: PyTree = None
    start: Vector | None = None
    scaling: Scaling | None = None


class AbstractAdjoint(eqx.Module):
    """Makes a root differentiable in its inputs."""

    @abc.abstractmethod
    def root(
        self,
        residual: Residual,
        solver: RootFinder,
        guess: Vector,
        inputs: PyTree,
        preconditioner: AbstractPreconditioner | None,
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
