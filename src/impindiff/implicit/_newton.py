r"""Newton's method with inexact, damped steps.

Each step solves $J(u)\,d = -R(u)$ only as well as the linear model deserves (Eisenstat & Walker),
and goes along $d$ only as far as the residual falls. Near the root both safeguards switch
themselves off and convergence is quadratic.
"""

from collections.abc import Callable
from typing import final

import equinox as eqx
import jax
import jax.numpy as jnp

from impindiff._types import Scalar, Vector
from impindiff.implicit import _tree as tree
from impindiff.implicit._adjoint import AbstractAdjoint
from impindiff.implicit._bicgstab import BiCGStab
from impindiff.implicit._implicit_adjoint import ImplicitAdjoint, as_adjoint
from impindiff.implicit._limits import check_limits
from impindiff.implicit._linear import AbstractLinearSolver
from impindiff.implicit._loop import Loop, while_loop
from impindiff.implicit._nonlinear import conclude, target
from impindiff.implicit._outcome import Outcome
from impindiff.implicit._preconditioner import AbstractPreconditioner
from impindiff.implicit._solver import AbstractRootSolver

_SUFFICIENT_DECREASE = 1e-4
_MOST_HALVINGS = 12
_LOOSEST, _GAMMA = 0.5, 0.9


@final
class Newton(AbstractRootSolver):
    r"""Inexact Newton's method, $u \leftarrow u + \lambda d$ with $J(u)\,d \approx -R(u)$.

    Stops where $\lVert R(u) \rVert \le \max(\mathrm{rtol}\,\lVert R(0) \rVert, \mathrm{atol})$.
    The forcing term, the linear tolerance of a step, is $0.9\,(\lVert R_k \rVert / \lVert R_{k-1}
    \rVert)^2$, at most 1/2 and never tighter than the goal asks for. $\lambda$ is halved until the
    residual falls.

    Args:
        linear: solver of the steps' systems; its own tolerance is the tightest it is asked for.
        adjoint: how gradients are made.
        rtol: tolerance relative to the residual at zero.
        atol: absolute tolerance.
        max_steps: most Newton steps.

    Raises: ValueError for tolerances or counts that cannot be met.
    Reference: Eisenstat & Walker, SIAM J. Sci. Comput. 17 (1996) 16, choice 2.
    """

    linear: AbstractLinearSolver = BiCGStab(rtol=1e-6)
    adjoint: AbstractAdjoint = eqx.field(default=ImplicitAdjoint(), converter=as_adjoint)
    rtol: float = eqx.field(static=True, default=1e-6)
    atol: float = eqx.field(static=True, default=0.0)
    max_steps: int = eqx.field(static=True, default=30)

    def __check_init__(self) -> None:
        """Refuse tolerances and counts that cannot be met."""
        check_limits(self)

    def solve(
        self,
        residual: Callable[[Vector], Vector],
        guess: Vector,
        preconditioner: AbstractPreconditioner | None = None,
        *,
        rtol: Scalar | None = None,
        loop: Loop = while_loop,
    ) -> tuple[Vector, Outcome]:
        """See `AbstractRootSolver.solve`."""
        aim = target(residual, guess, self.rtol, self.atol, rtol)

        def unfinished(carry):
            _, norm, _, steps, _, stalled = carry
            return (norm > aim.goal) & (steps < self.max_steps) & ~stalled

        def step(carry):
            u, norm, forcing, steps, iterations, _ = carry
            value, jacobian = jax.linearize(residual, u)
            direction, outcome = self.linear.solve(
                jacobian, tree.negate(value), None, preconditioner, rtol=forcing, loop=loop
            )
            u, after, moved = _along(residual, u, direction, norm, loop)
            ratio2 = (after / norm) ** 2
            # Never tighter than the goal needs: the last step would solve for digits nobody asked
            # for.
            enough = 0.5 * aim.goal / jnp.where(after == 0, 1, after)
            safeguard = jnp.where(_GAMMA * forcing**2 > 0.1, _GAMMA * forcing**2, 0)
            forcing = jnp.clip(
                jnp.maximum(jnp.maximum(_GAMMA * ratio2, safeguard), enough), 0, _LOOSEST
            )
            return u, after, forcing, steps + 1, iterations + outcome.iterations, ~moved

        first = (
            guess,
            aim.start,
            jnp.full_like(aim.start, _LOOSEST),
            jnp.array(0),
            jnp.array(0),
            jnp.array(False),
        )
        last = loop(unfinished, step, first, self.max_steps)
        u, norm, _, steps, iterations, stalled = last
        return u, conclude(guess, norm, aim, stalled, steps, iterations)


def _along(residual, start: Vector, direction: Vector, norm: Scalar, loop: Loop):
    """Go the longest of the steps 1, 1/2, 1/4, ... at which the residual falls, or nowhere."""

    def falls(length, after):
        # In single precision the factor of a short step is 1.
        return (after <= (1 - _SUFFICIENT_DECREASE * length) * norm) & (after < norm)

    def at(length):
        point = jax.tree.map(lambda u, d: u + length * d, start, direction)
        # Norms steer; what they steer has no derivative.
        return point, jax.lax.stop_gradient(tree.norm(residual(point)))

    def unfinished(carry):
        _, after, length, count = carry
        return ~falls(length, after) & (count < _MOST_HALVINGS)

    def halve(carry):
        _, _, length, count = carry
        point, after = at(length / 2)
        return point, after, length / 2, count + 1

    # From twice the longest, which nobody takes: the residual is compiled once for all lengths.
    two = jnp.full_like(norm, 2)
    first = (start, jnp.full_like(norm, jnp.inf), two, jnp.array(-1))
    point, after, length, _ = loop(unfinished, halve, first, _MOST_HALVINGS + 1)
    moved = falls(length, after)
    point = jax.tree.map(lambda new, old: jnp.where(moved, new, old), point, start)
    return point, jnp.where(moved, after, norm), moved
