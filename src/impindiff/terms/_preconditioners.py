r"""Preconditioners for implicit steps.

An implicit stage inverts $I - w\,\partial F/\partial u$ with a weight $w$, or $q' - w\,\partial
F/\partial u$ where the system has a storage $q$. Each function here makes an approximate inverse
from the right-hand side $F$, the weight, and a state at which what is nonlinear is linearised.
"""

from collections.abc import Callable, Mapping
from functools import cache

import jax
import jax.numpy as jnp
from jaxtyping import Array, Inexact

from impindiff._errors import InputError
from impindiff._types import Scalar, State, Tendency
from impindiff.implicit import (
    AbstractPreconditioner,
    BlockJacobi,
    BlockLine,
    BlockStencil,
    Jacobi,
    Line,
    Multigrid,
    Spectral,
    Stencil,
    TransformLine,
    exchange_symbol,
    probe,
)
from impindiff.terms._linearised import kinds_of, linearised, products

PERIODIC = "periodic"

Preconditioning = Callable[[Tendency, Scalar, State], AbstractPreconditioner]
"""Makes the preconditioner of a step from its right-hand side, the weight $w$ and a state."""


def jacobi(tendency: Tendency, weight: Scalar, state: State) -> Jacobi:
    """The diagonal of $I - w S$: for coefficients that differ by orders of magnitude."""
    parts = linearised(tendency, weight, state)

    def diagonal(stencil: Stencil | None) -> Array:
        centre = jnp.zeros(()) if stencil is None else stencil.centre
        return jnp.broadcast_to(1 - weight * centre, parts.shape)

    return Jacobi(jax.lax.stop_gradient({n: diagonal(s) for n, s in parts.stencils.items()}))


def block_jacobi(tendency: Tendency, weight: Scalar, state: State) -> BlockJacobi:
    r"""The inverse of what the fields of each cell do to each other: for fast reactions.

    The blocks of $I - w\,\partial F/\partial u$ at the state, found by coloured products.

    Raises: ValueError for fields of different shapes.
    """
    return BlockJacobi(_shifted_blocks(tendency, weight, state).centre)


def fourier(tendency: Tendency, weight: Scalar, state: State) -> Spectral:
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
    return Spectral(jax.lax.stop_gradient(symbols), dict(parts.mode_kinds))


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

    def along_axis(tendency: Tendency, weight: Scalar, state: State) -> Line:
        operator = linearised(tendency, weight, state)
        _check_axis("line", axis, len(operator.shape))
        parts = {name: _parts(s, axis, weight) for name, s in operator.stencils.items()}
        lower, diagonal, upper = ({name: part[i] for name, part in parts.items()} for i in range(3))
        return jax.lax.stop_gradient(Line(lower, diagonal, upper, axis))

    return along_axis


@cache
def block_line(axis: int) -> Preconditioning:
    """Exact solves along one axis for all fields at once: for fast reactions, too.

    As `line`, but with what the fields of a line do to each other, found by coloured products.

    Args:
        axis: number of the axis, counted from zero.

    Returns:
        What makes the preconditioner; `SDIRK2(preconditioner=block_line(0))`.

    Raises: InputError where it is used on a grid without that axis; ValueError for fields of
        different shapes.
    """

    def along_axis(tendency: Tendency, weight: Scalar, state: State) -> BlockLine:
        operator = _shifted_blocks(tendency, weight, state)
        _check_axis("block_line", axis, len(operator.sides))
        return BlockLine(operator.sides[axis][0], operator.centre, operator.sides[axis][1], axis)

    return along_axis


