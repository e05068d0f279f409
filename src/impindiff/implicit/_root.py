"""The implicit layer: a solution defined by its equation, not by how it was found."""

from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
from jax.flatten_util import ravel_pytree
from jaxtyping import Array, Float, PyTree

from impindiff._errors import InputError, blamed_on
from impindiff._types import Vector
from impindiff.implicit._root_solver import AbstractRootSolver, Residual, Root, SolveContext
from impindiff.linear import AbstractInverse, Outcome


def root(
    residual: Residual,
    guess: Vector,
    inputs: PyTree,
    solver: AbstractRootSolver,
    *,
    preconditioner: AbstractInverse | None = None,
    probe: Float[Array, " 4"] | None = None,
    context: SolveContext | None = None,
) -> tuple[Vector, Outcome]:
    r"""Solve $R(u, \theta) = 0$ for $u$, differentiably in $\theta$.

    With the solver's `ImplicitAdjoint`, the default, to any order and in both modes.

    Args:
        residual: $R$, a function of the unknown and the inputs alone. It must not capture traced
            arrays: whatever varies or is differentiated travels in `inputs`.
        guess: where to start; has the structure of $u$. No gradient flows through it. What the
            solver is to reach is relative to the residual there: solved for is the change.
        inputs: $\theta$, any PyTree.
        solver: finds the root, and says how gradients are made.
        preconditioner: for the forward systems; its transpose serves the adjoint. Not
            differentiated.
        probe: `AdjointOutcome.probe()`, where the outcome of adjoint solves is wanted.
        context: the probe and more, for callers that hand it on.

    Returns:
        The root, of the guess's structure, and the outcome of the solve. A gradient whose adjoint
        solve misses its tolerance is never handed out silently, see `ImplicitAdjoint`.

    Raises: InputError if the unknown is not of real numbers of one precision, the residual's
        structure, shapes or precision differ from the unknown's, or the preconditioner is of
        another size.
    """
    found = root_and_increment(
        residual,
        guess,
        inputs,
        solver,
        preconditioner=preconditioner,
        context=SolveContext(probe) if context is None else context,
    )
    return found.value, found.outcome


def root_and_increment(
    residual: Residual,
    guess: Vector,
    inputs: PyTree,
    solver: AbstractRootSolver,
    *,
    preconditioner: AbstractInverse | None = None,
    context: SolveContext | None = None,
) -> Root:
    """As `root`, and with what the root is above its guess, to more digits: see `Root`.

    Raises: InputError as `root`.
    """
    guess = _as_unknown(guess)
    _check_like(residual, (guess, inputs), guess, _RESIDUAL)
    if preconditioner is not None:
        _check_like(preconditioner.apply, (guess,), guess, _PRECONDITIONER)
    context = SolveContext() if context is None else context
    if preconditioner is None and _is_packed(guess, solver):
        return _as_one_array(residual, guess, inputs, solver, context)
    return solver.adjoint.root(residual, solver, guess, inputs, preconditioner, context)


# So few unknowns are solved for as one array: each part of them would cost a kernel or two in each
# operation, however small it is.
_FEW = 32


def _is_packed(guess: Vector, solver: AbstractRootSolver) -> bool:
    leaves = jax.tree.leaves(guess)
    is_few = len(leaves) > 1 and sum(leaf.size for leaf in leaves) <= _FEW
    return is_few and solver.takes_any_structure


def _as_one_array(
    residual: Residual,
    guess: Vector,
    inputs: PyTree,
    solver: AbstractRootSolver,
    context: SolveContext,
) -> Root:
    """The root of the same equations, whose unknowns stand in one array."""
    flat, unpack = ravel_pytree(guess)

    def packed_residual(unknown: Vector, inputs: PyTree) -> Vector:
        return ravel_pytree(residual(unpack(unknown), inputs))[0]

    packed = context.packed(guess, unpack)
    found = solver.adjoint.root(packed_residual, solver, flat, inputs, None, packed)
    return Root(unpack(found.value), unpack(found.increment), found.outcome)


_RESIDUAL = (
    "the residual",
    "a root needs as many equations as unknowns, in the same structure and precision. Check the "
    "guess's dtype and the residual's broadcasting.",
)
_PRECONDITIONER = (
    "the preconditioner",
    "it must be made for this grid, these fields and their precision.",
)


def _as_unknown(guess: Vector) -> Vector:
    """The guess as arrays, if they make a vector."""
    unknown = jax.tree.map(jnp.asarray, guess)
    leaves = jax.tree.leaves(unknown)
    one_precision = len({leaf.dtype for leaf in leaves}) == 1
    real = all(jnp.issubdtype(leaf.dtype, jnp.floating) for leaf in leaves)
    if not (one_precision and real and sum(leaf.size for leaf in leaves)):
        raise InputError(
            f"the guess is {_kinds(unknown)}: an unknown is a PyTree of arrays of real numbers, at "
            "least one, all float32 or all float64. Convert integers; give a complex unknown as a "
            "pair of its real and imaginary parts."
        )
    return unknown


def _check_like(function, arguments, guess: Vector, message: tuple[str, str]) -> None:
    """Refuse a function whose value is not of the unknown's kind, before anything is compiled."""
    name, advice = message
    try:
        with blamed_on(name, but=(TypeError, ValueError) if name == _PRECONDITIONER[0] else ()):
            out = eqx.filter_eval_shape(function, *arguments)
    except (TypeError, ValueError) as error:
        if name == _PRECONDITIONER[0]:
            raise InputError(
                f"{name} cannot be applied to the unknown {_kinds(guess)} ({error}): {advice}"
            ) from error
        raise
    if (found := _kinds(out)) != (wanted := _kinds(guess)):
        raise InputError(f"{name} returns {found} for an unknown {wanted}: {advice}")


def _kinds(vector: PyTree) -> PyTree:
    def kind(leaf: Any) -> str:
        return f"{leaf.dtype}{list(leaf.shape)}" if hasattr(leaf, "dtype") else type(leaf).__name__

    return jax.tree.map(kind, vector)
