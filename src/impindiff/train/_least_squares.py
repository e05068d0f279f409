r"""Linear least squares in a step: by a triangle for few unknowns, by products for many.

All that $\lVert J\delta + r \rVert$ depends on is the triangular factor of $[J\;r]$, which has a
row for each unknown and one more, however many residuals there are. Residuals are folded in some
after others: the whole of $J$ is never held. Unlike $J^\top J$ the factor does not square the
condition number, which single precision could not bear.

The step minimises $\lVert J\delta + r\rVert^2 + \lambda\lVert D\delta\rVert^2$. Conjugate gradients
for least squares solve for $D\delta$ with a product by $J$ and one by $J^\top$ an iteration, and
never form $J^\top J$, which squares the condition number. They end early: a direction that the
residuals hardly depend on comes last, and is left out as by more damping (Steihaug's truncation).
"""

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

from impindiff._types import Scalar
from impindiff.train._batches import Part

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


# Of random signs, to estimate norms of columns: within some 40 %, which a scale can well be off.
_PROBES = 8


class LinearMaps(NamedTuple):
    """Residuals, and products with their derivative and its transpose."""

    residuals: Float[Array, " entries"]
    push: Callable[[Float[Array, " n"]], Float[Array, " entries"]]
    pull: Callable[[Float[Array, " entries"]], Float[Array, " n"]]

    def column_norms(self, largest: Float[Array, " n"]) -> Float[Array, " n"]:
        r"""An estimate of the norms of the columns of $J$, or those given, where these are larger.

        The mean of $(J^\top z)_j^2$ over signs $z$ drawn at random is $\sum_i J_{ij}^2$; that of a
        column of zeros is exactly zero.
        """

        def probe(key: Array) -> Array:
            signs = jax.random.rademacher(key, self.residuals.shape, self.residuals.dtype)
            return jnp.abs(self.pull(signs))

        # Always the same signs: a training is repeatable.
        found = jax.lax.map(probe, jax.random.split(jax.random.key(0), _PROBES))
        most = jnp.max(found, axis=0)
        safe = jnp.where(most > 0, most, 1)
        norms = most * jnp.sqrt(jnp.mean((found / safe) ** 2, axis=0))
        return jnp.maximum(norms.astype(largest.dtype), largest)


def maps_of(
    of_part: Callable[[Array, Part, bool], Array],
    of_rest: Callable[[Array], Array],
    at: Float[Array, " n"],
    parts: Part,
    keeps_all: bool,
) -> LinearMaps:
    """The linear maps of residuals that are computed for some samples after others.

    Where all states of all samples may be kept, they are linearised once, for all products; else
    each product takes some samples after others, and the steps again.

    Args:
        of_part: residuals of some samples; the flag says whether all states are kept, which forward
            mode needs and reverse mode may not afford.
        of_rest: residuals that no sample is of.
        at: the unknowns.
        parts: samples along a leading axis.
        keeps_all: whether there is memory for all states.
    """
    if len(jax.tree.leaves(parts)[0]) == 1 and keeps_all:
        only = jax.tree.map(lambda u: u[0], parts)
        residuals, push = jax.linearize(
            lambda flat: jnp.concatenate([of_part(flat, only, True), of_rest(flat)]), at
        )
        pull = jax.linear_transpose(push, at)
        return LinearMaps(residuals, push, lambda vector: pull(vector)[0])

    found = jax.lax.map(lambda part: of_part(at, part, True), parts)
    rest, push_rest = jax.linearize(of_rest, at)
    pull_rest = jax.linear_transpose(push_rest, at)

    def push_parts(vector):
        def one(part: Part):
            return jax.jvp(lambda flat: of_part(flat, part, True), (at,), (vector,))[1]

        return jnp.concatenate([jax.lax.map(one, parts).ravel(), push_rest(vector)])

    def pull_parts(vector):
        def one(total, given):
            part, cotangent = given
            _, back = jax.vjp(lambda flat: of_part(flat, part, keeps_all), at)
            return total + back(cotangent)[0], None

        cotangents = vector[: found.size].reshape(found.shape)
        first = pull_rest(vector[found.size :])[0]
        return jax.lax.scan(one, first, (parts, cotangents))[0]

    return LinearMaps(jnp.concatenate([found.ravel(), rest]), push_parts, pull_parts)


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
