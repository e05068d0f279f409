r"""A root found by what it changes of its guess, $u = g + C d$ with $R(g + C d) = 0$.

Solvers see the change $d$ alone, in the unknowns' units $C$, and the residual in the equations'
units: $d \mapsto \rho^{-1} R(g + C d)$. What they are to reach is relative to the residual at $d =
0$. A constant that is added to an unknown, and the units of unknowns and equations, so have no part
in when a solve ends.

In single precision $g + C d$ loses what of the change is below the spacing of numbers at $g$. It is
not lost to the equation: where $\hat u$ is the sum as it is rounded and $e$ what that left out, the
residual is taken to be $R(\hat u) + R'(\hat u)\,e$.
"""

from collections.abc import Callable

import jax
import jax.numpy as jnp

from impindiff._types import Vector
from impindiff.implicit._root_solver import AbstractRootSolver, AtZero, SolveContext
from impindiff.linear import (
    AbstractInverse,
    Loop,
    Outcome,
    blame_guess,
    is_coarse,
    once_where,
    tree,
    while_loop,
)

# Rounding that gives the residual less than this of what it is to reach does not matter.
_FELT = 0.1


def find_increment(
    residual: Callable[[Vector], Vector],
    guess: Vector,
    solver: AbstractRootSolver,
    preconditioner: AbstractInverse | None,
    context: SolveContext,
    loop: Loop = while_loop,
) -> tuple[Vector, Outcome]:
    """What to add to the guess for a root, and how it was found.

    Args:
        residual: $R$, of the unknown itself.
        guess: $g$.
        solver: finds the root.
        preconditioner: approximates the inverse of the Jacobian of $R$.
        context: tolerance, units, and where to start.
        loop: repeats iterations.
    """
    scaling = context.scaling

    def equation(unknown: Vector) -> Vector:
        value = residual(unknown)
        return value if scaling is None else scaling.equation(value)

    may_lose = not solver.assumes_affine and is_coarse(tree.scalar_dtype(guess))
    at_zero = _at_guess(equation, guess, with_floor=not solver.assumes_affine)
    is_felt = jnp.array(False)
    if may_lose:
        is_felt = at_zero.floor > _FELT * solver.goal(
            tree.steering_norm(at_zero.value), context.rtol
        )

    def of_change(change: Vector) -> Vector:
        moved = change if scaling is None else scaling.unknown(change)
        unknown = tree.add(guess, moved)
        value = equation(unknown)
        if not may_lose:
            return value
        # Its slopes are second derivatives times what rounding left out.
        return tree.add(value, jax.lax.stop_gradient(missing(unknown, moved)))

    def missing(unknown: Vector, moved: Vector) -> Vector:
        def product(_: Vector, unknown: Vector, moved: Vector) -> Vector:
            lost = tree.subtract(moved, tree.subtract(unknown, guess))
            return jax.jvp(equation, (unknown,), (lost,))[1]

        nothing, fixed = tree.zeros_like(at_zero.value), jax.lax.stop_gradient((unknown, moved))
        if loop is not while_loop:
            return product(nothing, *fixed)
        return once_where(is_felt, product, nothing, *fixed)

    start = context.start
    if start is not None and scaling is not None:
        start = scaling.change(start)
    if preconditioner is not None and scaling is not None:
        preconditioner = scaling.preconditioner(preconditioner)
    change, outcome = solver.solve(
        of_change, start, preconditioner, rtol=context.rtol, loop=loop, at_zero=at_zero
    )
    change = change if scaling is None else scaling.unknown(change)
    return change, blame_guess(outcome, guess, loop)


def _at_guess(equation: Callable[[Vector], Vector], guess: Vector, *, with_floor: bool) -> AtZero:
    """The residual at the guess, and what rounding the guess does to it."""
    if not with_floor:
        return AtZero(equation(guess), jnp.zeros((), tree.scalar_dtype(guess)))
    dtype = tree.scalar_dtype(guess)
    eps = jnp.asarray(jnp.finfo(dtype).eps, dtype)
    # By the slope: the difference of two values would be rounded itself.
    rounding = tree.scale(eps, tree.alternating(guess))
    value, effect = jax.jvp(equation, (guess,), (jax.lax.stop_gradient(rounding),))
    floor = tree.steering_norm(effect)
    return AtZero(value, jnp.where(jnp.isfinite(floor), floor, 0))
