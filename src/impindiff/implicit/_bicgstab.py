"""BiCGStab, guarded.

The stabilised bi-conjugate gradient method of van der Vorst (1992) for general square operators,
right preconditioned so that the residual it watches is the true one. What common implementations
leave open is closed here: a right-hand side of zero gives zero, no division is by zero, a breakdown
restarts from the present residual, and the residual is formed anew at the end. Iterated is the
correction to the guess, in units of the right-hand side: squared, a right-hand side of 1e-20 would
be zero in single precision, and any answer to it right.
"""

import abc
from collections.abc import Callable
from typing import final

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Int

from impindiff._types import Scalar, Vector
from impindiff.implicit import _tree as tree
from impindiff.implicit._outcome import Outcome, Result
from impindiff.implicit._preconditioner import AbstractPreconditioner

Operator = Callable[[Vector], Vector]

# Relative to the right-hand side, in units of round-off: a residual beyond this that the recurrence
# believes to be small is an error rather than the floor of the precision.
_ROUND_OFF_UNITS = 1e3


class AbstractLinearSolver(eqx.Module):
    """Solves $A x = b$ for an operator given by its product alone."""

    @abc.abstractmethod
    def solve(
        self,
        operator: Operator,
        rhs: Vector,
        guess: Vector | None = None,
        preconditioner: AbstractPreconditioner | None = None,
    ) -> tuple[Vector, Outcome]:
        """The solution and how it was reached; `guess` defaults to zero."""


@final
class BiCGStab(AbstractLinearSolver):
    r"""The stabilised bi-conjugate gradient method.

    Stops where $\lVert b - A x \rVert \le \max(\mathrm{rtol} \lVert b \rVert, \mathrm{atol})$. Two
    products with $A$ an iteration, seven vectors. Scalars are per system: under `vmap` each sample
    stops on its own residual and is frozen from then on.

    With a right-hand side and guess that agree in total mass, and an operator that conserves it,
    every iterate has that mass to round-off, at whatever tolerance: the residual's sum starts at
    zero and each iterate only multiplies it.

    Args:
        rtol: tolerance relative to the right-hand side.
        atol: absolute tolerance, in the right-hand side's units.
        max_steps: most iterations.

    Raises: ValueError for a negative tolerance, for both tolerances zero, or `max_steps` under 1.
    Reference: H. A. van der Vorst, SIAM J. Sci. Stat. Comput. 13 (1992) 631.
    """

    rtol: float = eqx.field(static=True, default=1e-6)
    atol: float = eqx.field(static=True, default=0.0)
    max_steps: int = eqx.field(static=True, default=200)

    def __check_init__(self) -> None:
        """Refuse tolerances that cannot be met."""
        if self.rtol < 0 or self.atol < 0 or self.rtol == self.atol == 0:
            raise ValueError(
                f"BiCGStab(rtol={self.rtol}, atol={self.atol}): tolerances must not be negative, "
                f"and one of them "
                "must be positive. Use rtol=1e-6 in float32, down to 1e-13 in float64."
            )
        if self.max_steps < 1:
            raise ValueError(
                f"BiCGStab(max_steps={self.max_steps}): at least 1 iteration must be allowed."
            )

    def solve(
        self,
        operator: Operator,
        rhs: Vector,
        guess: Vector | None = None,
        preconditioner: AbstractPreconditioner | None = None,
    ) -> tuple[Vector, Outcome]:
        """See `AbstractLinearSolver.solve`."""
        tiny = jnp.finfo(tree.scalar_dtype(rhs)).tiny
        unit = _unit(rhs)
        scaled = tree.scale(1 / unit, rhs)
        rhs_norm2 = tree.dot(scaled, scaled)
        tolerance2 = jnp.maximum(self.rtol**2 * rhs_norm2, (self.atol / unit) ** 2)
        start, residual = tree.zeros_like(rhs), scaled
        if guess is not None:
            start, residual = guess, tree.scale(1 / unit, tree.subtract(rhs, operator(guess)))
        precondition = (lambda v: v) if preconditioner is None else preconditioner.apply

        def unfinished(carry):
            *_, norm2, iteration = carry
            return (norm2 > tolerance2) & (iteration < self.max_steps)

        def iterate(carry):
            x, r, shadow, p, rho, _, iteration = carry
            p_hat = precondition(p)
            v = operator(p_hat)
            alpha = _divide(rho, tree.dot(shadow, v))
            s = jax.tree.map(lambda r, v: r - alpha * v, r, v)
            s_hat = precondition(s)
            t = operator(s_hat)
            omega = _divide(tree.dot(t, s), tree.dot(t, t))
            x = jax.tree.map(
                lambda x, p, s: x + unit * alpha * p + unit * omega * s, x, p_hat, s_hat
            )
            r = jax.tree.map(lambda s, t: s - omega * t, s, t)
            norm2 = tree.dot(r, r)
            rho_next = tree.dot(shadow, r)
            beta = _divide(rho_next, rho) * _divide(alpha, omega)
            # The shadow residual has become orthogonal to the true one, or a step had length zero:
            # begin again from here, as if this were the first iteration.
            broken = (beta == 0) | (jnp.abs(rho_next) <= tiny)
            p = jax.tree.map(
                lambda r, p, v: jnp.where(broken, r, r + beta * (p - omega * v)), r, p, v
            )
            shadow = jax.tree.map(lambda r, old: jnp.where(broken, r, old), r, shadow)
            return x, r, shadow, p, jnp.where(broken, norm2, rho_next), norm2, iteration + 1

        # Nothing but zero solves a system of right-hand side zero, whatever the guess was.
        is_zero = rhs_norm2 == 0
        norm2 = jnp.where(is_zero, 0, tree.dot(residual, residual))
        # Where the equation is not finite, NaN, for the guess would pass as a solution.
        start = jax.tree.map(lambda g: jnp.where(is_zero, 0, g + 0 * norm2), start)
        first = (start, residual, residual, residual, norm2, norm2, jnp.array(0))
        x, *_, norm2, iterations = jax.lax.while_loop(unfinished, iterate, first)
        true_residual = tree.scale(1 / unit, tree.subtract(rhs, operator(x)))
        return x, _judge(
            norm2, tree.dot(true_residual, true_residual), rhs_norm2, tolerance2, iterations
        )


