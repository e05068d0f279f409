r"""Fixed-point iterations: Picard's, and Anderson's acceleration of it.

For a time step $R(u) = u - \theta\Delta t F(u) - b$ the plain iteration $u \leftarrow u - R(u)$ is
$u \leftarrow \theta\Delta t F(u) + b$, the layer of arXiv 2504.02260. It converges where
$\theta\Delta t F$ contracts; a preconditioner widens where it does.
"""

from collections.abc import Callable
from typing import NamedTuple, final

import equinox as eqx
import jax.numpy as jnp
from jax.flatten_util import ravel_pytree

from impindiff._errors import InputError, as_count, as_number
from impindiff._types import Scalar, Vector
from impindiff.implicit._adjoint import ImplicitAdjoint, as_adjoint
from impindiff.implicit._iteration import AbstractIteration, Target, conclude, target
from impindiff.implicit._root_solver import AbstractAdjoint, AtZero
from impindiff.linear import AbstractInverse, Loop, Outcome, tree, while_loop

# An iteration is given up where this many in a row have not lowered the residual.
_PATIENCE = 5


@final
class Picard(AbstractIteration):
    r"""Relaxed fixed-point iteration, $u \leftarrow u - \omega P^{-1} R(u)$.

    Stops where $\lVert R(u) \rVert \le \max(\mathrm{rtol}\,\lVert R(0) \rVert, \mathrm{atol})$.
    Needs no Jacobian and, where it converges, no more than one evaluation an iteration.

    Args:
        adjoint: how gradients are made.
        relaxation: $\omega$.
        rtol: tolerance relative to the residual at zero; None for 1e-5 in single precision and
            1e-10 in double.
        atol: absolute tolerance.
        max_steps: most iterations.

    Raises: InputError for tolerances, counts or a relaxation that cannot work.
    """

    adjoint: AbstractAdjoint = eqx.field(default=ImplicitAdjoint(), converter=as_adjoint)
    relaxation: float = eqx.field(static=True, default=1.0)
    rtol: float | None = eqx.field(static=True, default=None)
    atol: float = eqx.field(static=True, default=0.0)
    max_steps: int = eqx.field(static=True, default=200)

    def __check_init__(self) -> None:
        """Refuse what cannot converge."""
        if not 0 < as_number(self.relaxation, "the relaxation of Picard") < 2:
            raise InputError(
                f"Picard(relaxation={self.relaxation}): must lie in (0, 2). 1 is the plain "
                f"iteration; "
                "less damps one that oscillates."
            )

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
        system = _System(residual, aim, preconditioner)
        return _anderson(system, self, loop, memory=0, mixing=self.relaxation, shrink=0.0)


@final
class Anderson(AbstractIteration):
    r"""Anderson acceleration of the fixed-point iteration.

    Of the last $m$ iterations it takes the combination with the least preconditioned residual,
    $\min_\gamma \lVert f_k - \Delta F \gamma \rVert^2 + \epsilon \lVert \Delta F \rVert^2
    \lVert\gamma\rVert^2$ with $f = -P^{-1} R(u)$, and goes on from there, $u \leftarrow u_k +
    \beta f_k - (\Delta U + \beta \Delta F)\gamma$.

    Args:
        adjoint: how gradients are made.
        memory: $m$; each costs two vectors.
        mixing: $\beta$.
        regularisation: $\epsilon$, keeps nearly dependent residuals from giving large $\gamma$; at
            least round-off, $m$ units of it.
        rtol: tolerance relative to the residual at zero; None for 1e-5 in single precision and
            1e-10 in double.
        atol: absolute tolerance.
        max_steps: most iterations.

    Raises: InputError for tolerances, counts or a mixing that cannot work.
    Reference: Walker & Ni, SIAM J. Numer. Anal. 49 (2011) 1715.
    """

    adjoint: AbstractAdjoint = eqx.field(default=ImplicitAdjoint(), converter=as_adjoint)
    memory: int = eqx.field(static=True, default=5)
    mixing: float = eqx.field(static=True, default=1.0)
    regularisation: float = eqx.field(static=True, default=1e-10)
    rtol: float | None = eqx.field(static=True, default=None)
    atol: float = eqx.field(static=True, default=0.0)
    max_steps: int = eqx.field(static=True, default=100)

    def __check_init__(self) -> None:
        """Refuse what cannot converge."""
        as_count(self.memory, "the memory of Anderson")
        mixing = as_number(self.mixing, "the mixing of Anderson")
        regularisation = as_number(self.regularisation, "the regularisation of Anderson")
        if self.memory < 1 or not 0 < mixing < 2 or not regularisation >= 0:
            raise InputError(
                f"{self}: memory must be at least 1, mixing lie in (0, 2), and regularisation "
                f"not be negative. "
                "For a memory of 0 use Picard."
            )

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
        return _anderson(
            _System(residual, target(residual, guess, self, rtol, at_zero), preconditioner),
            self,
            loop,
            memory=self.memory,
            mixing=self.mixing,
            shrink=self.regularisation,
        )


