"""How a solve ended, as data.

Under `jit` nothing can be raised, so an outcome travels beside every solution and is judged where
the program meets its user. The adjoint solves of reverse mode run where no value can be returned;
their outcome travels back as the cotangent of a *probe*, see `impindiff.implicit.ImplicitAdjoint`.
"""

from enum import IntEnum
from typing import Self, final

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int


class Result(IntEnum):
    """Why an iteration stopped, from good to bad."""

    CONVERGED = 0
    """The true residual meets the tolerance."""
    ROUND_OFF = 1
    """The residual is at the level of round-off, above the tolerance: no more can be had."""
    MAX_STEPS = 2
    """The iterations allowed were used up."""
    STALLED = 3
    """More iterations do not lower the true residual."""
    NOT_SYMMETRIC = 4
    """The operator, or its preconditioner, is not symmetric positive definite, as CG needs."""
    SINGULAR = 5
    """A finite equation without a finite solution: the operator is singular, or nearly so."""
    NOT_FINITE = 6
    """NaN or infinity in the equation."""
    GUESS_NOT_FINITE = 7
    """NaN or infinity in the guess."""

    @property
    def label(self) -> str:
        """Its name in plain letters."""
        return self.name.lower().replace("_", " ")

    @property
    def explanation(self) -> str:
        """What it means and what to do about it, in one sentence."""
        return _EXPLANATIONS[self]


_EXPLANATIONS = {
    Result.CONVERGED: "the solution meets the tolerance.",
    Result.ROUND_OFF: "the solution is as good as its precision allows.",
    Result.MAX_STEPS: "the iterations allowed were used up: raise max_steps, give a preconditioner "
    "or a better guess, or shorten the step; an operator that is singular ends like this, too.",
    Result.STALLED: "no step lowers the residual any more: compute in float64, shorten the step, "
    "look for an equation without a solution (a singular Jacobian), or, where a function has kinks "
    "as the slopes of limited advection do, loosen rtol or step explicitly (RungeKutta4).",
    Result.NOT_SYMMETRIC: "the operator or its preconditioner is not symmetric and positive "
    "definite: use BiCGStab or GMRES instead of CG.",
    Result.SINGULAR: "the operator is singular or nearly so: look for an unknown that no equation "
    "determines, or shorten the step.",
    Result.NOT_FINITE: "the equation contains NaN or infinity: look at its coefficients and at the "
    "state it starts from, or shorten the step.",
    Result.GUESS_NOT_FINITE: "the guess contains NaN or infinity: start from a finite state.",
}


@final
class Outcome(eqx.Module):
    """The outcome of one solve, or of many (leading axes).

    Attributes:
        result: a `Result`.
        iterations: iterations of the linear solver, summed over nonlinear steps.
        relative_residual: norm of the true residual over the norm of the right-hand side.
        steps: nonlinear steps; 1 where an affine equation was solved at once.
    """

    result: Int[Array, "..."]
    iterations: Int[Array, "..."]
    relative_residual: Float[Array, "..."]
    steps: Int[Array, "..."] = eqx.field(default_factory=lambda: jnp.array(1))

    @property
    def converged(self) -> Bool[Array, "..."]:
        """Whether the solution is as good as was asked for, or as the precision allows."""
        return self.result <= Result.ROUND_OFF

    @classmethod
    def exact(cls) -> Self:
        """The outcome of a step that solves nothing."""
        return cls(jnp.array(0), jnp.array(0), jnp.array(0.0, jnp.float32), jnp.array(0))


@final
class AdjointOutcome(eqx.Module):
    """What the adjoint solves of one gradient did, added up.

    Attributes:
        solves: number of adjoint solves.
        iterations: their iterations, summed.
        failures: how many missed their tolerance (their part of the gradient is NaN).
        relative_residual: mean of their true relative residuals.
    """

    solves: int
    iterations: int
    failures: int
    relative_residual: float

    @staticmethod
    def probe(dtype: jnp.dtype | type = jnp.float32) -> Float[Array, " 4"]:
        """A vector of zeros; the gradient with respect to it is what `from_cotangent` reads."""
        return jnp.zeros(4, dtype)

    @staticmethod
    def cotangent(outcome: Outcome, dtype: jnp.dtype) -> Float[Array, " 4"]:
        """One solve's contribution to the probe's cotangent."""
        failed = ~outcome.converged
        residual = jnp.where(jnp.isfinite(outcome.relative_residual), outcome.relative_residual, 0)
        parts = (jnp.ones((), dtype), outcome.iterations, failed, residual)
        return jnp.stack([jnp.asarray(part, dtype) for part in parts])

    @classmethod
    def from_cotangent(cls, cotangent: Float[Array | np.ndarray, " 4"]) -> Self:
        """Read what a gradient brought back."""
        solves, iterations, failures, residual = np.asarray(jax.device_get(cotangent), np.float64)
        return cls(
            round(solves), round(iterations), round(failures), float(residual / max(solves, 1))
        )
