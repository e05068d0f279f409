"""What an adjoint is: the way in which a gradient goes through a root."""

import abc
from collections.abc import Callable
from typing import Any, final

import equinox as eqx
from jaxtyping import Array, Bool, Float, Int, PyTree

from impindiff._types import Scalar, Vector
from impindiff.implicit._outcome import Outcome
from impindiff.implicit._preconditioner import AbstractPreconditioner

Residual = Callable[[Vector, Any], Vector]
Solve = Callable[..., tuple[Vector, Outcome]]


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
    """

    probe: Float[Array, " 4"] | None = None
    step: Int[Array, ""] | None = None
    rtol: Scalar | None = None
    root: Vector | None = None
    is_known: Bool[Array, ""] | None = None
    stages: PyTree = None


class AbstractAdjoint(eqx.Module):
    """Makes a root differentiable in its inputs."""

    @abc.abstractmethod
    def root(
        self,
        residual: Residual,
        solve: Solve,
        guess: Vector,
        inputs: PyTree,
        preconditioner: AbstractPreconditioner | None,
        context: SolveContext,
    ) -> tuple[Vector, Outcome]:
        r"""The root that `solve` finds, with a derivative.

        Args:
            residual: $R(u, \theta)$.
            solve: `AbstractRootSolver.solve` of the solver.
            guess: where it starts; not differentiated.
            inputs: $\theta$.
            preconditioner: of the Jacobian; not differentiated.
            context: what else is wanted.
        """
