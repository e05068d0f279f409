r"""How gradients go through a root: by the implicit function theorem, or by its alternatives.

`ImplicitAdjoint` is the rule. The derivative of the $u$ with $R(u, \theta) = 0$ does not depend on
how $u$ was found;

$$ \frac{\partial R}{\partial u}\,\dot u = -\frac{\partial R}{\partial\theta}\,\dot\theta. $$

This is written once, as a rule for forward mode, with `jax.lax.custom_linear_solve` around the
linear system. Transposing the rule gives reverse mode (one solve with $(\partial R/\partial
u)^\top$, the adjoint), and differentiating it again gives Hessian-vector products. No iterate of
the forward solve is stored.

A solve inside reverse mode has nowhere to return its outcome to. The linear system therefore
carries one more unknown, a *probe* that the equation does not involve ($I\,s = \dot s$). Its
adjoint component is not solved for but filled with the statistics of the adjoint solve, which so
arrive as the gradient with respect to the probe, summed over steps and samples by the rules that
sum any gradient.

`OneStepAdjoint` differentiates the last step of an iteration only, and `UnrolledAdjoint` all of
them: the first is cheaper and not exact, the second is here to compare with.
"""

from dataclasses import replace
from functools import partial
from typing import Literal, final

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import PyTree

from impindiff._errors import InputError
from impindiff._types import Vector
from impindiff.implicit._failure_policy import POLICIES, hand_out
from impindiff.implicit._increment import find_increment
from impindiff.implicit._iteration import beside_singular
from impindiff.implicit._root_solver import (
    AbstractAdjoint,
    AbstractRootSolver,
    Residual,
    Root,
    SolveContext,
    as_linear_solver,
)
from impindiff.linear import (
    AbstractInverse,
    AbstractLinearSolver,
    AdjointOutcome,
    BiCGStab,
    Outcome,
    tree,
    unrolled_loop,
)


def as_root(guess: Vector, value: Vector, increment: Vector, outcome: Outcome) -> Root:
    """A root whose increment has the derivative of the value less that of the guess."""

    def slopes_of(leaf):
        return leaf - jax.lax.stop_gradient(leaf)

    with_slopes = jax.tree.map(
        lambda d, u, g: jax.lax.stop_gradient(d) + slopes_of(u) - slopes_of(g),
        increment,
        value,
        guess,
    )
    return Root(value, with_slopes, outcome)


@final
class ImplicitAdjoint(AbstractAdjoint):
    r"""Implicit differentiation: one transposed linear solve for each root. Exact.

    Args:
        linear: solver of the adjoint system (and, in forward mode, of the tangents'); by default
            the one by which the root itself is solved for, or BiCGStab where that has none. A
            right-hand side may be many orders of magnitude smaller than the states, so its
            tolerance should be relative.
        on_failure: what becomes of a gradient whose solve missed its tolerance. `raise` stops the
            program; `nan` hands out NaN; `warn` hands out what there is, and a RuntimeWarning.
            Where the caller brings a probe it learns of the failure there, and `raise` becomes
            `nan`. Training does so.

    Under `jit` the error of `raise` arrives as `jax.errors.JaxRuntimeError`.
    Raises: InputError for another word.
    """

    linear: AbstractLinearSolver | None = None
    on_failure: Literal["raise", "nan", "warn"] = eqx.field(static=True, default="raise")

    def __check_init__(self) -> None:
        """Refuse what is no policy."""
        if self.linear is not None:
            as_linear_solver(self.linear)
        if self.on_failure not in POLICIES:
            raise InputError(
                f"ImplicitAdjoint(on_failure={self.on_failure!r}): must be one of {POLICIES}."
            )

    def root(
        self,
        residual: Residual,
        solver: AbstractRootSolver,
        guess: Vector,
        inputs: PyTree,
        preconditioner: AbstractInverse | None,
        context: SolveContext,
    ) -> Root:
        """See `AbstractAdjoint.root`."""
        arrays, static = eqx.partition(inputs, eqx.is_array)

        def closed(unknown, arrays):
            return residual(unknown, eqx.combine(arrays, static))

        policy = self.on_failure
        if context.probe is not None and policy == "raise":
            policy = "nan"
        probe = AdjointOutcome.probe() if context.probe is None else context.probe
        linear = self.linear or solver.tangent_solver or BiCGStab()
        rule = (closed, solver, linear, policy)
        fixed = replace(context, probe=None)
        value, increment, outcome, _ = _root(
            rule, jax.lax.stop_gradient(guess), arrays, preconditioner, fixed, probe
        )
        return as_root(guess, value, increment, outcome)


