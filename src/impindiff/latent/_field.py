"""Latents: what is learned of the coefficients of equations.

A latent stands where a number or an array of coefficients would stand. Before anything is solved it
is evaluated, and from there on nobody can tell the difference.
"""

from typing import TypeVar

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, PyTree

from impindiff._types import Scalar
from impindiff.coefficients import AbstractClosure, AbstractCoefficient, Instant, value_at
from impindiff.grid import Grid
from impindiff.latent._interval import Interval

T = TypeVar("T")


class AbstractLatent(AbstractCoefficient):
    """A learned coefficient.

    Attributes:
        names: one name for each component, as in data files (`("advection_x", "advection_y")`).
            A latent of one name has no component axis.
    """

    names: eqx.AbstractVar[tuple[str, ...]]

    @property
    def lower_bound(self) -> float:
        """What its values are never below; minus infinity where nothing keeps them above."""
        inside = jax.tree.leaves(self, is_leaf=lambda node: isinstance(node, Interval))
        lower = [node.lower for node in inside if isinstance(node, Interval)]
        return min(lower, default=-float("inf"))


def is_latent(node: object) -> bool:
    """Whether a node of a PyTree is a learned coefficient."""
    return isinstance(node, AbstractLatent)


def latents_of(tree: PyTree) -> list[AbstractLatent]:
    """Every latent in a PyTree, in order, those inside other coefficients included."""
    return [node for node in jax.tree.leaves(tree, is_leaf=is_latent) if is_latent(node)]


def latent_values(
    tree: PyTree, grid: Grid | None, time: Scalar | Instant | None = None
) -> dict[str, Array]:
    """The values of every latent component on the grid, by name.

    A closure has no values without a state, and is left out: see `tabulate`. So is what varies in
    time, where no time is given.
    """
    values: dict[str, Array] = {}
    for latent in latents_of(tree):
        if isinstance(latent, AbstractClosure) or (time is None and not latent.is_steady):
            continue
        value = value_at(latent, grid, time)
        parts = [value] if len(latent.names) == 1 else list(value)
        shape = () if grid is None else grid.shape
        values |= {
            name: jnp.broadcast_to(part, jnp.broadcast_shapes(shape, jnp.shape(part)))
            for name, part in zip(latent.names, parts, strict=True)
        }
    return values


def learned(tree: T) -> T:
    """A PyTree of booleans: true for the arrays that training may change.

    These are the real arrays inside latents, wherever those stand. An array given as a known
    coefficient is not learned, nor are those inside a network that is given as a known function.
    """

    def mark(node):
        if is_latent(node):
            return jax.tree.map(eqx.is_inexact_array, node)
        return False

    return jax.tree.map(mark, tree, is_leaf=is_latent)
