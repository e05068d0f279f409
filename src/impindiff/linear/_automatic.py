"""A linear solver that starts cheaply and brings in a stronger method where that is not enough.

What a system needs is known only from its coefficients, and these may be traced. So the choice is
made by what happens: a few plain iterations first, for a mild step needs no more; then whatever the
shape of the unknown allows. With the share of plain iterations chosen so that they cost about what
the stronger method does, the whole is at most about twice as dear as the better of both.

The stronger methods stand in loops of at most one turn. Under `vmap` a branch would be taken by all
samples in any case; a loop is entered only if one of them needs it.
"""

from collections.abc import Callable
from typing import ClassVar, final

import equinox as eqx
import jax
import jax.numpy as jnp

from impindiff._types import Vector
from impindiff.linear import _tree as tree
from impindiff.linear._direct import DenseLU, Tridiagonal, eliminations
from impindiff.linear._inverse import AbstractInverse
from impindiff.linear._judgement import Iterated, Operator
from impindiff.linear._krylov import BiCGStab
from impindiff.linear._linear_solver import AbstractLinearSolver, LinearProblem
from impindiff.linear._loop import Loop

# Up to so many unknowns the matrix is written out and factorised.
FEW_UNKNOWNS = 32
# Plain iterations that cost about as much as what follows them. Measured: elimination along a line
# costs as much as three of them for one field, six for two; setting up a preconditioner on a grid
# and applying it a few times, as much as some forty.
_ON_A_LINE = 3
_ON_A_GRID = 40

Precondition = Callable[[Vector], Vector]


@final
class Automatic(AbstractLinearSolver):
    r"""Chooses by what happens: plain BiCGStab first, then a stronger method where it is needed.

    - At most 32 unknowns: the matrix is factorised, as by `DenseLU`.
    - Fields on one axis: after a few plain iterations elimination along the line, as by
      `Tridiagonal`; where the operator reaches beyond neighbours, so that this does not solve it,
      BiCGStab preconditioned by that elimination.
    - Any other: after some tens of plain iterations BiCGStab with the preconditioner. Without one
      there is nothing else to do, and the plain iteration goes on.

    Serves forward, tangent and adjoint systems, and works where coefficients are traced. A
    preconditioner on one axis takes the place of elimination.

    Args:
        rtol: see `AbstractLinearSolver`.
        atol: see `AbstractLinearSolver`.
        max_steps: most iterations of the stronger method.

    Raises: ValueError for limits that cannot be met.
    """

    rtol: float | None = eqx.field(static=True, default=None)
    atol: float = eqx.field(static=True, default=0.0)
    max_steps: int = eqx.field(static=True, default=1000)

    is_open: ClassVar[bool] = True

    def resolved(self, *, direct: bool) -> AbstractLinearSolver:
        """What takes its place where the choice is made: with its tolerances.

        Args:
            direct: whether to eliminate along the line; otherwise BiCGStab, with whatever
                preconditioner it is given.
        """
        if direct:
            return Tridiagonal(self.rtol, self.atol)
        return BiCGStab(self.rtol, self.atol, self.max_steps)

    def factorise(self, operator: Operator, like: Vector) -> AbstractInverse | None:
        """See `AbstractLinearSolver.factorise`: as the method that it would end with."""
        if sum(leaf.size for leaf in jax.tree.leaves(like)) <= FEW_UNKNOWNS:
            return DenseLU().factorise(operator, like)
        return Tridiagonal().factorise(operator, like)

    def iterate(
        self,
        problem: LinearProblem,
        precondition: Precondition,
        loop: Loop,
    ) -> Iterated:
        """See `AbstractLinearSolver.iterate`."""
        limits = {"rtol": self.rtol, "atol": self.atol}
        leaves = jax.tree.leaves(problem.residual)
        if sum(leaf.size for leaf in leaves) <= FEW_UNKNOWNS:
            return DenseLU(**limits).iterate(problem, precondition, loop)
        krylov = BiCGStab(**limits, max_steps=self.max_steps)
        # What returns its argument itself is no preconditioner.
        returned = jax.tree.leaves(precondition(problem.residual))
        is_none = all(new is old for new, old in zip(returned, leaves, strict=True))
        longest = max(leaves, key=lambda leaf: leaf.size)
        along = [leaf for leaf in leaves if leaf.shape == longest.shape]
        on_a_line = longest.ndim == 1
        if is_none and not on_a_line:
            return krylov.iterate(problem, precondition, loop)
        few = min(self.max_steps, _ON_A_LINE * len(along) if on_a_line else _ON_A_GRID)
        plain = BiCGStab(**limits, max_steps=few)
        found = plain.iterate(problem, lambda v: v, loop)
        if not is_none:
            return _then(krylov, found, problem, lambda _, v: _made(precondition, v), loop)
        if len(along) == len(leaves):
            found = _then(Tridiagonal(**limits), found, problem, lambda _, v: precondition, loop)
        return _then(krylov, found, problem, _along_lines, loop)


