r"""Sources that are affine in the field of their own equation, $r = a\,u + s$ cell by cell.

Decay, sorption of first order, exchange with surroundings of a given temperature: such a source
leaves a linear equation linear. Its slope $a$ goes to the diagonal of the field's stencil, where
solvers and preconditioners find it.
"""

from collections.abc import Sequence

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from impindiff._errors import InputError
from impindiff._types import Scalar
from impindiff.coefficients import coefficients_of, depends_on, is_affine_in
from impindiff.grid import Grid
from impindiff.systems._affine_tendency import OwnRate
from impindiff.systems._scope import Scope, cast
from impindiff.systems._state_tendency import Equations, Place, in_free_cells
from impindiff.terms import AbstractSource


def own_sources(
    scope: Scope, equations: Equations, varying: frozenset[str], awaited: Sequence[str] = ()
) -> frozenset[Place]:
    """Where the sources stand that depend on the state by their own field alone, affinely.

    At all times and for all settings. None without a grid.

    Args:
        scope: what functions may name.
        equations: the terms, evaluated as far as they can be before a rollout.
        varying: names of what depends on the state.
        awaited: names of the settings that are not given yet.
    """
    grid = scope.grid
    if grid is None:
        return frozenset()
    return frozenset(
        (field, number)
        for field, terms in equations.items()
        for number, term in enumerate(terms)
        if isinstance(term, AbstractSource)
        and depends_on(term, varying)
        and _is_own(scope, grid, field, term, awaited)
    )


def own_rate(scope: Scope, grid: Grid, field: str, terms: Sequence[AbstractSource]) -> OwnRate:
    """What such sources come to together, in the scope of an instant."""
    zero = jnp.zeros(grid.shape, scope.dtype)

    def total(value: Float[Array, "..."]) -> Float[Array, "..."]:
        rates = (_rate(scope, grid, field, term, value) for term in terms)
        return sum(rates, start=zero).astype(scope.dtype)

    def root_beside(value: Float[Array, "..."]) -> Float[Array, "..."]:
        found = value - total(value) / jnp.where(slope == 0, 1, slope)
        return jnp.where((slope != 0) & jnp.isfinite(found), found, value)

    # Of what is affine cell by cell, the product of the Jacobian with ones is its diagonal.
    at_zero, slope = jax.jvp(total, (zero,), (jnp.ones_like(zero),))
    # The second time from where the function itself forms small differences.
    reference = jax.lax.stop_gradient(root_beside(root_beside(zero)))
    return OwnRate(slope, at_zero, reference, total(reference))


def _is_own(
    scope: Scope, grid: Grid, field: str, term: AbstractSource, awaited: Sequence[str]
) -> bool:
    number = jax.ShapeDtypeStruct((), scope.dtype)
    state = jax.ShapeDtypeStruct(grid.shape, scope.dtype)

    def rate(value: Float[Array, "..."], time: Scalar, settings: dict[str, Scalar]) -> Array:
        known = Scope(grid, scope.coefficients | settings, scope.dtype).at(time)
        return _rate(known, grid, field, term, value)

    try:
        return is_affine_in(rate, state, number, dict.fromkeys(awaited, number))
    except (InputError, _NotOwn):
        # A function that fails is told where the right-hand side is evaluated.
        return False


class _NotOwn(Exception):
    """A source that depends on more than its own field."""


def _rate(
    scope: Scope, grid: Grid, field: str, term: AbstractSource, value: Float[Array, "..."]
) -> Float[Array, "..."]:
    known = cast(scope, scope.dtype).evaluate(term, {field: value})
    if coefficients_of(known):
        raise _NotOwn
    return in_free_cells(grid, cast(known, scope.dtype).rate(grid))
