r"""Places at which a function has no slope that can be computed with: beside them there is one.

A storage $c + k c^n$ with $n < 1$ is infinitely steep at $c = 0$, and so is $\sqrt c$. Newton's
method takes the slope a little further on instead. Such functions bend downwards, so that the next
iterate falls short of the root, on the side where there are slopes, and the method goes on as ever.
"""

from collections.abc import Callable

import jax
import jax.numpy as jnp

from impindiff._types import Vector
from impindiff.implicit import _tree as tree
from impindiff.implicit._loop import once_where


def beside_singular(
    residual: Callable[[Vector], Vector], point: Vector, value: Vector | None = None
) -> Vector:
    r"""The point, moved up by a trifle where the residual's slope is not finite.

    Args:
        residual: $R$.
        point: $u$.
        value: $R(u)$; what its largest entry would move is what a trifle is measured by. Without
            it the point itself is.

    Where all slopes are finite, this is the point itself. One product with the Jacobian.
    """
    ones = jax.tree.map(jnp.ones_like, point)
    _, slopes = jax.lax.stop_gradient(jax.jvp(residual, (point,), (ones,)))

    def shift(_: Vector, point: Vector, slopes: Vector) -> Vector:
        finite = jax.tree.map(jnp.isfinite, slopes)
        trifle = tree.unit(point)
        if value is not None:
            steepest = tree.largest(jax.tree.map(lambda s, ok: jnp.where(ok, s, 0), slopes, finite))
            trifle = tree.unit(jax.lax.stop_gradient(value)) / jnp.where(steepest > 0, steepest, 1)
        trifle = jnp.sqrt(jnp.finfo(trifle.dtype).eps) * trifle
        return jax.tree.map(lambda u, ok: jnp.where(ok, 0, trifle).astype(u.dtype), point, finite)

    fixed = jax.lax.stop_gradient((point, slopes))
    shifted = once_where(~tree.is_finite(slopes), shift, tree.zeros_like(point), *fixed)
    return tree.add(point, shifted)
