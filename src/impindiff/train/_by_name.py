"""Learned coefficients by name: which arrays are whose.

A latent is named by any of its components: the arrays of a network that gives two of them are no
more the first one's than the second's.
"""

from collections.abc import Hashable, Iterable, Mapping, Sequence
from typing import TypeVar

import jax
import optax
from jaxtyping import PyTree

from impindiff._errors import InputError
from impindiff.latent import AbstractLatent, is_latent, latents_of

T = TypeVar("T")

REST = "*"
"""Stands for all latents that are not named."""


def by_name(learned: PyTree, values: Mapping[str, T], what: str) -> PyTree:
    """For each learned array the value that is given for its latent.

    Args:
        learned: arrays of a system, `None` in place of all others.
        values: by name of a latent; `"*"` for all that are not named. No PyTrees.
        what: they are, for messages.

    Raises: InputError for a name that no latent has, a latent without a value, or two different
        ones for components of one latent.
    """
    latents = [latent for latent in latents_of(learned) if jax.tree.leaves(latent)]
    _check_known(latents, [name for name in values if name != REST])

    def value_of(node: object) -> T:
        names = node.names if isinstance(node, AbstractLatent) else ()
        given = [name for name in names if name in values] or [REST]
        if REST in given and REST not in values:
            raise InputError(
                f"no {what} is given for {', '.join(map(repr, names))}: name it, or give one for "
                f"all that are not named, as {REST!r}."
            )
        for name in given[1:]:
            if values[name] != values[given[0]]:
                raise InputError(
                    f"{given[0]!r} and {name!r} are components of one latent, whose arrays they "
                    f"share: give both the same {what}, or only one of them."
                )
        return values[given[0]]

    def spread(node: object) -> PyTree:
        if not jax.tree.leaves(node):
            return node
        value = value_of(node)
        return jax.tree.map(lambda _: value, node)

    return jax.tree.map(spread, learned, is_leaf=is_latent)


def by_latent(
    transformations: Mapping[str, optax.GradientTransformation],
) -> optax.GradientTransformationExtraArgs:
    """An optax transformation for each latent, by name, with `"*"` for all that are not named.

    It is `optax.partition` with the names of latents for labels, and may stand in a chain: `Optax(
    optax.chain(optax.clip_by_global_norm(1.0), by_latent({"k": optax.adam(1e-2), "*":
    optax.adam(4e-3)})))`.

    Raises: InputError when it meets a system none of whose latents has one of the names, or one
        with a latent that is not provided for.
    """
    labels = {name: name for name in transformations}

    def label(learned: PyTree) -> PyTree:
        return by_name(learned, labels, "transformation")

    groups: dict[Hashable, optax.GradientTransformation] = {**transformations}
    return optax.partition(groups, label)


def moving(learned: PyTree, freeze: Sequence[str]) -> PyTree:
    """A PyTree of booleans: false for the arrays of latents that are frozen.

    Raises: InputError for a name that no latent has, or if nothing is left to learn.
    """
    _check_known(latents_of(learned), freeze)

    def mark(node: object) -> PyTree:
        frozen = isinstance(node, AbstractLatent) and not set(freeze).isdisjoint(node.names)
        return jax.tree.map(lambda _: not frozen, node)

    mask = jax.tree.map(mark, learned, is_leaf=is_latent)
    if not any(jax.tree.leaves(mask)):
        raise InputError(
            f"nothing to learn: all there is ({', '.join(freeze)}) is frozen. Leave out a name."
        )
    return mask


def _check_known(latents: Iterable[AbstractLatent], names: Iterable[str]) -> None:
    known = [name for latent in latents for name in latent.names]
    for name in names:
        if name not in known:
            raise InputError(
                f"no latent that is learned has the name {name!r}: there are "
                f"{', '.join(map(repr, known))}."
            )
