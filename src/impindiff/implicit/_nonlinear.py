"""What iterations for nonlinear residuals share: their scale, and how they conclude."""

from collections.abc import Callable

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Int

from impindiff._types import Scalar, Vector
from impindiff.implicit import _tree as tree
from impindiff.implicit._outcome import Outcome, Result

# A residual that no step lowers is taken for round-off up to this many units of it.
_ROUND_OFF_UNITS = 1e3


def residual_scale(residual: Callable[[Vector], Vector], guess: Vector) -> Scalar:
    r"""What a relative tolerance is relative to: $\lVert R(0) \rVert$.

    For an affine residual it is the norm of the right-hand side. It does not shrink as guesses get
    better, as the residual at the guess would. Where it is zero, that residual stands in for it;
    where it is not finite, as that of a logarithm, the residual at zero of the linearisation at the
    guess, $\lVert R(u) - R'(u)\,u \rVert$.
    """
    at_zero = tree.norm(residual(tree.zeros_like(guess)))
    here, product = jax.jvp(residual, (guess,), (guess,))
    extrapolated = tree.norm(tree.subtract(here, product))
    scale = jnp.where(jnp.isfinite(at_zero), at_zero, extrapolated)
    return jax.lax.stop_gradient(jnp.where(scale == 0, tree.norm(here), scale))


def conclude(
    guess: Vector,
    norm: Scalar,
    goal: Scalar,
    scale: Scalar,
    stalled: Bool[Array, ""],
    steps: Int[Array, ""],
    iterations: Int[Array, ""],
) -> Outcome:
    """The outcome of an iteration that ended at a residual norm.

    Args:
        guess: where the iteration started.
        norm: of the true residual.
        goal: at or below which it counts as converged.
        scale: of `residual_scale`.
        stalled: whether the iteration ended because no step lowered the residual.
        steps: nonlinear steps done.
        iterations: linear iterations done, summed over steps.
    """
    floor = _ROUND_OFF_UNITS * jnp.finfo(norm.dtype).eps * scale
    result = jnp.where(stalled & (norm <= floor), Result.ROUND_OFF, Result.MAX_STEPS)
    result = jnp.where(stalled & (norm > floor), Result.STALLED, result)
    result = jnp.where(norm <= goal, Result.CONVERGED, result)
    finite_start = jnp.isfinite(tree.norm(guess))
    not_finite = jnp.where(finite_start, Result.NOT_FINITE, Result.GUESS_NOT_FINITE)
    result = jnp.where(jnp.isfinite(norm), result, not_finite)
    relative = norm / jnp.where(scale == 0, 1, scale)
    return Outcome(result, iterations, relative, steps)
