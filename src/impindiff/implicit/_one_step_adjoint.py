r"""One-step differentiation: the derivative of the last step of an iteration."""

from typing import final

import equinox as eqx
import jax
from jaxtyping import PyTree

from impindiff._types import Vector
from impindiff.implicit import _tree as tree
from impindiff.implicit._adjoint import (
    AbstractAdjoint,
    Residual,
    Root,
    RootFinder,
    SolveContext,
    as_root,
)
from impindiff.implicit._increment import find_increment
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
        solver: RootFinder,
        guess: Vector,
        inputs: PyTree,
        preconditioner: AbstractPreconditioner | None,
        context: SolveContext,
    ) -> Root:
        """See `AbstractAdjoint.root`."""
        fixed = jax.lax.stop_gradient
        known = jax.tree.map(lambda a: fixed(a) if eqx.is_array(a) else a, inputs)
        increment, outcome = find_increment(
            lambda u: residual(u, known), guess, solver, preconditioner, context
        )
        value = fixed(tree.add(guess, increment))
        left = residual(value, inputs)
        step = jax.tree.map(lambda r: r - fixed(r), left)
        if preconditioner is not None:
            step = fixed(preconditioner).apply(step)
        return as_root(guess, tree.subtract(value, step), increment, fixed(outcome))