class _System(NamedTuple):
    residual: Callable[[Vector], Vector]
    aim: Target
    preconditioner: AbstractInverse | None


def _anderson(system: _System, solver, loop: Loop, *, memory, mixing, shrink):
    """Both iterations: Picard's is Anderson's without memory."""
    residual, aim, preconditioner = system
    precondition = (lambda v: v) if preconditioner is None else preconditioner.apply
    flat_guess, unravel = ravel_pytree(aim.guess)

    def step_at(value):
        return ravel_pytree(tree.negate(precondition(value)))[0]

    def evaluate(flat):
        value = residual(unravel(flat))
        return step_at(value), tree.steering_norm(value)

    f, norm = step_at(aim.value), aim.norm
    # Steps are kept in units of the first, for the sake of their inner products.
    unit = tree.unit(f)

    def unfinished(carry):
        *_, norm, before, best, fails, steps = carry
        return aim.is_missed(norm, before) & (steps < solver.max_steps) & (fails < _PATIENCE)

    def step(carry):
        u, f, past_u, past_f, gram, norm, _, best, fails, steps = carry
        move = mixing * f
        if memory:
            # Empty slots are zero rows: the unit added there gives them a coefficient of zero.
            least = memory * jnp.finfo(gram.dtype).eps
            ridge = max(shrink, least) * jnp.trace(gram) + jnp.where(jnp.diag(gram) == 0, 1, 0)
            gamma = jnp.linalg.solve(gram + jnp.diag(ridge), past_f @ f)
            move = move - gamma @ (past_u + mixing * past_f)
        new_u = u + unit * move
        new_f, new_norm = evaluate(new_u)
        new_f = new_f / unit
        if memory:
            slot = steps % memory
            past_u, past_f = past_u.at[slot].set(move), past_f.at[slot].set(new_f - f)
            # Of the inner products only those with the newest have changed.
            products = past_f @ past_f[slot]
            gram = gram.at[slot].set(products).at[:, slot].set(products)
        better = new_norm < best
        fails = jnp.where(better, 0, fails + 1)
        best = jnp.minimum(best, new_norm)
        return new_u, new_f, past_u, past_f, gram, new_norm, norm, best, fails, steps + 1

    empty = jnp.zeros((memory, flat_guess.size), flat_guess.dtype)
    gram = jnp.zeros((memory, memory), flat_guess.dtype)
    zero, before = jnp.array(0), jnp.full_like(norm, jnp.inf)
    first = (flat_guess, f / unit, empty, empty, gram, norm, before, norm, zero, zero)
    u, *_, norm, _, _, fails, steps = loop(unfinished, step, first, solver.max_steps)
    outcome = conclude(norm, aim, fails >= _PATIENCE, steps, steps)
    return unravel(u), outcome
