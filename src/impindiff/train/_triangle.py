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


def column_norms(
    triangle: Float[Array, "columns columns"], largest: Float[Array, " n"]
) -> Float[Array, " n"]:
    """The norms of the columns of $J$, or those given, whichever are larger.

    A norm that no square can hold, be it too small or too large, is found all the same.
    """
    magnitudes = jnp.abs(triangle[:, :-1])
    most = jnp.max(magnitudes, axis=0)
    safe = jnp.where(most > 0, most, 1)
    norms = most * jnp.linalg.norm(magnitudes / safe, axis=0)
    return jnp.maximum(norms, largest)


def damped_step(
    triangle: Float[Array, "columns columns"],
    scale: Float[Array, " n"],
    damping: Float[Array, ""],
) -> tuple[Float[Array, " n"], Float[Array, ""]]:
    r"""The $\delta$ that minimises $\lVert J\delta + r\rVert^2 + \lambda\lVert D\delta\rVert^2$.

    Solved for $D\delta$, which has the residuals' unit: no power of a unit of the unknowns, however
    large or small, enters.

    Args:
        triangle: of $[J\;r]$.
        scale: the diagonal of $D$, zero for an unknown that nothing depends on: it stays.
        damping: $\lambda$.

    Returns: the step, and by how much $\lVert J\delta + r\rVert^2$ is less than $\lVert r\rVert^2$.
    """
    by = jnp.where(scale > 0, scale, 1)
    jacobian, residual = triangle[:, :-1] / by, triangle[:, -1]
    weight = jnp.sqrt(damping) * jnp.ones_like(by)
    q, r = jnp.linalg.qr(jnp.concatenate([jacobian, jnp.diag(weight)]))
    scaled = jax.scipy.linalg.solve_triangular(r, -(q[: residual.size].T @ residual))
    # Of what the optimality of the step makes two squares: the difference of two norms would lose
    # a small gain in round-off.
    change = jacobian @ scaled
    promised = jnp.vdot(change, change) + 2 * damping * jnp.vdot(scaled, scaled)
    return jnp.where(scale > 0, scaled / by, 0), promised
