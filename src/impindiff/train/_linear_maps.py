r"""Residuals, and products with their derivative $J$ and its transpose; no matrix is held."""

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from impindiff.train._parts import Part

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
