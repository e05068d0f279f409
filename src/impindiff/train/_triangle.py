r"""A least-squares problem as a small triangle.

All that $\lVert J\delta + r \rVert$ depends on is the triangular factor of $[J\;r]$, which has a
row for each unknown and one more, however many residuals there are. Residuals are folded in some
after others: the whole of $J$ is never held. Unlike $J^\top J$ the factor does not square the
condition number, which single precision could not bear.
"""

from collections.abc import Callable

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

# Derivatives that are carried along at a time: each takes the memory of a state.
_COLUMNS_AT_ONCE = 64


def linearised(
    residuals: Callable[[Float[Array, " n"]], Float[Array, " entries"]], at: Float[Array, " n"]
) -> Float[Array, "entries columns"]:
    r"""$[J\;r]$ at a point, by forward mode.

    Args:
        residuals: a vector, as a function of the unknowns.
        at: the unknowns.
    """
    # Chunks of one width, the last filled up with directions of zero: one program serves them all.
    count = -(-at.size // _COLUMNS_AT_ONCE)
    width = -(-at.size // count)
    directions = jnp.eye(count * width, at.size, dtype=at.dtype).reshape(count, width, at.size)

    def derivatives(directions: Float[Array, "width n"]) -> tuple[Array, Array]:
        # The residuals come with their derivatives, and are the same for each of them.
        values, columns = jax.vmap(lambda d: jax.jvp(residuals, (at,), (d,)))(directions)
        return values[0], columns

    values, columns = jax.lax.map(derivatives, directions)
    columns = columns.reshape(count * width, -1)[: at.size]
    return jnp.concatenate([columns, values[:1]]).T


def fold(
    triangle: Float[Array, "columns columns"], rows: Float[Array, "entries columns"]
) -> Float[Array, "columns columns"]:
    """The triangle of the residuals that it stands for, and of some more."""
    return jnp.linalg.qr(jnp.concatenate([triangle, rows]), mode="r")


def damped_step(
    triangle: Float[Array, "columns columns"], damping: Float[Array, ""]
) -> tuple[Float[Array, " n"], Float[Array, ""]]:
    r"""The $\delta$ that minimises $\lVert J\delta + r\rVert^2 + \lambda\lVert D\delta\rVert^2$.

    $D$ holds the norms of the columns of $J$, so that units of the unknowns do not matter.

    Returns: the step, and by how much $\lVert J\delta + r\rVert^2$ is less than $\lVert r\rVert^2$.
    """
    jacobian, residual = triangle[:, :-1], triangle[:, -1]
    norms = jnp.linalg.norm(jacobian, axis=0)
    # An unknown that nothing depends on stays where it is.
    scale = jnp.where(norms > 0, norms, 1)
    stacked = jnp.concatenate([jacobian, jnp.diag(jnp.sqrt(damping) * scale)])
    q, r = jnp.linalg.qr(stacked)
    step = jax.scipy.linalg.solve_triangular(r, -(q[: residual.size].T @ residual))
    left = jacobian @ step + residual
    return step, jnp.vdot(residual, residual) - jnp.vdot(left, left)