def _unit(vector: Vector) -> Scalar:
    """The largest magnitude of a vector's entries, or 1 where that is zero to its precision."""
    largest = jax.tree.reduce(
        jnp.maximum, jax.tree.map(lambda leaf: jnp.max(jnp.abs(leaf)), vector)
    )
    return jnp.where(largest < jnp.finfo(largest.dtype).tiny, 1, largest)


def _divide(numerator: Scalar, denominator: Scalar) -> Scalar:
    """The quotient, or zero where the denominator is zero."""
    return jnp.where(denominator == 0, 0, numerator / jnp.where(denominator == 0, 1, denominator))


def _judge(
    norm2: Scalar,
    true_norm2: Scalar,
    rhs_norm2: Scalar,
    tolerance2: Scalar,
    iterations: Int[Array, ""],
) -> Outcome:
    """Compare what the recurrence believes with what the equation says."""
    round_off2 = (_ROUND_OFF_UNITS * jnp.finfo(norm2.dtype).eps) ** 2 * rhs_norm2
    short = jnp.where(true_norm2 <= round_off2, Result.ROUND_OFF, Result.STALLED)
    result = jnp.where(norm2 <= tolerance2, short, Result.MAX_STEPS)
    result = jnp.where(true_norm2 <= tolerance2, Result.CONVERGED, result)
    result = jnp.where(jnp.isfinite(true_norm2), result, Result.NOT_FINITE)
    relative = jnp.sqrt(_divide(true_norm2, rhs_norm2))
    return Outcome(result, iterations, relative)
