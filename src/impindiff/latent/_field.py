"""Latent fields: coefficients of the equations that are learned.

A latent field stands where an array of coefficients would stand. Before anything is solved it is
evaluated on the grid, and from there on nobody can tell the difference.
"""

import abc
from typing import TypeVar

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, PyTree

from impindiff._types import Scalar
from impindiff.grid import AbstractCoefficient, Grid, is_coefficient

T = TypeVar("T")


class AbstractLatent(AbstractCoefficient):
    """A learned coefficient.

    Attributes:
        names: one name for each component, as in data files (`("advection_x", "advection_y")`).
    """

    names: eqx.AbstractVar[tuple[str, ...]]

    @abc.abstractmethod
    def evaluate(self, grid: Grid, time: Scalar | None = None) -> Float[Array, "..."]:
        """Values at the cell centres: of the grid's shape, or with components along a leading axis.

        A latent of one name has no component axis.
        """


def is_latent(node: object) -> bool:
    """Whether a node of a PyTree is a learned coefficient."""
    return isinstance(node, AbstractLatent)


def evaluate_latents(tree: T, grid: Grid, time: Scalar | None = None) -> T:
    """The PyTree with coefficients replaced by their values: the steady ones, or all at a time."""

    def evaluate(node):
        if is_coefficient(node) and (node.is_steady or time is not None):
            return node.evaluate(grid, time)
        return node

    return jax.tree.map(evaluate, tree, is_leaf=is_coefficient)


def is_evaluated(tree: PyTree) -> bool:
    """Whether nothing in a PyTree waits for a time."""
    return not any(map(is_coefficient, jax.tree.leaves(tree, is_leaf=is_coefficient)))


def latents_of(tree: PyTree) -> list[AbstractLatent]:
    """Every latent in a PyTree, in order."""
    return [node for node in jax.tree.leaves(tree, is_leaf=is_latent) if is_latent(node)]


def latent_values(tree: PyTree, grid: Grid, time: Scalar | None = None) -> dict[str, Array]:
    """The values of every latent component on the grid, by name."""
    values: dict[str, Array] = {}
    for latent in latents_of(tree):
        value = latent.evaluate(grid, time)
        parts = [value] if len(latent.names) == 1 else list(value)
        values |= {
            name: jnp.broadcast_to(part, grid.shape)
            for name, part in zip(latent.names, parts, strict=True)
        }
    return values


def learned(tree: T) -> T:
    """A PyTree of booleans: true for the arrays that training may change.

    These are the real arrays inside latents. An array given as a known coefficient is not learned.
    """

    def mark(node):
        if is_latent(node):
            return jax.tree.map(eqx.is_inexact_array, node)
        return False

    return jax.tree.map(mark, tree, is_leaf=is_latent)
