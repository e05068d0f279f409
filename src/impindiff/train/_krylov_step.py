r"""A damped Gauss-Newton step by products alone: many unknowns, no matrix.

The step minimises $\lVert J\delta + r\rVert^2 + \lambda\lVert D\delta\rVert^2$. Conjugate gradients
for least squares solve for $D\delta$ with a product by $J$ and one by $J^\top$ an iteration, and
never form $J^\top J$, which squares the condition number. They end early: a direction that the
residuals hardly depend on comes last, and is left out as by more damping (Steihaug's truncation).
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

from impindiff._types import Scalar
from impindiff.train._linear_maps import LinearMaps

# Share of the first slope at which the iteration ends: more exact steps seldom go further down.
_ENOUGH = 0.03


class KrylovStep(NamedTuple):
    """A step; by how much it lowers the linearised squares; whether all products were finite."""

    step: Float[Array, " n"]
    promised: Scalar
    sound: Bool[Array, ""]


class _Iterate(NamedTuple):
    solution: Float[Array, " n"]
    rest: Float[Array, " entries"]
    slope: Float[Array, " n"]
    direction: Float[Array, " n"]
    square: Scalar
    lowered: Scalar
    sound: Bool[Array, ""]
    count: Array


def krylov_step(
    maps: LinearMaps, scale: Float[Array, " n"], damping: Scalar, max_products: int
) -> KrylovStep:
    r"""See this module.

    Args:
        maps: the linearised residuals.
        scale: the diagonal of $D$, zero for an unknown that nothing depends on: it stays.
        damping: $\lambda$.
        max_products: most iterations.

    Reference: Björck, Numerical Methods for Least Squares Problems (1996), algorithm 7.4.1;
        Steihaug, SIAM J. Numer. Anal. 20 (1983) 626.
    """
    dtype = maps.residuals.dtype
    by = jnp.where(scale > 0, scale, 1).astype(dtype)
    counts = (scale > 0).astype(dtype)

    def push(vector: Array) -> Array:
        return maps.push(counts * vector / by).astype(dtype)

    def pull(vector: Array) -> Array:
        return counts * maps.pull(vector).astype(dtype) / by

    slope = pull(-maps.residuals)
    start = jnp.vdot(slope, slope)

    def unfinished(now: _Iterate) -> Bool[Array, ""]:
        more = (now.square > _ENOUGH**2 * start) & (now.count < max_products)
        return now.sound & more

    def iterate(now: _Iterate) -> _Iterate:
        image = push(now.direction)
        curvature = jnp.vdot(image, image) + damping * jnp.vdot(now.direction, now.direction)
        length = now.square / jnp.where(curvature > 0, curvature, 1)
        solution = now.solution + length * now.direction
        rest = now.rest - length * image
        slope = pull(rest) - damping * solution
        square = jnp.vdot(slope, slope)
        direction = slope + square / now.square * now.direction
        sound = jnp.isfinite(square) & jnp.isfinite(length) & (curvature > 0)
        after = _Iterate(
            solution,
            rest,
            slope,
            direction,
            square,
            now.lowered + length * now.square,
            sound,
            now.count + 1,
        )
        # What went before a product that failed is still a step downhill.
        kept = jax.tree.map(lambda new, old: jnp.where(sound, new, old), after, now)
        return kept._replace(sound=sound, count=after.count)

    nothing = jnp.zeros_like(slope)
    first = _Iterate(
        nothing,
        -maps.residuals,
        slope,
        slope,
        start,
        jnp.zeros_like(start),
        jnp.isfinite(start),
        jnp.array(0),
    )
    last = jax.lax.while_loop(unfinished, iterate, first)
    # The damped sum has been lowered by a sum of positive numbers, and holds the damping's share.
    promised = last.lowered + damping * jnp.vdot(last.solution, last.solution)
    sound = jnp.isfinite(start) & (last.sound | (last.count > 1))
    return KrylovStep(counts * last.solution / by, promised, sound)
