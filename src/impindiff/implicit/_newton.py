r"""Newton's method with inexact, damped steps; where the residual is affine, one linear solve.

Each step solves $J(u)\,d = -R(u)$ only as well as the linear model deserves (Eisenstat & Walker),
and goes along $d$ only as far as the residual falls. Near the root both safeguards switch
themselves off and convergence is quadratic. Of an affine residual the first linear solve is the
root, with no loop around it.
"""

from collections.abc import Callable
from typing import ClassVar, final

import equinox as eqx
import jax
import jax.numpy as jnp

from impindiff._types import Scalar, Vector
from impindiff.implicit._adjoint import ImplicitAdjoint, as_adjoint
from impindiff.implicit._iteration import AbstractIteration, beside_singular, conclude, target
from impindiff.implicit._root_solver import (
    AbstractAdjoint,
    AbstractRootSolver,
    AtZero,
    as_linear_solver,
)
from impindiff.linear import (
    AbstractInverse,
    AbstractLinearSolver,
    BiCGStab,
    Loop,
    Outcome,
    tree,
    while_loop,
)


@final
class Affine(AbstractRootSolver):
    r"""Solves $R(u) = A u - b = 0$ exactly once.

    Args:
        linear: solver of the forward system, $\lVert R(u) \rVert \le \mathrm{rtol}\,\lVert b
            \rVert$; starts from the guess.
        adjoint: how gradients are made.

    A residual that is not affine gives a wrong root with no sign of it here: the caller knows the
    equation.
    """

    linear: AbstractLinearSolver = eqx.field(default=BiCGStab(), converter=as_linear_solver)
    adjoint: AbstractAdjoint = eqx.field(default=ImplicitAdjoint(), converter=as_adjoint)

    assumes_affine: ClassVar[bool] = True

    @property
    def tangent_solver(self) -> AbstractLinearSolver:
        """See `AbstractRootSolver.tangent_solver`."""
        return self.linear

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
        """See `AbstractRootSolver.solve`."""
        like = guess if at_zero is None else at_zero.value
        value, operator = jax.linearize(residual, tree.zeros_like(like))
        # Of the two the one that is evaluated already; the compiler drops the other.
        value = value if at_zero is None else at_zero.value
        return self.linear.solve(
            operator, tree.negate(value), guess, preconditioner, rtol=rtol, loop=loop
        )


# Of few unknowns about as dear as one step with a Jacobian of its own.
_MOST_CHORD_STEPS = 10
_SUFFICIENT_DECREASE = 1e-4
_MOST_HALVINGS = 12
_LOOSEST, _GAMMA = 0.5, 0.9
# The linear tolerance after a step that led a function out of its domain.
_EXACT = 1e-6


