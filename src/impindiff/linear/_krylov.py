"""Krylov methods: BiCGStab, conjugate gradients, and restarted flexible GMRES.

Each guards its divisions and says what it saw to be wrong with the system. Scalars are per system:
under `vmap` each sample stops on its own residual and is frozen from then on.
"""

from collections.abc import Callable
from functools import partial
from typing import final

import equinox as eqx
import jax
import jax.numpy as jnp
from jax.flatten_util import ravel_pytree

from impindiff._errors import InputError, as_count, as_flag
from impindiff._types import Scalar, Vector
from impindiff.linear import _tree as tree
from impindiff.linear._judgement import Iterated, divide
from impindiff.linear._linear_solver import AbstractLinearSolver, LinearProblem
from impindiff.linear._loop import Loop
from impindiff.linear._outcome import Result


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


@final
class CG(AbstractLinearSolver):
    r"""The conjugate gradient method: one product an iteration, four vectors.

    Operator and preconditioner must be symmetric and positive definite; for others use `BiCGStab`.
    Where a direction shows that they are not, the iteration ends and the outcome is
    `Result.NOT_SYMMETRIC`. That an operator is not definite shows in $p^\top A\,p$; that it is not
    symmetric in the second direction: $p_1^\top A\,p_0$ is zero by construction, but $p_0^\top
    A\,p_1$ only by symmetry.

    Args:
        rtol: see `AbstractLinearSolver`.
        atol: see `AbstractLinearSolver`.
        max_steps: see `AbstractLinearSolver`.
        check_symmetry: whether to look; one inner product an iteration.

    Raises: ValueError for a negative tolerance, for both tolerances zero, or `max_steps` under 1.
    Reference: Hestenes & Stiefel, J. Res. Natl. Bur. Stand. 49 (1952) 409.
    """

    rtol: float | None = eqx.field(static=True, default=None)
    atol: float = eqx.field(static=True, default=0.0)
    max_steps: int = eqx.field(static=True, default=500)
    check_symmetry: bool = eqx.field(
        static=True, default=True, converter=partial(as_flag, what="check_symmetry")
    )

    def iterate(
        self,
        problem: LinearProblem,
        precondition: Callable[[Vector], Vector],
        loop: Loop,
    ) -> Iterated:
        """See `AbstractLinearSolver.iterate`."""
        operator, residual, norm2, tolerance2 = problem
        # The two inner products differ by round-off times the root of the condition number.
        tolerance = jnp.finfo(norm2.dtype).eps ** 0.25

        def unfinished(carry):
            *_, norm2, iteration, curvature, symmetric = carry
            definite = (iteration == 0) | (curvature > 0)
            return (norm2 > tolerance2) & (iteration < self.max_steps) & definite & symmetric

        def is_symmetric(iteration, v, first, second):
            if not self.check_symmetry:
                return True
            # Relative to the two directions' own products, as the inequality of Cauchy has it.
            largest = tree.root_of(first) * tree.root_of(second)
            return (iteration != 1) | ~(jnp.abs(tree.dot(z, v)) > tolerance * largest)

        def step(carry):
            x, r, p, rho, _, iteration, before, _ = carry
            v = operator(p)
            curvature = tree.dot(p, v)
            symmetric = is_symmetric(iteration, v, before, curvature)
            alpha = divide(rho, curvature)
            x = jax.tree.map(lambda x, p: x + alpha * p, x, p)
            r = jax.tree.map(lambda r, v: r - alpha * v, r, v)
            z = precondition(r)
            rho_next = tree.dot(r, z)
            beta = divide(rho_next, rho)
            p = jax.tree.map(lambda z, p: z + beta * p, z, p)
            return x, r, p, rho_next, tree.dot(r, r), iteration + 1, curvature, symmetric

        z = precondition(residual)
        zero = tree.zeros_like(residual)
        count, yes = jnp.array(0), jnp.array(True)
        first = (zero, residual, z, tree.dot(residual, z), norm2, count, norm2, yes)
        last = loop(unfinished, step, first, self.max_steps)
        x, *_, norm2, iterations, curvature, symmetric = last
        suits = symmetric & ((iterations == 0) | (curvature > 0))
        failure = jnp.where(suits, Result.CONVERGED, Result.NOT_SYMMETRIC)
        return Iterated(x, norm2, iterations, failure)


