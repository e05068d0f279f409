"""A preconditioner that is made where it is needed, and not before."""

from collections.abc import Callable
from typing import Any, Self, final

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import PyTree

from impindiff._types import Vector
from impindiff.implicit._preconditioner import AbstractPreconditioner


@final
class Deferred(AbstractPreconditioner):
    """What a function makes of its arguments, made anew wherever it is applied.

    For `Automatic`, which makes it once, inside the loop that is entered only where plain
    iterations were not enough.

    Args:
        make: gives the preconditioner.
        arguments: of `make`.
        transposed: whether it is the transpose of what is made.
    """

    make: Callable[..., AbstractPreconditioner] = eqx.field(static=True)
    arguments: PyTree[Any]
    transposed: bool = eqx.field(static=True, default=False)

    def apply(self, vector: Vector) -> Vector:
        """Make it, and apply it."""
        # The arguments are made to depend on the vector, or a compiler would make the whole before
        # any loop in which that is not known.
        known = jax.lax.stop_gradient(jax.tree.leaves(vector)[0].ravel()[0])

        def here(leaf: Any) -> Any:
            return jnp.where(jnp.isnan(known), 0, leaf) if eqx.is_inexact_array(leaf) else leaf

        made = self.make(*jax.tree.map(here, self.arguments))
        return (made.transpose() if self.transposed else made).apply(vector)

    def transpose(self) -> Self:
        """The same of the transpose."""
        return type(self)(self.make, self.arguments, not self.transposed)
