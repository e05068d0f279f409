"""Samples taken some at a time: what is summed over them, and what each of them gives."""

from collections.abc import Callable
from typing import Any, final

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, PyTree

from impindiff._types import State
from impindiff.train._batch import Batch


@final
class Part(eqx.Module):
    """Some samples of a batch; attributes as there."""

    initial: State
    observed: State
    deviations: State
    settings: State

    @property
    def num_samples(self) -> int:
        """How many samples there are."""
        return len(jax.tree.leaves(self.initial)[0])


def in_parts(
    evaluate: Callable[[Part], tuple[PyTree, PyTree]], batch: Batch, at_once: int | None
) -> tuple[PyTree, PyTree]:
    """Evaluate some samples after others.

    Args:
        evaluate: gives what is summed over parts, and what there is of each sample.
        batch: all samples.
        at_once: most samples in a part; all where None.
    """

    def add(total: PyTree, part: Part) -> tuple[PyTree, PyTree]:
        summed, each = evaluate(part)
        return jax.tree.map(jnp.add, total, summed), each

    if at_once is None or at_once >= batch.num_samples:
        return evaluate(Part(batch.initial, batch.observed, batch.deviations, batch.settings))
    parts = parts_of(batch, at_once)
    first = jax.tree.map(lambda u: u[0], parts)
    zero = jax.tree.map(
        lambda leaf: jnp.zeros(leaf.shape, leaf.dtype), jax.eval_shape(evaluate, first)[0]
    )
    total, each = jax.lax.scan(add, zero, parts)
    return total, jax.tree.map(lambda a: a.reshape(-1, *a.shape[2:])[: batch.num_samples], each)


def parts_of(batch: Batch, at_once: int | None) -> Part:
    """Parts along a leading axis, the last filled up with samples that are not observed."""
    at_once = min(at_once or batch.num_samples, batch.num_samples)
    count = -(-batch.num_samples // at_once)
    fill = count * at_once - batch.num_samples

    def parted(values: Array, instead: Any) -> Array:
        more = jnp.broadcast_to(jnp.asarray(instead, values.dtype), (fill, *values.shape[1:]))
        return jnp.concatenate([values, more]).reshape(count, at_once, *values.shape[1:])

    return Part(
        {field: parted(u, u[0]) for field, u in batch.initial.items()},
        {name: parted(u, jnp.nan) for name, u in batch.observed.items()},
        {name: parted(u, 1.0) for name, u in batch.deviations.items()},
        {name: parted(u, u[0]) for name, u in batch.settings.items()},
    )