def _then(
    solver: AbstractLinearSolver,
    found: Iterated,
    problem: LinearProblem,
    make: Callable[[Operator, Vector], Precondition],
    loop: Loop,
) -> Iterated:
    """Go on with another solver where one did not arrive.

    Args:
        solver: goes on from where the first came to, or from zero where that is no better.
        found: by the first.
        problem: the equations.
        make: makes the preconditioner from the operator and a vector; where it is not needed that
            costs nothing.
        loop: repeats iterations.
    """
    operator, residual, norm2, tolerance2 = problem

    def unfinished(carry):
        *_, norm2, _, turns, _ = carry
        # NaN is none of its business.
        return (norm2 > tolerance2) & (turns == 0)

    def go_on(carry):
        x, _, iterations, turns, failure = carry

        # Always so, which the compiler cannot know. It would compute before the loop, and so in any
        # case, whatever in it does not depend on what the loop carries: all of the setup.
        def here(vector: Vector) -> Vector:
            return jax.tree.map(lambda leaf: jnp.where(turns == 0, leaf, 0), vector)

        def product(vector: Vector) -> Vector:
            return operator(here(vector))

        left = tree.subtract(residual, product(x))
        left2 = tree.dot(left, left)
        is_better = left2 < norm2
        x = jax.tree.map(lambda x: jnp.where(is_better, x, 0), x)
        left = jax.tree.map(lambda new, old: jnp.where(is_better, new, old), left, residual)
        precondition = make(product, here(left))
        rest = LinearProblem(product, left, jnp.where(is_better, left2, norm2), tolerance2)
        more = solver.iterate(rest, precondition, loop)
        x = jax.tree.map(jnp.add, x, more.correction)
        failure = jnp.asarray(more.failure, failure.dtype)
        return x, more.norm2, iterations + more.iterations, turns + 1, failure

    begin = jnp.array(0), jnp.asarray(found.failure)
    carry = (found.correction, found.norm2, found.iterations, *begin)
    x, norm2_after, iterations, _, failure = loop(unfinished, go_on, carry, 1)
    return Iterated(x, norm2_after, iterations, failure)


def _made(precondition: Precondition, example: Vector) -> Precondition:
    """The same map, with all that it makes of its coefficients made once, before it is applied."""
    return jax.linearize(precondition, example)[1]


def _along_lines(operator: Operator, residual: Vector) -> Precondition:
    """Elimination along the line for all that lies on it; numbers beside it are left as they are.

    Where the operator has so little to do with its part along the line that what is left of a
    right-hand side is more than it was, nothing is done.
    """
    leaves, structure = jax.tree.flatten(residual)
    shape = max(leaves, key=lambda leaf: leaf.size).shape
    places = [place for place, leaf in enumerate(leaves) if leaf.shape == shape]

    def put(values: list) -> Vector:
        whole = [jnp.zeros_like(leaf) for leaf in leaves]
        for place, value in zip(places, values, strict=True):
            whole[place] = value
        return jax.tree.unflatten(structure, whole)

    def take(vector: Vector) -> list:
        found = jax.tree.leaves(vector)
        return [found[place] for place in places]

    safe, fast = eliminations(lambda values: take(operator(put(values))), take(residual))
    solve = safe if fast is None else fast

    def eliminated(vector: Vector) -> Vector:
        whole, found = jax.tree.leaves(vector), solve(take(vector))
        for place, value in zip(places, found, strict=True):
            whole[place] = value
        return jax.tree.unflatten(structure, whole)

    left = tree.subtract(residual, operator(eliminated(residual)))
    # A comparison that NaN fails.
    helps = tree.dot(left, left) < tree.dot(residual, residual)

    def precondition(vector: Vector) -> Vector:
        return jax.tree.map(lambda new, old: jnp.where(helps, new, old), eliminated(vector), vector)

    return precondition
