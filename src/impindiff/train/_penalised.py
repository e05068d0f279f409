"""The penalties on the learned coefficients of a system, as one vector."""

from collections.abc import Sequence

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, PyTree

from impindiff._errors import blamed_on
from impindiff.coefficients import Instant
from impindiff.latent import latents_of
from impindiff.observe import AbstractPenalty
from impindiff.rollout import TimeGrid
from impindiff.systems import System


def penalty_residuals(
    system: System, learned: PyTree, penalties: Sequence[AbstractPenalty], time_grid: TimeGrid
) -> Float[Array, " entries"]:
    """The vector whose squares add up to all penalties.

    Of coefficients that vary in time, to the mean over the times.

    Args:
        system: with what is learned.
        learned: its learned arrays.
        penalties: at least one.
        time_grid: which saves the observed times.
    """

    def residuals(time: Instant | None = None) -> Float[Array, " entries"]:
        latents = system.latents(time)
        parts = []
        for penalty in penalties:
            with blamed_on(f"the penalty {type(penalty).__name__}"):
                parts.append(penalty.residuals(latents, learned, system.grid))
        return jnp.concatenate(parts)

    if all(latent.is_steady for latent in latents_of(system)):
        return residuals()
    dtype = jnp.result_type(*jax.tree.leaves(learned))
    elapsed = jnp.asarray(time_grid.elapsed_saved, dtype)
    origin = jnp.asarray(time_grid.origin, dtype)
    found = jax.vmap(lambda since: residuals(Instant(since, origin)))(elapsed)
    return found.ravel() / len(elapsed) ** 0.5
