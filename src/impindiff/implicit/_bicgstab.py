"""BiCGStab, guarded against division by zero and breakdown."""

from collections.abc import Callable
from typing import final

import equinox as eqx
import jax
import jax.numpy as jnp

from impindiff._types import Vector
from impindiff.implicit import _tree as tree
from impindiff.implicit._judged import Iterated, divide
from impindiff.implicit._limits import check_limits
from impindiff.implicit._linear import AbstractLinearSolver, LinearProblem
from impindiff.implicit._loop import Loop


@final
class BiCGStab(AbstractLinearSolver):
    r"""The stabilised bi-conjugate gradient method, for general square operators.

    Two products with $A$ an iteration, six vectors; preconditioned from the right, so that the
    residual it watches is the true one. Where it breaks down it restarts from the present residual.
    Scalars are per system: under `vmap` each sample stops on its own residual and is frozen from
    then on.

    With a right-hand side and guess that agree in total mass, and an operator that conserves it,
    every iterate has that mass to round-off, at whatever tolerance: the residual's sum starts at
    zero and each iterate only multiplies it.

    Args:
        rtol: see `AbstractLinearSolver`.
        atol: see `AbstractLinearSolver`.
        max_steps: see `AbstractLinearSolver`.

    Raises: ValueError for a negative tolerance, for both tolerances zero, or `max_steps` under 1.
    Reference: H. A. van der Vorst, SIAM J. Sci. Stat. Comput. 13 (1992) 631.
    """

    rtol: float | None = eqx.field(static=True, default=None)
    atol: float = eqx.field(static=True, default=0.0)
    max_steps: int = eqx.field(static=True, default=200)

    def __check_init__(self) -> None:
        """Refuse tolerances that cannot be met."""
        check_limits(self)

    def iterate(
        self,
        problem: LinearProblem,
        precondition: Callable[[Vector], Vector],
        loop: Loop,
    ) -> Iterated:
        """See `AbstractLinearSolver.iterate`."""
        operator, residual, norm2, tolerance2 = problem
        tiny = jnp.finfo(norm2.dtype).tiny

        def unfinished(carry):
            *_, norm2, iteration = carry
            return (norm2 > tolerance2) & (iteration < self.max_steps)

        def step(carry):
            x, r, shadow, p, rho, _, iteration = carry
            p_hat = precondition(p)
            v = operator(p_hat)
            alpha = divide(rho, tree.dot(shadow, v))
            s = jax.tree.map(lambda r, v: r - alpha * v, r, v)
            s_hat = precondition(s)
            t = operator(s_hat)
            omega = divide(tree.dot(t, s), tree.dot(t, t))
            x = jax.tree.map(lambda x, p, s: x + alpha * p + omega * s, x, p_hat, s_hat)
            r = jax.tree.map(lambda s, t: s - omega * t, s, t)
            norm2 = tree.dot(r, r)
            rho_next = tree.dot(shadow, r)
            beta = divide(rho_next, rho) * divide(alpha, omega)
            # The shadow residual has become orthogonal to the true one, or a step had length zero:
            # begin again from here, as if this were the first iteration.
            broken = (beta == 0) | (jnp.abs(rho_next) <= tiny)
            p = jax.tree.map(
                lambda r, p, v: jnp.where(broken, r, r + beta * (p - omega * v)), r, p, v
            )
            shadow = jax.tree.map(lambda r, old: jnp.where(broken, r, old), r, shadow)
            return x, r, shadow, p, jnp.where(broken, norm2, rho_next), norm2, iteration + 1

        zero = tree.zeros_like(residual)
        first = (zero, residual, residual, residual, norm2, norm2, jnp.array(0))
        x, *_, norm2, iterations = loop(unfinished, step, first, self.max_steps)
        return Iterated(x, norm2, iterations)
