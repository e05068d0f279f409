r"""What L-BFGS knows of the curvature: the last steps, and how the gradient changed along them.

A pair counts only where the gradient rose along its step, $s^\top y > 0$; the inverse Hessian that
the pairs stand for is then positive, and $-H g$ leads downhill but for round-off.
"""

from typing import NamedTuple, Self

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from impindiff._types import Scalar


class Curvature(NamedTuple):
    r"""Pairs of steps and gradient differences, the newest last.

    Attributes:
        steps: $s$; zero where there is none yet.
        changes: $y$.
        weights: $1 / s^\top y$; zero where there is none yet.
        scale: $s^\top y / y^\top y$ of the newest, which stays when the pairs are dropped; zero at
            first.
    """

    steps: Float[Array, "memory n"]
    changes: Float[Array, "memory n"]
    weights: Float[Array, " memory"]
    scale: Scalar

    @classmethod
    def none(cls, like: Float[Array, " n"], memory: int) -> Self:
        """Before the first step."""
        pairs = jnp.zeros((memory, like.size), like.dtype)
        return cls(pairs, pairs, jnp.zeros(memory, like.dtype), jnp.zeros((), like.dtype))

    @property
    def is_known(self) -> Array:
        """Whether there is any pair."""
        return self.weights[-1] > 0

    def forgotten(self, where: Array) -> Self:
        """Without pairs, where told to."""
        kept = jnp.where(where, 0, 1).astype(self.weights.dtype)
        return self._replace(weights=self.weights * kept)

    def after(self, step: Float[Array, " n"], change: Float[Array, " n"]) -> Self:
        """With one pair more, if it shows curvature that is above round-off."""
        dot, square = jnp.vdot(step, change), jnp.vdot(change, change)
        least = 10 * jnp.finfo(step.dtype).eps * jnp.sqrt(jnp.vdot(step, step) * square)
        counts = jnp.isfinite(dot) & jnp.isfinite(square) & (dot > least)
        safe = jnp.where(counts, dot, 1)

        def pushed(old: Array, new: Array) -> Array:
            return jnp.where(counts, jnp.concatenate([old[1:], new[None]]), old)

        return type(self)(
            pushed(self.steps, step),
            pushed(self.changes, change),
            pushed(self.weights, 1 / safe),
            jnp.where(counts, dot / jnp.where(counts, square, 1), self.scale),
        )

    def direction(self, gradient: Float[Array, " n"]) -> Float[Array, " n"]:
        r"""$-H g$; without pairs $-g$, at first no longer than 1.

        Reference: Nocedal & Wright, Numerical Optimization, algorithm 7.4.
        """

        def down(rest, pair):
            step, change, weight = pair
            share = weight * jnp.vdot(step, rest)
            return rest - share * change, share

        pairs = (self.steps, self.changes, self.weights)
        rest, shares = jax.lax.scan(down, gradient, pairs, reverse=True)
        # The step from an unknown place: neither the loss's unit nor the unknowns' is known.
        length = jnp.linalg.norm(gradient)
        first = 1 / jnp.maximum(length, 1)
        rest = jnp.where(self.scale > 0, self.scale, first) * rest

        def up(rest, pair):
            step, change, weight, share = pair
            return rest + (share - weight * jnp.vdot(change, rest)) * step, None

        rest, _ = jax.lax.scan(up, rest, (*pairs, shares))
        return -rest
