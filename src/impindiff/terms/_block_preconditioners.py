"""Preconditioners that see what fields do to each other: blocks of the Jacobian, probed."""

from collections.abc import Callable, Mapping
from functools import cache

import jax
import jax.numpy as jnp

from impindiff._errors import InputError
from impindiff._types import Scalar, State, Tendency
from impindiff.implicit import (
    AbstractPreconditioner,
    Balanced,
    BlockJacobi,
    BlockLine,
    BlockStencil,
    TransformLine,
    probe,
)
from impindiff.terms._linearised import kinds_of, products, volumes_of

Preconditioning = Callable[[Tendency, Scalar, State], AbstractPreconditioner]
"""Makes the preconditioner of a step from its right-hand side, the weight $w$ and a state."""


def block_jacobi(tendency: Tendency, weight: Scalar, state: State) -> Balanced:
    r"""The inverse of what the fields of each cell do to each other: for fast reactions.

    The blocks of $I - w\,\partial F/\partial u$ at the state, found by coloured products.

    Raises: InputError for fields of different shapes.
    """
    operator = shifted_blocks(tendency, weight, state)
    return _balanced(BlockJacobi(operator.centre), operator, tendency, state)


@cache
def block_line(axis: int) -> Preconditioning:
    """Exact solves along one axis for all fields at once: for fast reactions, too.

    As `line`, but with what the fields of a line do to each other, found by coloured products.

    Args:
        axis: number of the axis, counted from zero.

    Returns:
        What makes the preconditioner; `SDIRK2(preconditioner=block_line(0))`.

    Raises: InputError where it is used on a grid without that axis; InputError for fields of
        different shapes.
    """

    def along_axis(tendency: Tendency, weight: Scalar, state: State) -> Balanced:
        operator = shifted_blocks(tendency, weight, state)
        check_axis("block_line", axis, len(operator.sides))
        lower, upper = operator.sides[axis]
        inner = BlockLine(lower, operator.centre, upper, axis)
        return _balanced(inner, operator, tendency, state)

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
        InputError for fields of different shapes.
    """

    def in_modes(tendency: Tendency, weight: Scalar, state: State) -> Balanced:
        operator = shifted_blocks(tendency, weight, state)
        check_axis("transform_line", axis, len(operator.sides))
        kinds = _common_kinds(kinds_of(tendency, state), axis, len(operator.sides))
        return _balanced(TransformLine(operator, axis, kinds), operator, tendency, state)

    return in_modes


def _balanced(
    inner: AbstractPreconditioner, operator: BlockStencil, tendency: Tendency, state: State
) -> Balanced:
    """With the total of each field right, of what it does to itself."""
    one, shape = jnp.ones((), operator.centre.dtype), operator.centre.shape[2:]
    # The leaves of a dictionary come in the order of its sorted names.
    own = {
        field: operator.stencil(number).shifted_identity(one)
        for number, field in enumerate(sorted(state))
    }
    return Balanced.of(inner, own, one, shape, volumes_of(tendency))


def check_axis(whose: str, axis: int, num_axes: int) -> None:
    """Refuse an axis that the grid does not have.

    Raises: InputError.
    """
    if not 0 <= axis < num_axes:
        raise InputError(
            f"{whose}(axis={axis}) on a grid of {num_axes} axes: the axis must lie in "
            f"0...{num_axes - 1}."
        )


def shifted_blocks(tendency: Tendency, weight: Scalar, state: State) -> BlockStencil:
    r"""The blocks of $q' - w F'$ at a state."""
    found = probe(products(tendency, weight, state), state)
    centre = found.centre
    grid_axes = (1,) * (centre.ndim - 2)
    identity = jnp.eye(centre.shape[0], dtype=centre.dtype).reshape(*centre.shape[:2], *grid_axes)
    sides = tuple((-weight * lower, -weight * upper) for lower, upper in found.sides)
    shifted = BlockStencil(identity - weight * centre, sides, found.structure)
    return jax.lax.stop_gradient(shifted)


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