@final
class GMRES(AbstractLinearSolver):
    r"""The generalised minimal residual method, restarted and flexible.

    For operators on which `BiCGStab` stagnates. The residual never grows. One product an iteration,
    $2 m$ vectors; orthogonalised twice, which float32 needs. Flexible: the preconditioned vectors
    are kept, so that the preconditioner may itself be an iteration.

    Args:
        rtol: see `AbstractLinearSolver`.
        atol: see `AbstractLinearSolver`.
        max_steps: see `AbstractLinearSolver`; counted over restarts.
        restart: $m$, iterations between restarts.

    Raises: InputError for a negative tolerance, for both tolerances zero, or counts under 1.
    Reference: Y. Saad, SIAM J. Sci. Comput. 14 (1993) 461.
    """

    rtol: float | None = eqx.field(static=True, default=None)
    atol: float = eqx.field(static=True, default=0.0)
    max_steps: int = eqx.field(static=True, default=300)
    restart: int = eqx.field(static=True, default=30)

    def __check_init__(self) -> None:
        """Refuse tolerances that cannot be met."""
        if as_count(self.restart, "restart of GMRES") < 1:
            raise InputError(f"GMRES(restart={self.restart}): must be at least 1; 30 is usual.")

    def iterate(
        self,
        problem: LinearProblem,
        precondition: Callable[[Vector], Vector],
        loop: Loop,
    ) -> Iterated:
        """See `AbstractLinearSolver.iterate`."""
        operator, residual, norm2, tolerance2 = problem
        flat, unravel = ravel_pytree(residual)
        size = min(self.restart, flat.size)

        def products(v):
            z = precondition(unravel(v))
            return ravel_pytree(z)[0], ravel_pytree(operator(z))[0]

        def unfinished(carry):
            _, _, norm2, iterations, stalled = carry
            return (norm2 > tolerance2) & (iterations < self.max_steps) & ~stalled

        def cycle(carry):
            x, r, norm2, iterations, _ = carry
            budget = self.max_steps - iterations
            correction, steps = _gmres_cycle(products, r, tolerance2, size, budget, loop)
            x = x + correction
            # Formed anew at each restart: it is what the next cycle has to remove.
            r = flat - ravel_pytree(operator(unravel(x)))[0]
            after = jnp.vdot(r, r)
            return x, r, after, iterations + steps, after > 0.999 * norm2

        first = (jnp.zeros_like(flat), flat, norm2, jnp.array(0), jnp.array(False))
        # At least one iteration a cycle; all but the last do as many as there are vectors.
        most_cycles = -(-self.max_steps // size) + 1
        x, _, norm2, iterations, stalled = loop(unfinished, cycle, first, most_cycles)
        stalled &= iterations < self.max_steps
        failure = jnp.where(stalled, Result.STALLED, Result.CONVERGED)
        return Iterated(unravel(x), norm2, iterations, failure)


def _gmres_cycle(products, residual, tolerance2: Scalar, size: int, budget, loop: Loop):
    """At most `size` steps of Arnoldi's process, and the correction of least residual."""
    beta = tree.norm(residual)
    basis = jnp.zeros((size + 1, residual.size), residual.dtype).at[0].set(divide(residual, beta))
    searched = jnp.zeros((size, residual.size), residual.dtype)
    # The Hessenberg matrix, made triangular by rotations as it grows; ones where it has not grown.
    triangle = jnp.eye(size, dtype=residual.dtype)
    rotations = jnp.zeros((size, 2), residual.dtype).at[:, 0].set(1)
    target = jnp.zeros(size + 1, residual.dtype).at[0].set(beta)

    def unfinished(carry):
        *_, target, step = carry
        return (step < size) & (step < budget) & (target[step] ** 2 > tolerance2)

    def extend(carry):
        basis, searched, triangle, rotations, target, step = carry
        z, w = products(basis[step])
        searched = searched.at[step].set(z)
        column = basis @ w
        w = w - column @ basis
        again = basis @ w
        w = w - again @ basis
        column = column + again
        height = tree.norm(w)
        basis = basis.at[step + 1].set(divide(w, height))
        column = column.at[step + 1].set(height)

        def rotate(carry):
            i, column = carry
            cosine, sine = rotations[i]
            here, below = column[i], column[i + 1]
            rotated = (cosine * here + sine * below, cosine * below - sine * here)
            return i + 1, column.at[i].set(rotated[0]).at[i + 1].set(rotated[1])

        _, column = loop(lambda carry: carry[0] < step, rotate, (jnp.array(0), column), size)
        length = tree.norm((column[step], column[step + 1]))
        cosine, sine = divide(column[step], length), divide(column[step + 1], length)
        rotations = rotations.at[step].set(jnp.stack([cosine, sine]))
        # A column of zeros (the operator is singular) would make the triangle so, too.
        column = column.at[step].set(jnp.where(length == 0, 1, length)).at[step + 1].set(0)
        triangle = triangle.at[:, step].set(column[:-1])
        here = target[step]
        target = target.at[step].set(cosine * here).at[step + 1].set(-sine * here)
        return basis, searched, triangle, rotations, target, step + 1

    first = (basis, searched, triangle, rotations, target, jnp.array(0))
    _, searched, triangle, _, target, steps = loop(unfinished, extend, first, size)
    # Beyond the steps done the triangle is the identity and the target is masked to zero.
    target = jnp.where(jnp.arange(size) < steps, target[:-1], 0)
    weights = jax.scipy.linalg.solve_triangular(triangle, target)
    return weights @ searched, steps
