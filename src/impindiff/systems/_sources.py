r"""Sources that depend on the state: reactions, what enters at the ends, and which are affine.

Decay, sorption of first order, exchange with surroundings of a given temperature are affine in the
field of their own equation, $r = a\,u + s$ cell by cell. Such a source leaves a linear equation
linear. Its slope $a$ goes to the diagonal of the field's stencil, where solvers and preconditioners
find it.
"""

from collections.abc import Callable, Sequence
from typing import Any, final

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from impindiff._errors import InputError
from impindiff._types import Scalar, State
from impindiff.coefficients import (
    AbstractCoefficient,
    Closure,
    coefficients_of,
    depends_on,
    is_affine_in,
)
from impindiff.grid import Grid
from impindiff.systems._affine_tendency import OwnRate
from impindiff.systems._flux_of import FluxOf
from impindiff.systems._scope import Scope, cast
from impindiff.systems._state_tendency import Equations, Place, mask_solid
from impindiff.terms import AbstractSource, AbstractStateTerm, Source


def Reaction(
    function: Callable[..., Any] | AbstractCoefficient,
    fields: tuple[str, ...] | None = None,
    *,
    is_explicit: bool = False,
    **parts: Any,
) -> Source:
    r"""A rate of production that depends on the state, $r(u, v, \dots)$ per volume and time.

    A source whose strength is a closure. `Reaction(lambda u, v, rate: -rate * u * v,
    rate=Parameter("rate", 1.0, (0.0, 5.0)))`: `u` and `v` are fields of the system and `rate` is
    given with it. What several equations share is given once, `System(..., coefficients={"rate":
    ...})`.

    One that is affine in its own field alone, cell by cell, as $-k\,c$ or $k\,(c_0 - c)$, leaves a
    system on a grid affine: its slope stands in the stencil, and a step is one linear solve.

    Args:
        function: of fields and more, cell by cell, see `Closure`; written with `jax.numpy`. Or a
            `NeuralClosure`, where the whole rate is unknown.
        fields: names of what it is given, where its parameters do not say so.
        is_explicit: see `Source`.
        parts: further arguments by keyword, each a coefficient of any kind.
    """
    if isinstance(function, AbstractCoefficient):
        return Source(function, is_explicit=is_explicit)
    return Source(Closure(function, fields, **parts), is_explicit=is_explicit)


@final
class Supply(AbstractStateTerm):
    r"""What enters through the domain's ends, per volume of the cells beside them.

    Its integral over the grid is $-\oint \mathbf j\cdot\mathbf n$: that of a field's own flux,
    `Supply(FluxOf("c"))`, is all that the field gets but by reactions. As an integral over time it
    closes balances: `integrals={"supplied": [Supply(FluxOf("c"))]}`.

    Args:
        flux: through all faces, for each axis: `FluxOf`.

    Raises: InputError for what is no `FluxOf`; in a system without a grid.
    """

    flux: Any

    def __check_init__(self) -> None:
        """Refuse what is no flux through faces."""
        if not isinstance(self.flux, FluxOf):
            raise InputError(
                f"Supply({self.flux!r:.80}): what enters is the flux of a field, "
                "Supply(FluxOf('c')). A rate that is known is a Source or Reaction."
            )

    def rate(self, grid: Grid | None, state: State, field: str) -> Float[Array, "..."]:
        """See `AbstractStateTerm.rate`."""
        if grid is None:
            raise InputError("Supply is about the ends of a domain, but the system has no grid.")
        total = jnp.zeros(grid.shape, self.flux[0].dtype)
        for axis, through in enumerate(self.flux):
            if grid.axes[axis].periodic:
                continue
            areas, widths = grid.face_measures(axis), grid.cell_measures(axis)
            inwards = jnp.moveaxis(through, axis, 0)
            cells = jnp.moveaxis(total, axis, 0)
            cells = cells.at[0].add(float(areas[0] / widths[0]) * inwards[0])
            cells = cells.at[-1].add(-float(areas[-1] / widths[-1]) * inwards[-1])
            total = jnp.moveaxis(cells, 0, axis)
        return total


def find_own_sources(
    scope: Scope, equations: Equations, varying: frozenset[str], missing: Sequence[str] = ()
) -> frozenset[Place]:
    """Where the sources stand that depend on the state by their own field alone, affinely.

    At all times and for all samples. None without a grid.

    Args:
        scope: what functions may name.
        equations: the terms, evaluated as far as they can be before a rollout.
        varying: names of what depends on the state.
        missing: names of the sample parameters that are not known yet.
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
        and _is_own(scope, grid, field, term, missing)
    )


def evaluate_own_rate(
    scope: Scope, grid: Grid, field: str, terms: Sequence[AbstractSource]
) -> OwnRate:
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
    scope: Scope, grid: Grid, field: str, term: AbstractSource, missing: Sequence[str]
) -> bool:
    number = jax.ShapeDtypeStruct((), scope.dtype)
    state = jax.ShapeDtypeStruct(grid.shape, scope.dtype)

    def rate(value: Float[Array, "..."], time: Scalar, parameters: dict[str, Scalar]) -> Array:
        known = Scope(grid, scope.coefficients | parameters, scope.dtype).at(time)
        return _rate(known, grid, field, term, value)

    try:
        return is_affine_in(rate, state, number, dict.fromkeys(missing, number))
    except (InputError, _NotOwn):
        # A function that fails is named where the right-hand side is evaluated.
        return False


class _NotOwn(Exception):
    """A source that depends on more than its own field."""


def _rate(
    scope: Scope, grid: Grid, field: str, term: AbstractSource, value: Float[Array, "..."]
) -> Float[Array, "..."]:
    known = cast(scope, scope.dtype).evaluate(term, {field: value})
    if coefficients_of(known):
        raise _NotOwn
    return mask_solid(grid, cast(known, scope.dtype).rate(grid))
