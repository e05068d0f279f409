r"""One-step differentiation: the derivative of the last step of an iteration."""

from typing import final

import equinox as eqx
import jax
from jaxtyping import PyTree

from impindiff._types import Vector
from impindiff.implicit._adjoint import AbstractAdjoint, Residual, Solve, SolveContext
from impindiff.implicit._outcome import Outcome
from impindiff.implicit._preconditioner import AbstractPreconditioner


@final
class OneStepAdjoint(AbstractAdjoint):
    r"""$\dot u = -P^{-1}\,\frac{\partial R}{\partial\theta}\,\dot\theta$: no adjoint solve.

    The derivative of one preconditioned step $u - P^{-1} R(u, \theta)$ from the root, as if the
    root itself did not depend on $\theta$. Its relative error is about $\lVert I - P^{-1}
    \partial R/\partial u\rVert$: exact where the preconditioner is the inverse, useless where a
    plain step does not contract. Cheaper than `ImplicitAdjoint`, and never a certified gradient.

    Reference: Bolte, Pauwels & Vaiter (2023), arXiv 2305.13768.
    """

    def root(
        self,
        residual: Residual,
        solve: Solve,
        guess: Vector,
        inputs: PyTree,
        preconditioner: AbstractPreconditioner | None,
        context: SolveContext,
    ) -> tuple[Vector, Outcome]:
        """See `AbstractAdjoint.root`."""
        fixed = jax.lax.stop_gradient
        known = jax.tree.map(lambda a: fixed(a) if eqx.is_array(a) else a, inputs)
        value, outcome = solve(
            lambda u: residual(u, known), guess, preconditioner, rtol=context.rtol
        )
        value = fixed(value)
        left = residual(value, inputs)
        step = jax.tree.map(lambda r: r - fixed(r), left)
        if preconditioner is not None:
            step = fixed(preconditioner).apply(step)
        return jax.tree.map(lambda u, d: u - d, value, step), fixed(outcome)
