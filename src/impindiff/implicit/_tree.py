"""PyTrees of arrays as vectors."""

import jax
import jax.numpy as jnp

from impindiff._types import Scalar, Vector


def dot(left: Vector, right: Vector) -> Scalar:
    """Euclidean inner product over all leaves."""
    return jax.tree.reduce(jnp.add, jax.tree.map(jnp.vdot, left, right))


def norm(vector: Vector) -> Scalar:
    """Euclidean norm over all leaves; at zero its derivative is taken to be zero."""
    return root_of(dot(vector, vector))


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
