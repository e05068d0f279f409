"""Diffusivities that depend on the state, and where they are negative.

An implicit step is a set of equations that may have several solutions. With $D = 2 u$ one of them
has cells below zero, where diffusion runs backwards: to a solver it is as good as any other.
"""

from collections.abc import Mapping

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from impindiff._types import Scalar, State
from impindiff.coefficients import coefficients_of, depends_on
from impindiff.grid import Grid
from impindiff.integrate import Bounds, BoundsViolation
from impindiff.systems._boundaries import fluxes_among
from impindiff.systems._scope import Scope
from impindiff.terms import AbstractTerm

# What a solve leaves over, and round-off, are no roots of their own.
_SMALLEST_SHARE = 1e-6


def negative_diffusivity(
    scope: Scope,
    equations: Mapping[str, tuple[AbstractTerm, ...]],
    varying: frozenset[str],
    state: State,
    dt: Scalar,
) -> BoundsViolation | None:
    """Where a diffusivity that depends on the state is negative; None where none does.

    Args:
        scope: at a time.
        equations: the terms, as far as they could be evaluated without a state.
        varying: names of what depends on the state.
        state: the fields.
        dt: length of the step that ends there.
    """
    functions = [
        (field, diffusivity)
        for field, terms in equations.items()
        for term in fluxes_among(terms)
        for diffusivity in term.diffusivities
        if depends_on(diffusivity, varying)
    ]
    if scope.grid is None or not functions:
        return None
    found: list[tuple[str, Float[Array, "..."]]] = []
    for field, value in scope.evaluate(functions, state):
        if not coefficients_of(value):
            whole = jnp.broadcast_to(jnp.asarray(value), scope.grid.shape)
            found.append((field, jax.lax.stop_gradient(whole)))
    if not found:
        return None
    lowest = [_lowest(scope.grid, value, dt) for _, value in found]
    cells = jnp.stack([cell for cell, _ in lowest])
    is_negative = jnp.stack([negative for _, negative in lowest])
    number = jnp.argmax(is_negative)
    values = [value.ravel()[cell] for (_, value), (cell, _) in zip(found, lowest, strict=True)]
    fields = [
        jax.lax.stop_gradient(state[field]).ravel()[cell]
        for (field, _), (cell, _) in zip(found, lowest, strict=True)
    ]
    return BoundsViolation(
        is_negative.any(),
        number,
        cells[number],
        jnp.stack(values)[number],
        jnp.stack(fields)[number],
        tuple(Bounds(field, 0.0, float("inf"), "the diffusivity") for field, _ in found),
        (scope.grid.shape,) * len(found),
    )


def _lowest(grid: Grid, value: Float[Array, "..."], dt: Scalar) -> tuple[Array, Array]:
    """The cell with the lowest of them, and whether that is negative beyond round-off.

    Compared with the largest one, and with what diffuses through a cell within the step: in a
    medium that is empty all are round-off.
    """
    if grid.solid is not None:
        value = jnp.where(grid.solid, 0, value)
    share = max(_SMALLEST_SHARE, float(jnp.finfo(value.dtype).eps) ** 0.5)
    width = min(float(axis.widths.min()) for axis in grid.axes)
    scale = jnp.maximum(jnp.abs(value).max(), width**2 / dt)
    cell = jnp.argmin(value)
    return cell, value.ravel()[cell] < -share * scale
