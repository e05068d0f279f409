r"""The implicit layer: a solution defined by its equation, and the gradient that follows from it.

The layer returns $u$ with $R(u, \theta) = 0$. Its derivative does not depend on how $u$ was found;
by the implicit function theorem

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
"""

from collections.abc import Callable
from functools import partial
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, PyTree

from impindiff._types import Vector
from impindiff.implicit import _tree as tree
from impindiff.implicit._outcome import AdjointOutcome, Outcome
from impindiff.implicit._preconditioner import AbstractPreconditioner
from impindiff.implicit._solver import AbstractRootSolver

Residual = Callable[[Vector, Any], Vector]


def root(
    residual: Residual,
    guess: Vector,
    inputs: PyTree,
    solver: AbstractRootSolver,
    *,
    preconditioner: AbstractPreconditioner | None = None,
    probe: Float[Array, " 4"] | None = None,
) -> tuple[Vector, Outcome]:
    r"""Solve $R(u, \theta) = 0$ for $u$, differentiably in $\theta$ to any order and in both modes.

    Args:
        residual: $R$, a function of the unknown and the inputs alone. It must not capture traced
            arrays: whatever varies or is differentiated travels in `inputs`.
        guess: where to start; has the structure of $u$. No gradient flows through it.
        inputs: $\theta$, any PyTree.
        solver: finds the root, and names the linear solver of the adjoint.
        preconditioner: for the forward systems; its transpose serves the adjoint. Not
            differentiated.
        probe: `AdjointOutcome.probe()`, where the outcome of adjoint solves is wanted.

    Returns:
        The root, of the guess's structure, and the outcome of the solve. Where an adjoint solve
        misses its tolerance the gradient is NaN: a wrong gradient is never handed out.

    Raises: ValueError if the residual's structure, shapes or precision differ from the unknown's.
    """
    _check_residual(residual, guess, inputs)
    arrays, static = eqx.partition(inputs, eqx.is_array)
    probe = AdjointOutcome.probe() if probe is None else probe
    closed = partial(_call, residual, static)
    guess = jax.lax.stop_gradient(guess)
    value, outcome, _ = _root(closed, solver, guess, arrays, preconditioner, probe)
    return value, outcome


def _call(residual: Residual, static: PyTree, unknown: Vector, arrays: PyTree) -> Vector:
    return residual(unknown, eqx.combine(arrays, static))


@partial(jax.custom_jvp, nondiff_argnums=(0, 1))
def _root(residual, solver, guess, inputs, preconditioner, probe):
    value, outcome = solver.solve(lambda u: residual(u, inputs), guess, preconditioner)
    return value, outcome, probe


@_root.defjvp
def _root_jvp(residual, solver, primals, tangents):
    guess, inputs, preconditioner, probe = primals
    _, inputs_dot, _, probe_dot = tangents
    value, outcome, _ = _root(residual, solver, guess, inputs, preconditioner, probe)

    _, operator = jax.linearize(lambda u: residual(u, inputs), value)
    # Under `checkpoint`, only the root and the inputs are kept for the backward pass; without it
    # every product with a shifted copy of the root would be kept, ten times the memory.
    of_inputs = jax.checkpoint(lambda i: residual(value, i))
    _, rhs = jax.jvp(of_inputs, (inputs,), (inputs_dot,))

    def matvec(unknowns):
        return operator(unknowns[0]), unknowns[1]

    def solve(matvec, right):
        solution, forward = solver.adjoint.solve(
            lambda v: matvec((v, right[1]))[0], right[0], preconditioner=preconditioner
        )
        return _nan_unless(forward.converged, solution), right[1]

    def transpose_solve(vecmat, right):
        transposed = None if preconditioner is None else preconditioner.transpose()
        adjoint, backward = solver.adjoint.solve(
            lambda v: vecmat((v, right[1]))[0], right[0], preconditioner=transposed
        )
        report = AdjointOutcome.cotangent(backward, right[1].dtype)
        return _nan_unless(backward.converged, adjoint), report

    right = _entangle((tree.negate(rhs), probe_dot))
    value_dot, probe_dot = _entangle(
        jax.lax.custom_linear_solve(matvec, right, solve, transpose_solve)
    )
    return (value, outcome, probe), (value_dot, _zero_tangent(outcome), probe_dot)


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


def _nan_unless(converged, vector: Vector) -> Vector:
    return jax.tree.map(lambda leaf: jnp.where(converged, leaf, jnp.nan), vector)


def _zero_tangent(outcome: Outcome) -> Outcome:
    def zero(leaf):
        if jnp.issubdtype(leaf.dtype, jnp.inexact):
            return jnp.zeros_like(leaf)
        return np.zeros(leaf.shape, jax.dtypes.float0)

    return jax.tree.map(zero, outcome)


def _check_residual(residual: Residual, guess: Vector, inputs: PyTree) -> None:
    """Refuse a residual that is not of its unknown's shape, before anything is compiled."""
    out = eqx.filter_eval_shape(residual, guess, inputs)
    found, wanted = (jax.tree.map(lambda a: f"{a.dtype}{list(a.shape)}", t) for t in (out, guess))
    if found != wanted:
        raise ValueError(
            f"the residual returns {found} for an unknown {wanted}: a root needs as many "
            f"equations as unknowns, "
            "in the same structure and precision. Check the guess's dtype and the residual's "
            "broadcasting."
        )
