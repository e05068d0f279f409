r"""Preconditioners for implicit steps.

An implicit stage inverts $I - w\,\partial F/\partial u$ with a weight $w$, or $q' - w\,\partial
F/\partial u$ where the system has a storage $q$. Each function here makes an approximate inverse
from the right-hand side $F$, the weight, and a state at which what is nonlinear is linearised.
"""

from functools import cache

import jax
import jax.numpy as jnp
from jaxtyping import Array, Inexact

from impindiff._types import Scalar, State, Tendency
from impindiff.implicit import (
    AbstractPreconditioner,
    Balanced,
    Jacobi,
    Line,
    Multigrid,
    Spectral,
    Stencil,
    check_cycle,
    clear_of_ends,
    exchange_symbol,
)
from impindiff.terms._block_preconditioners import Preconditioning, check_axis
from impindiff.terms._linearised import Assembled, grid_of, linearised, volumes_of

PERIODIC = "periodic"


def jacobi(tendency: Tendency, weight: Scalar, state: State) -> Balanced:
    """The diagonal of $I - w S$: for coefficients that differ by orders of magnitude."""
    parts = linearised(tendency, weight, state)

    def diagonal(stencil: Stencil | None) -> Array:
        centre = jnp.zeros(()) if stencil is None else stencil.centre
        return jnp.broadcast_to(1 - weight * centre, parts.shape)

    inner = Jacobi(jax.lax.stop_gradient({n: diagonal(s) for n, s in parts.stencils.items()}))
    return _balanced(inner, parts, weight, tendency)


def fourier(tendency: Tendency, weight: Scalar, state: State) -> Spectral | Balanced:
    r"""The inverse of $I - w \bar S$, each coefficient replaced by its mean: for stiff steps.

    Exact where coefficients are constant and the conditions at all ends give values or gradients.
    Where coefficients vary by a factor of a few, as they also do on stretched axes, the number of
    iterations depends on how much they vary and not on the step or the grid; where they jump by
    orders of magnitude it is no help. Of a flow along an axis with ends it sees nothing.
    """
    parts = linearised(tendency, weight, state)
    periodic = {name: PERIODIC in kinds for name, kinds in parts.mode_kinds.items()}

    def symbol(name: str, stencil: Stencil | None) -> Array:
        if stencil is None:
            dtype = jnp.complex64 if periodic[name] else jnp.float32
            return jnp.ones((), jnp.result_type(weight, dtype))
        return 1 - weight * mean_symbol(stencil, parts.shape, parts.mode_kinds[name])

    symbols = {name: symbol(name, stencil) for name, stencil in parts.stencils.items()}
    inner = Spectral(jax.lax.stop_gradient(symbols), dict(parts.mode_kinds))
    grid = grid_of(tendency)
    # With equal cells totals are right by themselves: of the mean nothing is exchanged.
    if grid is None or (grid.solid is None and all(map(grid.is_even, range(grid.num_axes)))):
        return inner
    return _balanced(inner, parts, weight, tendency)


# Kept, for a stepper with another function of the same work would be compiled again.
@cache
def line(axis: int) -> Preconditioning:
    """Exact solves along one axis: for cells much thinner along it, or coefficients much larger.

    Args:
        axis: number of the axis, counted from zero.

    Returns:
        What makes the preconditioner; `CrankNicolson(preconditioner=line(1))`.

    Raises: InputError where it is used on a grid without that axis.
    """

    def along_axis(tendency: Tendency, weight: Scalar, state: State) -> Balanced:
        operator = linearised(tendency, weight, state)
        check_axis("line", axis, len(operator.shape))
        parts = {name: _parts(s, axis, weight) for name, s in operator.stencils.items()}
        lower, diagonal, upper = ({name: part[i] for name, part in parts.items()} for i in range(3))
        inner = jax.lax.stop_gradient(Line(lower, diagonal, upper, axis))
        return _balanced(inner, operator, weight, tendency)

    return along_axis


@cache
def multigrid(cycle: str = "W", sweeps: int = 2) -> Preconditioning:
    """One multigrid cycle: for stiff steps with coefficients that vary or jump, and for advection.

    Args:
        cycle: "V" or "W", see `impindiff.implicit.Multigrid`.
        sweeps: smoothing before and after each coarser grid.

    Returns:
        What makes the preconditioner; `CrankNicolson(preconditioner=multigrid())`. For diffusion
        without advection `multigrid("V", 1)` is cheaper.

    Raises: InputError for another cycle, or no sweeps.
    """
    check_cycle(cycle, sweeps)

    def make(tendency: Tendency, weight: Scalar, state: State) -> Balanced:
        parts = linearised(tendency, weight, state)

        def shifted(stencil: Stencil | None) -> Stencil:
            if stencil is None:
                zero = jnp.zeros_like(weight)
                return Stencil(jnp.ones_like(weight), ((zero, zero),) * len(parts.shape))
            return stencil.shifted_identity(weight)

        operators = {name: shifted(stencil) for name, stencil in parts.stencils.items()}
        inner = Multigrid.build(
            operators,
            parts.shape,
            parts.spacing,
            cycle=cycle,
            sweeps=sweeps,
            volumes=parts.volumes,
        )
        return _balanced(inner, parts, weight, tendency)

    return make


def _balanced(
    inner: AbstractPreconditioner, parts: Assembled, weight: Scalar, tendency: Tendency
) -> Balanced:
    """With the total of each field right, so that steps keep it at whatever tolerance."""
    return Balanced.of(inner, parts.stencils, weight, parts.shape, volumes_of(tendency))


def _parts(
    stencil: Stencil | None, axis: int, weight: Scalar
) -> tuple[Array | float, Array | float, Array | float]:
    """The lower, own and upper coefficients of $I - w S$ along an axis."""
    if stencil is None:
        return jnp.zeros_like(weight), jnp.ones_like(weight), jnp.zeros_like(weight)
    shifted = stencil.shifted_identity(weight)
    lower, upper = shifted.sides[axis]
    return lower, shifted.centre, upper


def mean_symbol(
    stencil: Stencil, shape: tuple[int, ...], kinds: tuple[str, ...]
) -> Inexact[Array, "..."]:
    """Eigenvalues of a stencil with each coefficient's mean, in the layout that `Spectral` takes.

    Args:
        stencil: the stencil.
        shape: the grid's.
        kinds: what each axis ends in.
    """
    rows = stencil.centre + sum(lower + upper for lower, upper in stencil.sides)
    symbol = jnp.mean(jnp.broadcast_to(rows, shape)[clear_of_ends(kinds, shape)])
    last = max((axis for axis, kind in enumerate(kinds) if kind == PERIODIC), default=None)
    for axis, (lower, upper) in enumerate(stencil.sides):
        modes = tuple(-1 if a == axis else 1 for a in range(len(shape)))
        sides, half = (jnp.mean(lower), jnp.mean(upper)), axis == last
        symbol = symbol + exchange_symbol(*sides, kinds[axis], modes, shape[axis], half=half)
    return symbol
