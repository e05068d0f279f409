"""Where samples start, as far as their system says so."""

from collections.abc import Callable, Mapping
from typing import TypeVar

import jax
import jax.numpy as jnp
from jaxtyping import Array

from impindiff._types import State
from impindiff.coefficients import depends_on
from impindiff.latent import latents_of
from impindiff.systems._prepared import PreparedSystem
from impindiff.systems._scope import reached_names
from impindiff.systems._system import System

S = TypeVar("S", System, PreparedSystem)


def starts_of(
    system: S, start: Callable[[S], State], settings: Mapping[str, Array], count: int
) -> State:
    """The initial values that a system gives, of many samples: `(sample, *grid)` for each field.

    Args:
        system: the equations, which may give none.
        start: those of one sample, by its system: `lambda one: one.start(time, dtype)`.
        settings: those that the system awaits, `(sample,)` each.
        count: how many samples.
    """
    if not system.initial:
        return {}
    if system.awaited:
        return jax.vmap(lambda given: start(system.with_settings(given)))(settings)
    return {f: jnp.broadcast_to(u, (count, *u.shape)) for f, u in start(system).items()}


def learned_starts(system: System) -> tuple[str, ...]:
    """The fields whose initial values follow from something that is to be learned."""
    holding = {name for name, part in system.coefficients.items() if latents_of(part)}
    reached = reached_names(system.coefficients)
    unknown = holding | {name for name, names in reached.items() if names & holding}
    return tuple(
        field
        for field, part in system.initial.items()
        if latents_of(part) or depends_on(part, unknown)
    )