def as_adjoint(given: AbstractAdjoint | AbstractLinearSolver) -> AbstractAdjoint:
    """Implicit differentiation by a linear solver, where only the solver is given.

    Raises: InputError for what is neither.
    """
    if isinstance(given, AbstractLinearSolver):
        return ImplicitAdjoint(given)
    if not isinstance(given, AbstractAdjoint):
        raise InputError(
            f"the adjoint is {given!r:.60}: give ImplicitAdjoint(), called, or the linear solver "
            "of the adjoint system."
        )
    return given


@partial(jax.custom_jvp, nondiff_argnums=(0,))
def _root(rule, guess, inputs, preconditioner, context, probe):
    residual, solver, *_ = rule
    if context.root is not None:
        known = tree.subtract(context.root, guess)
        if context.is_known is None:
            return context.root, known, Outcome.exact(), probe
        start = tree.zeros_like(guess) if context.start is None else context.start
        context = replace(context, start=_chosen(context.is_known, known, start))
    increment, outcome = find_increment(
        lambda u: residual(u, inputs), guess, solver, preconditioner, context
    )
    value = tree.add(guess, increment)
    if context.root is not None:
        value = _chosen(context.is_known, context.root, value)
    return value, increment, outcome, probe


def _chosen(condition, one: Vector, other: Vector) -> Vector:
    return jax.tree.map(lambda a, b: jnp.where(condition, a, b), one, other)


@_root.defjvp
def _root_jvp(rule, primals, tangents):
    residual, solver, linear, policy = rule
    guess, inputs, preconditioner, context, probe = primals
    place, rtol = (context.noun, context.number), context.rtol
    _, inputs_dot, _, _, probe_dot = tangents
    value, increment, outcome, _ = _root(rule, guess, inputs, preconditioner, context, probe)

    def at(unknown):
        return residual(unknown, inputs)

    point = value if solver.assumes_affine else beside_singular(at, value)
    _, product = jax.linearize(at, point)
    # Under `checkpoint`, only the root and the inputs are kept for the backward pass; without it
    # every product with a shifted copy of the root would be kept, ten times the memory.
    of_inputs = jax.checkpoint(lambda i: residual(value, i))
    _, rhs = jax.jvp(of_inputs, (inputs,), (inputs_dot,))
    scaling = context.scaling
    operator = product if scaling is None else scaling.operator(product)
    if scaling is not None:
        rhs, preconditioner = scaling.equation(rhs), scaling.preconditioner(preconditioner)

    def matvec(unknowns):
        return operator(unknowns[0]), unknowns[1]

    def solve(matvec, right):
        solution, forward = linear.solve(
            lambda v: matvec((v, right[1]))[0], right[0], None, preconditioner, rtol=rtol
        )
        return hand_out(solution, forward, policy, "tangent", place), right[1]

    def transpose_solve(vecmat, right):
        transposed = None if preconditioner is None else preconditioner.transpose()
        adjoint, backward = linear.solve(
            lambda v: vecmat((v, right[1]))[0], right[0], None, transposed, rtol=rtol
        )
        report = AdjointOutcome.cotangent(backward, right[1].dtype)
        return hand_out(adjoint, backward, policy, "adjoint", place), report

    right = _entangle((tree.negate(rhs), probe_dot))
    value_dot, probe_dot = _entangle(
        jax.lax.custom_linear_solve(matvec, right, solve, transpose_solve)
    )
    if scaling is not None:
        value_dot = scaling.unknown(value_dot)
    no_change = tree.zeros_like(increment)
    tangents = value_dot, no_change, _zero_tangent(outcome), probe_dot
    return (value, increment, outcome, probe), tangents