@cache
def transform_line(axis: int) -> Preconditioning:
    """Exact solves along one axis for all fields, in the modes of the other axes.

    The inverse for coefficients that do not vary but along the axis: those of the Jacobian, found
    by coloured products, are replaced by their means across it. For coupled fields whose
    coefficients vary by orders of magnitude along the axis, and by a factor of a few across it.

    Args:
        axis: number of the axis, counted from zero.

    Returns:
        What makes the preconditioner; `SDIRK2(preconditioner=transform_line(0))`.

    Raises: InputError where it is used on a grid without that axis, or with fields of which one
        holds a value at an end across the lines and another does not: they have no modes in common;
        ValueError for fields of different shapes.
    """

    def in_modes(tendency: Tendency, weight: Scalar, state: State) -> TransformLine:
        operator = _shifted_blocks(tendency, weight, state)
        _check_axis("transform_line", axis, len(operator.sides))
        kinds = _common_kinds(kinds_of(tendency, state), axis, len(operator.sides))
        return TransformLine(operator, axis, kinds)

    return in_modes


@cache
def multigrid(cycle: str = "W", sweeps: int = 2) -> Preconditioning:
    """One multigrid cycle: for stiff steps with coefficients that vary or jump, and for advection.

    Args:
        cycle: "V" or "W", see `impindiff.implicit.Multigrid`.
        sweeps: smoothing before and after each coarser grid.

    Returns:
        What makes the preconditioner; `CrankNicolson(preconditioner=multigrid())`. For diffusion
        without advection `multigrid("V", 1)` is cheaper.

    Raises: ValueError for another cycle, or no sweeps.
    """

    def make(tendency: Tendency, weight: Scalar, state: State) -> Multigrid:
        parts = linearised(tendency, weight, state)

        def shifted(stencil: Stencil | None) -> Stencil:
            if stencil is None:
                zero = jnp.zeros_like(weight)
                return Stencil(jnp.ones_like(weight), ((zero, zero),) * len(parts.shape))
            return stencil.shifted_identity(weight)

        operators = {name: shifted(stencil) for name, stencil in parts.stencils.items()}
        return Multigrid.build(
            operators,
            parts.shape,
            parts.spacing,
            cycle=cycle,
            sweeps=sweeps,
            volumes=parts.volumes,
        )

    return make


def _shifted_blocks(tendency: Tendency, weight: Scalar, state: State) -> BlockStencil:
    r"""The blocks of $q' - w F'$ at a state."""
    found = probe(products(tendency, weight, state), state)
    centre = found.centre
    grid_axes = (1,) * (centre.ndim - 2)
    identity = jnp.eye(centre.shape[0], dtype=centre.dtype).reshape(*centre.shape[:2], *grid_axes)
    sides = tuple((-weight * lower, -weight * upper) for lower, upper in found.sides)
    shifted = BlockStencil(identity - weight * centre, sides, found.structure)
    return jax.lax.stop_gradient(shifted)


def _check_axis(whose: str, axis: int, num_axes: int) -> None:
    if not 0 <= axis < num_axes:
        raise InputError(
            f"{whose}(axis={axis}) on a grid of {num_axes} axes: the axis must lie in "
            f"0...{num_axes - 1}."
        )


def _common_kinds(
    kinds: Mapping[str, tuple[str, ...] | None], axis: int, num_axes: int
) -> tuple[str, ...]:
    """What each axis ends in for all fields that move; the lines' own axis is of no matter."""
    moving = {field: words for field, words in kinds.items() if words is not None}

    def common(number: int) -> str:
        words = {words[number] for words in moving.values()}
        if number == axis or not words:
            return "neumann"
        if len(words) > 1:
            told = ", ".join(f"{field!r} in {words[number]}" for field, words in moving.items())
            raise InputError(
                f"transform_line({axis}): fields end axis {number} in different ways, {told}, and "
                f"have no modes in common. Use block_line({axis}), or lines along axis {number}."
            )
        return words.pop()

    return tuple(map(common, range(num_axes)))


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
    symbol = jnp.mean(stencil.centre)
    last = max((axis for axis, kind in enumerate(kinds) if kind == PERIODIC), default=None)
    for axis, (lower, upper) in enumerate(stencil.sides):
        modes = tuple(-1 if a == axis else 1 for a in range(len(shape)))
        sides, half = (jnp.mean(lower), jnp.mean(upper)), axis == last
        symbol = symbol + exchange_symbol(*sides, kinds[axis], modes, shape[axis], half=half)
    return symbol
