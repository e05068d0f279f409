"""PyTrees of arrays as vectors."""

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool

from impindiff._types import Scalar, Vector
from impindiff.linear._loop import once_where

_SMALL = 64


def dot(left: Vector, right: Vector) -> Scalar:
    """Euclidean inner product over all leaves."""
    return jax.tree.reduce(jnp.add, jax.tree.map(jnp.vdot, left, right))


def norm(vector: Vector) -> Scalar:
    """Euclidean norm over all leaves; at zero its derivative is taken to be zero.

    Formed in units of the vector's own size: in single precision the square of 1e-20 is zero, and
    that of 1e20 infinite.
    """
    length = unit(vector)
    in_units = scale(1 / length, vector)
    return length * root_of(dot(in_units, in_units))


def steering_norm(vector: Vector) -> Scalar:
    """The norm as what steers an iteration is given it: the same number, without a derivative.

    One sum of squares; in the vector's own units only where that leaves the range of the precision.
    """
    vector = jax.lax.stop_gradient(vector)
    if is_small(vector):
        size = largest(vector)
        length = jnp.where((size > 0) & jnp.isfinite(size), size, 1)
        return length * root_of(dot(*(jax.tree.map(lambda u: u / length, vector),) * 2))
    square = dot(vector, vector)
    limits = jnp.finfo(square.dtype)
    # Squares that are lost beside a sum as large as this are round-off of it.
    least, most = float(limits.tiny) / float(limits.eps) ** 2, float(limits.max) * float(limits.eps)
    is_safe = (square >= least) & (square <= most)
    return once_where(~is_safe, lambda _, v: norm(v), root_of(square), vector)


def is_small(vector: Vector) -> bool:
    """Whether it takes less time to compute with all entries than to find out whether to."""
    return sum(leaf.size for leaf in jax.tree.leaves(vector)) <= _SMALL


def unit(vector: Vector) -> Scalar:
    """What to measure a vector in: the power of two below its largest magnitude.

    Of two, so that nothing is rounded; within the range that has reciprocals. Has no derivative,
    for it cancels in whatever is measured by it.
    """
    size = jax.lax.stop_gradient(largest(vector))
    most = -int(jnp.finfo(size.dtype).minexp)
    _, exponent = jnp.frexp(size)
    return jnp.ldexp(jnp.ones_like(size), jnp.clip(exponent - 1, -most, most))


def largest(vector: Vector) -> Scalar:
    """The largest magnitude of all entries."""
    magnitudes = jax.tree.map(lambda leaf: jnp.max(jnp.abs(leaf), initial=0), vector)
    return jax.tree.reduce(jnp.maximum, magnitudes)


def is_finite(vector: Vector) -> Bool[Array, ""]:
    """Whether all entries are."""
    return jax.tree.reduce(jnp.logical_and, jax.tree.map(lambda u: jnp.isfinite(u).all(), vector))


def root_of(square: Scalar) -> Scalar:
    """The square root of a number that is not negative, with the derivative zero at zero."""
    return jnp.where(square == 0, 0, jnp.sqrt(jnp.where(square == 0, 1, square)))


def add(left: Vector, right: Vector) -> Vector:
    """Leafwise sum."""
    return jax.tree.map(jnp.add, left, right)


def subtract(left: Vector, right: Vector) -> Vector:
    """Leafwise difference."""
    return jax.tree.map(jnp.subtract, left, right)


def negate(vector: Vector) -> Vector:
    """Leafwise negative."""
    return jax.tree.map(jnp.negative, vector)


def scale(factor: Scalar, vector: Vector) -> Vector:
    """The multiple of a vector."""
    return jax.tree.map(lambda leaf: factor * leaf, vector)


def zeros_like(vector: Vector) -> Vector:
    """The zero vector of the same structure."""
    return jax.tree.map(jnp.zeros_like, vector)


def scalar_dtype(vector: Vector) -> jnp.dtype:
    """The precision in which inner products of this vector are formed."""
    return jnp.result_type(*jax.tree.leaves(vector))


def alternating(vector: Vector) -> Vector:
    """The magnitudes with signs in turn along every axis: what a stencil does most to."""

    def signed(leaf):
        odd = np.indices(leaf.shape).sum(axis=0) % 2 == 1 if leaf.ndim else np.array(False)
        return jnp.where(odd, -jnp.abs(leaf), jnp.abs(leaf))

    return jax.tree.map(signed, vector)


def pick(vector: Vector, group: tuple[str, ...]) -> Vector:
    """The part of a dictionary with these names."""
    return {name: vector[name] for name in group}
