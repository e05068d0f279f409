"""Staggered iteration: coupled equations solved one group of unknowns after the other.

A sweep is a block Gauss-Seidel step, each block by one step of Newton's method: nothing of what
groups do to each other is ever written into a matrix. It contracts as fast as the coupling within
one time step is weak, in whatever order feeds each group the newest of what it depends on most.
"""

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import ClassVar, final

import equinox as eqx
import jax
import jax.numpy as jnp

from impindiff._errors import InputError
from impindiff._types import Scalar, Vector
from impindiff.implicit._adjoint import ImplicitAdjoint, as_adjoint
from impindiff.implicit._iteration import AbstractIteration, beside_singular, conclude, target
from impindiff.implicit._root_solver import AbstractAdjoint, AtZero, as_linear_solver
from impindiff.linear import (
    AbstractInverse,
    AbstractLinearSolver,
    BiCGStab,
    Loop,
    Outcome,
    tree,
    while_loop,
)
from impindiff.precondition import Groups, as_groups, check_groups

# A sweep's systems leave this much of what the sweep before left of the whole residual.
_SHARE = 0.1
# The iteration is given up where this many sweeps in a row have not lowered the residual.
_PATIENCE = 5

Linear = AbstractLinearSolver | tuple[AbstractLinearSolver, ...]


def _as_linear(given: AbstractLinearSolver | Sequence[AbstractLinearSolver]) -> Linear:
    several = isinstance(given, list | tuple)
    return tuple(map(as_linear_solver, given)) if several else as_linear_solver(given)


@final
class Staggered(AbstractIteration):
    r"""Groups of unknowns in turn, $u_g \leftarrow u_g - (\partial R_g/\partial u_g)^{-1} R_g(u)$.

    Each group's own equations are linearised in its own unknowns, all others held at their newest
    values, once a sweep. Stops where the residual of all together has $\lVert R(u) \rVert \le
    \max(\mathrm{rtol}\,\lVert R(0) \rVert, \mathrm{atol})$: the root is that of the coupled
    equations, and so is its gradient, for which `adjoint` solves the coupled system.

    Args:
        groups: in their order, names at the top of the unknown, which is a dictionary:
            `(("temperature",), ("gas", "porosity"))`. A name alone is a group of one.
        linear: solver of the groups' systems; or one for each group. Systems are solved no better
            than a sweep deserves, its own tolerance is the tightest it is asked for.
        adjoint: how gradients are made; a linear solver must be fit for all fields at once.
        rtol: tolerance relative to the residual at zero; None for 1e-5 in single precision and
            1e-10 in double.
        atol: absolute tolerance.
        max_steps: most sweeps.

    A preconditioner by `ByGroup` has a part for each group.
    Converges where groups depend on each other weakly within a step; where they do not, put the
    fields into one group, or use `Newton`.

    Raises: InputError for groups that share a name, tolerances or counts that cannot be met,
        another number of linear solvers; when solving, for an unknown that is no dictionary of
        these names.
    """

    groups: Groups = eqx.field(static=True, converter=as_groups)
    linear: Linear = eqx.field(default=BiCGStab(), converter=_as_linear)
    adjoint: AbstractAdjoint = eqx.field(default=ImplicitAdjoint(), converter=as_adjoint)
    rtol: float | None = eqx.field(static=True, default=None)
    atol: float = eqx.field(static=True, default=0.0)
    max_steps: int = eqx.field(static=True, default=50)

    converges_fast: ClassVar[bool] = True

    def __check_init__(self) -> None:
        """Refuse tolerances and counts that cannot be met."""
        if isinstance(self.linear, tuple) and len(self.linear) != len(self.groups):
            raise InputError(
                f"Staggered: {len(self.linear)} linear solvers for {len(self.groups)} groups: give "
                "one for each, or one for all."
            )

    def with_group(self, names: tuple[str, ...]) -> "Staggered":
        """See `AbstractRootSolver.with_group`; they are solved for last."""
        linear = self.linear
        linear = (*linear, BiCGStab()) if isinstance(linear, tuple) else linear
        return replace(self, groups=(*self.groups, names), linear=linear)

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
        check_groups("Staggered", self.groups, aim.guess)
        parts = [
            None if preconditioner is None else preconditioner.restricted(group, aim.guess)
            for group in self.groups
        ]

        def norm_at(u):
            return tree.steering_norm(residual(u))

        def correct(u, number, wanted):
            """One step of Newton's method for a group, which leaves as much as is wanted."""
            group = self.groups[number]
            linear = self.linear[number] if isinstance(self.linear, tuple) else self.linear

            def of_group(own):
                return tree.pick(residual(dict(u) | own), group)

            own = tree.pick(u, group)
            value = of_group(own)
            _, jacobian = jax.linearize(of_group, beside_singular(of_group, own, value))
            size = tree.steering_norm(value)
            direction, outcome = linear.solve(
                jacobian,
                tree.negate(value),
                None,
                parts[number],
                rtol=jnp.minimum(wanted / jnp.where(size == 0, 1, size), _SHARE),
                loop=loop,
                rhs_norm=size,
            )
            return dict(u) | tree.add(own, direction), outcome.iterations

        def unfinished(carry):
            _, norm, before, _, _, fails, steps, _ = carry
            return aim.is_missed(norm, before) & (steps < self.max_steps) & (fails < _PATIENCE)

        def sweep(carry):
            u, norm, _, ratio, best, fails, steps, iterations = carry
            # What the sweep can be expected to leave, and never less than the goal asks for.
            wanted = jnp.maximum(_SHARE * ratio * norm, 0.5 * aim.goal)
            for number in range(len(self.groups)):
                u, more = correct(u, number, wanted)
                iterations = iterations + more
            after = norm_at(u)
            better = after < best
            fails = jnp.where(better, 0, fails + 1)
            ratio = jnp.clip(after / norm, 0, 1)
            best = jnp.minimum(best, after)
            return u, after, norm, ratio, best, fails, steps + 1, iterations

        zero = jnp.array(0)
        one, before = jnp.ones_like(aim.norm), jnp.full_like(aim.norm, jnp.inf)
        first = (aim.guess, aim.norm, before, one, aim.norm, zero, zero, zero)
        u, norm, _, _, _, fails, steps, iterations = loop(unfinished, sweep, first, self.max_steps)
        return u, conclude(norm, aim, fails >= _PATIENCE, steps, iterations)