def _entangle(tangents: PyTree) -> PyTree:
    """The same values, each of them a function of all, as far as differentiation can see.

    `custom_linear_solve` can be transposed only where every part of its right-hand side depends on
    what is differentiated, and differentiated again only where every part of the cotangent does.
    That is not so for the probe, nor for a field that some input leaves alone. A selection, as `0 *
    sum` would spread NaN; compiled, nothing of it is left.
    """
    total = sum(jnp.sum(leaf) for leaf in jax.tree.leaves(tangents))
    nothing = jnp.where(False, total, 0)
    return jax.tree.map(lambda leaf: leaf + nothing.astype(leaf.dtype), tangents)


def _zero_tangent(outcome: Outcome) -> Outcome:
    def zero(leaf):
        if jnp.issubdtype(leaf.dtype, jnp.inexact):
            return jnp.zeros_like(leaf)
        return np.zeros(leaf.shape, jax.dtypes.float0)

    return jax.tree.map(zero, outcome)


@final
class OneStepAdjoint(AbstractAdjoint):
    r"""$\dot u = -P^{-1}\,\frac{\partial R}{\partial\theta}\,\dot\theta$: no adjoint solve.

    The derivative of one preconditioned step $u - P^{-1} R(u, \theta)$ from the root, as if the
    root itself did not depend on $\theta$. Its relative error is about $\lVert I - P^{-1}
    \partial R/\partial u\rVert$: exact where the preconditioner is the inverse, useless where a
    plain step does not contract. Cheaper than `ImplicitAdjoint`, and never a certified gradient.

    Reference: Bolte, Pauwels & Vaiter (2023), arXiv 2305.13768.
    """

    def root(
        self,
        residual: Residual,
        solver: AbstractRootSolver,
        guess: Vector,
        inputs: PyTree,
        preconditioner: AbstractInverse | None,
        context: SolveContext,
    ) -> Root:
        """See `AbstractAdjoint.root`."""
        fixed = jax.lax.stop_gradient
        known = jax.tree.map(lambda a: fixed(a) if eqx.is_array(a) else a, inputs)
        increment, outcome = find_increment(
            lambda u: residual(u, known), guess, solver, preconditioner, context
        )
        value = fixed(tree.add(guess, increment))
        left = residual(value, inputs)
        step = jax.tree.map(lambda r: r - fixed(r), left)
        if preconditioner is not None:
            step = fixed(preconditioner).apply(step)
        return as_root(guess, tree.subtract(value, step), increment, fixed(outcome))


@final
class UnrolledAdjoint(AbstractAdjoint):
    """Reverse mode through the iterations of the solver, every one of which is kept.

    The naive way, here to compare with: memory grows with the `max_steps` of the solver (and, for
    Newton's method, times that of its linear solver), whether they are used or not. The derivative
    is that of the iterate, no better than the iterate is converged, and says nothing of its error.
    """

    def root(
        self,
        residual: Residual,
        solver: AbstractRootSolver,
        guess: Vector,
        inputs: PyTree,
        preconditioner: AbstractInverse | None,
        context: SolveContext,
    ) -> Root:
        """See `AbstractAdjoint.root`."""
        increment, outcome = find_increment(
            lambda u: residual(u, inputs),
            guess,
            solver,
            jax.lax.stop_gradient(preconditioner),
            context,
            unrolled_loop,
        )
        return as_root(guess, tree.add(guess, increment), increment, jax.lax.stop_gradient(outcome))
