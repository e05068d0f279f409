"""What is learned in a system, and what is made from it, as values on the grid."""

from collections.abc import Mapping
from typing import Any

import jax.numpy as jnp
from jaxtyping import Array

from impindiff.coefficients import Instant
from impindiff.latent import latent_values, latents_of
from impindiff.systems._boundaries import Ends, boundary_latents
from impindiff.systems._scope import Scope, reached_names


def values_on_grid(
    scope: Scope, parts: Any, boundaries: Mapping[str, Ends], time: Instant | None
) -> dict[str, Array]:
    """See `System.latents`.

    Args:
        scope: of the system, nothing evaluated.
        parts: all that holds coefficients at the cells.
        boundaries: the conditions.
        time: None for that only which is the same at all times.
    """
    values = latent_values(parts, scope.grid, time)
    if scope.grid is not None:
        values |= boundary_latents(boundaries, scope.grid, time)
    known = scope.at(time).values()
    learned = {name for name, part in scope.coefficients.items() if latents_of(part)}
    shape = () if scope.grid is None else scope.grid.shape
    for name, names in reached_names(scope.coefficients).items():
        if name in known and name not in values and learned & {name, *names}:
            value = jnp.asarray(known[name])
            if value.shape in ((), shape):
                values[name] = jnp.broadcast_to(value, shape)
    return values