@final
class Newton(AbstractIteration):
    r"""Inexact Newton's method, $u \leftarrow u + \lambda d$ with $J(u)\,d \approx -R(u)$.

    Stops where $\lVert R(u) \rVert \le \max(\mathrm{rtol}\,\lVert R(0) \rVert, \mathrm{atol})$.
    The forcing term, the linear tolerance of a step, is $0.9\,(\lVert R_k \rVert / \lVert R_{k-1}
    \rVert)^2$, at most 1/2 and never tighter than the goal asks for. $\lambda$ is halved until the
    residual falls.

    Args:
        linear: solver of the steps' systems; its own tolerance is the tightest it is asked for.
        adjoint: how gradients are made.
        rtol: tolerance relative to the residual at zero; None for 1e-5 in single precision and
            1e-10 in double.
        atol: absolute tolerance.
        max_steps: most Newton steps.

    Raises: ValueError for tolerances or counts that cannot be met.
    Reference: Eisenstat & Walker, SIAM J. Sci. Comput. 17 (1996) 16, choice 2.
    """

    linear: AbstractLinearSolver = eqx.field(default=BiCGStab(), converter=as_linear_solver)
    adjoint: AbstractAdjoint = eqx.field(default=ImplicitAdjoint(), converter=as_adjoint)
    rtol: float | None = eqx.field(static=True, default=None)
    atol: float = eqx.field(static=True, default=0.0)
    max_steps: int = eqx.field(static=True, default=30)

    converges_fast: ClassVar[bool] = True

    @property
    def takes_any_structure(self) -> bool:
        """See `AbstractRootSolver.takes_any_structure`."""
        return not any(linear.needs_line for linear in self.linear_solvers)

    @property
    def num_chord_steps(self) -> int:
        """See `AbstractRootSolver.num_chord_steps`."""
        return min(_MOST_CHORD_STEPS, self.max_steps)

    @property
    def tangent_solver(self) -> AbstractLinearSolver:
        """See `AbstractRootSolver.tangent_solver`."""
        return self.linear

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
        """See `AbstractRootSolver.solve`."""
        aim = target(residual, guess, self, rtol, at_zero)

        def unfinished(carry):
            _, _, norm, before, _, steps, _, stalled = carry
            return aim.is_missed(norm, before) & (steps < self.max_steps) & ~stalled

        def step(carry):
            u, value, norm, _, forcing, steps, iterations, _ = carry
            _, jacobian = jax.linearize(residual, beside_singular(residual, u, value))
            direction, outcome = self.linear.solve(
                jacobian,
                tree.negate(value),
                None,
                preconditioner,
                rtol=forcing,
                loop=loop,
                is_final=False,
                rhs_norm=norm,
            )
            # What is not finite has no finite residual.
            is_straight = jnp.isfinite(outcome.relative_residual)
            u, value, after, moved, was_held = _along(
                residual, (u, value, norm), (direction, is_straight), aim.floor, loop
            )
            ratio2 = (after / norm) ** 2
            # Never tighter than the goal needs: the last step would solve for digits nobody asked
            # for.
            enough = 0.5 * aim.goal / jnp.where(after == 0, 1, after)
            safeguard = jnp.where(_GAMMA * forcing**2 > 0.1, _GAMMA * forcing**2, 0)
            forcing = jnp.clip(
                jnp.maximum(jnp.maximum(_GAMMA * ratio2, safeguard), enough), 0, _LOOSEST
            )
            # Cells that had to be held wait for a direction that does not lead them astray.
            forcing = jnp.where(was_held, jnp.minimum(forcing, _EXACT), forcing)
            iterations = iterations + outcome.iterations
            return u, value, after, norm, forcing, steps + 1, iterations, ~moved

        loosest, none = jnp.full_like(aim.norm, _LOOSEST), jnp.array(0)
        before = jnp.full_like(aim.norm, jnp.inf)
        first = (aim.guess, aim.value, aim.norm, before, loosest, none, none, jnp.array(False))
        last = loop(unfinished, step, first, self.max_steps)
        u, _, norm, _, _, steps, iterations, stalled = last
        return u, conclude(norm, aim, stalled, steps, iterations)


def _along(residual, start, ahead, floor: Scalar, loop: Loop):
    """Go the longest of the steps 1, 1/2, 1/4, ... at which the residual falls, or nowhere.

    A residual at the level of round-off, the floor, need not fall.
    """
    origin, at_origin, norm = start
    direction, is_straight = ahead

    def falls(length, after):
        # In single precision the factor of a short step is 1.
        falls = (after <= (1 - _SUFFICIENT_DECREASE * length) * norm) & (after < norm)
        return falls | ((after <= floor) & (length <= 1))

    def at(length, held):
        """The point so far along, but for entries that are held at the origin."""
        point = jax.tree.map(
            lambda u, d, stays: jnp.where(stays, u, u + length * d), origin, direction, held
        )
        value = residual(point)
        return point, value, tree.steering_norm(value)

    def unfinished(carry):
        _, _, after, length, _, count = carry
        return ~falls(length, after) & (count < _MOST_HALVINGS)

    def shorten(carry):
        """Half the length; but where rows are not finite, first the same without their entries.

        An inexact direction leads a cell that is empty a trifle below zero, where a root or a
        logarithm is NaN, and shorter steps lead there as well.
        """
        _, value, after, length, held_before, count = carry
        is_wild = ~jnp.isfinite(after) & is_straight & ~held_before & (count >= 0)
        held = jax.tree.map(lambda row: is_wild & ~jnp.isfinite(row), value)
        length = jnp.where(is_wild, length, length / 2)
        return *at(length, held), length, is_wild, jnp.where(is_wild, count, count + 1)

    # From twice the longest, which nobody takes: the residual is compiled once for all lengths.
    two = jnp.full_like(norm, 2)
    first = (origin, at_origin, jnp.full_like(norm, jnp.inf), two, jnp.array(False), jnp.array(-1))
    # Each length may be tried twice.
    most = 2 * (_MOST_HALVINGS + 1)
    point, value, after, length, was_held, _ = loop(unfinished, shorten, first, most)
    moved = falls(length, after)

    def kept(new: Vector, old: Vector) -> Vector:
        return jax.tree.map(lambda a, b: jnp.where(moved, a, b), new, old)

    norm = jnp.where(moved, after, norm)
    return kept(point, origin), kept(value, at_origin), norm, moved, was_held
