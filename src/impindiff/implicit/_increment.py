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
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp

from impindiff._types import Vector
from impindiff.implicit._chord import approach
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
from impindiff.precondition import ScaledInverse

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

    def solve(start: Vector | None) -> tuple[Vector, Outcome]:
        return solver.solve(
            of_change, start, preconditioner, rtol=context.rtol, loop=loop, at_zero=at_zero
        )

    if context.inverse is None or not solver.num_chord_steps or loop is not while_loop:
        change, outcome = solve(start)
    else:
        inverse = context.inverse
        if scaling is not None:
            inverse = ScaledInverse(inverse, scaling.columns, scaling.rows)
        found = approach(of_change, start, inverse, solver, context.rtol, at_zero)
        change, outcome = _go_on(solve, *found)
    change = change if scaling is None else scaling.unknown(change)
    return change, blame_guess(outcome, guess, loop)


def _go_on(
    solve: Callable[[Vector], tuple[Vector, Outcome]], change: Vector, outcome: Outcome
) -> tuple[Vector, Outcome]:
    """Solve from where chord steps have led, if that is no root."""
    # What it captures is made its data: much of it would else be computed before the loop.
    held = eqx.filter_closure_convert(solve, change)
    data, function = eqx.partition(held, eqx.is_array)

    def more(found: tuple[Vector, Outcome], data: Any) -> tuple[Vector, Outcome]:
        start, before = found
        change, after = eqx.combine(data, function)(start)
        done = (before.iterations + after.iterations, before.steps + after.steps)
        result = after.result.astype(before.result.dtype)
        return change, Outcome(result, done[0], after.relative_residual, done[1])

    return once_where(~outcome.converged, more, (change, outcome), data)


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
