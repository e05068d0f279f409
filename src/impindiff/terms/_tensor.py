r"""Symmetric tensors by their components: one coefficient of any kind for each.

A component is named by the axis of the diagonal, `x`, or by two axes, `xy` or `x depth`. Which
names axes have is known with the grid only.
"""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple, Self, final

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jax.core import Tracer
from jaxtyping import Array, Float

from impindiff._errors import InputError
from impindiff._types import as_array
from impindiff.coefficients import as_coefficients, coefficients_of
from impindiff.grid import Grid
from impindiff.terms._oblique import safe_root
from impindiff.terms._term import check_coefficient, check_not_negative

# Below this share of a tensor's size its least eigenvalue is round-off.
_ROUND_OFF = 1e-6


class TensorOnGrid(NamedTuple):
    """A symmetric tensor in the cells.

    Attributes:
        diagonal: for each axis one number, or one for each cell.
        cross: the same for pairs of axes, the lower number first; what is left out is zero.
    """

    diagonal: tuple[Float[Array, "..."], ...]
    cross: dict[tuple[int, int], Float[Array, "..."]]

    @property
    def correlations(self) -> dict[tuple[int, int], Float[Array, "..."]]:
        r"""$K_{ab} / \sqrt{K_{aa} K_{bb}}$ for the same pairs; zero where one of these is."""
        roots = [safe_root(part) for part in self.diagonal]

        def correlation(pair: tuple[int, int], part: Array) -> Array:
            size = roots[pair[0]] * roots[pair[1]]
            return jnp.where(size > 0, part / jnp.where(size > 0, size, 1), 0)

        return {pair: correlation(pair, part) for pair, part in self.cross.items()}


@final
class Components(eqx.Module):
    """Components by name.

    Attributes:
        parts: a coefficient each.
        keys: their names, in the same order.
    """

    parts: tuple[Any, ...]
    keys: tuple[str, ...] = eqx.field(static=True)

    @classmethod
    def of(cls, given: Mapping[Any, Any], what: str) -> Self:
        """From a mapping of names to coefficients.

        Args:
            given: `{"x": 2.0, "y": 1.0, "xy": 0.3}`.
            what: how messages call it, such as "the diffusivity".

        Raises: InputError for names that are none, what is no coefficient, or a known component of
            the diagonal that is negative.
        """
        for key, part in given.items():
            if not isinstance(key, str):
                raise InputError(
                    f"{what} has a component of the name {key!r}: name an axis, 'x', or two, 'xy' "
                    "or 'x depth'."
                )
            check_coefficient(part, f"the component {key!r} of {what}")
        found = cls(tuple(map(as_coefficients, given.values())), tuple(given))
        for key, part in zip(found.keys, found.parts, strict=True):
            if not _is_cross(key):
                check_not_negative(part, f"the component {key!r} of {what}")
        return found

    @property
    def may_cross(self) -> bool:
        """Whether a name may stand for two axes that differ."""
        return any(map(_is_cross, self.keys))

    @property
    def not_negative(self) -> tuple[Any, ...]:
        """What must not be negative: the diagonal, and of a tensor that is evaluated all of it."""
        pairs = list(zip(self.keys, self.parts, strict=True))
        diagonal = {_axes_of(key)[0]: part for key, part in pairs if not _is_cross(key)}
        cross = {_axes_of(key): part for key, part in pairs if _is_cross(key)}
        names = list(diagonal)
        known = not coefficients_of(self.parts) and all(set(pair) <= set(names) for pair in cross)
        if not (cross and known):
            return tuple(diagonal.values())
        numbered = {_numbered(pair, names): as_array(part) for pair, part in cross.items()}
        whole = tuple(map(as_array, diagonal.values()))
        return least_diffusivities(TensorOnGrid(whole, numbered))

    def along(self, grid: Grid, axis: int, what: str) -> Any:
        """The component of the diagonal for an axis, as it stands; None where there is none."""
        for key, part in zip(self.keys, self.parts, strict=True):
            if _place(key, grid, what) == (axis, axis):
                return part
        return None

    def check(self, grid: Grid, what: str) -> None:
        """Refuse components that do not go with a grid, and a tensor that is known to be wrong.

        Raises: InputError for a component that is missing, double or of no axis, a pair of axes on
            a grid that is not cartesian, or a tensor that is not positive definite.
        """
        places: dict[tuple[int, int], Any] = {}
        for key, part in zip(self.keys, self.parts, strict=True):
            place = _place(key, grid, what)
            if place in places:
                raise InputError(
                    f"{what} has the component {_spelled(place, grid)} twice: a tensor is "
                    "symmetric, and has it once."
                )
            places[place] = part
        diagonal = [(axis, axis) for axis in range(grid.num_axes)]
        if missing := [place for place in diagonal if place not in places]:
            raise InputError(
                f"{what} has no component {', '.join(_spelled(p, grid) for p in missing)}: give "
                f"one for each axis ({', '.join(map(repr, grid.names))})."
            )
        cross = [place for place in places if place[0] != place[1]]
        if cross and grid.coordinates != "cartesian":
            raise InputError(
                f"{what} has the component {_spelled(cross[0], grid)} on a {grid.coordinates} "
                "grid: there a diffusivity has one component for each axis. Use a cartesian grid "
                "for a tensor with others."
            )
        if cross and not coefficients_of(self.parts):
            check_definite(self.on(grid, what), grid, what)

    def on(self, grid: Grid, what: str) -> TensorOnGrid:
        """The components in the cells, all of them evaluated and checked.

        Raises: InputError for one of another shape than the grid's.
        """
        found: dict[tuple[int, int], Array] = {}
        for key, part in zip(self.keys, self.parts, strict=True):
            if jnp.shape(part) not in ((), grid.shape):
                raise InputError(
                    f"the component {key!r} of {what} has shape {jnp.shape(part)}: it must be one "
                    f"number or of the grid's shape {grid.shape}."
                )
            found[_place(key, grid, what)] = as_array(part)
        cross = {place: part for place, part in found.items() if place[0] != place[1]}
        return TensorOnGrid(tuple(found[axis, axis] for axis in range(grid.num_axes)), cross)


def least_diffusivities(tensor: TensorOnGrid) -> tuple[Float[Array, "..."], ...]:
    r"""Numbers that are all at least zero where a tensor is positive semi-definite.

    In the unit of the tensor, and within a factor of the number of axes of its least eigenvalue
    where that is far below the others: $K_{aa}$, $(K_{aa} K_{bb} - K_{ab}^2) / (K_{aa} + K_{bb})$,
    and in three dimensions the determinant over the sum of these products.
    """
    diagonal, cross, found = tensor.diagonal, tensor.cross, list(tensor.diagonal)
    minors = {(a, b): diagonal[a] * diagonal[b] - part**2 for (a, b), part in sorted(cross.items())}
    found += [minor / _or_one(diagonal[a] + diagonal[b]) for (a, b), minor in minors.items()]
    if len(diagonal) == 3 and len(cross) > 1:
        none = jnp.zeros(())
        xy, xz, yz = (cross.get(pair, none) for pair in ((0, 1), (0, 2), (1, 2)))
        x, y, z = diagonal
        determinant = x * (y * z - yz**2) - xy * (xy * z - xz * yz) + xz * (xy * yz - xz * y)
        found.append(determinant / _or_one(x * y + x * z + y * z - xy**2 - xz**2 - yz**2))
    return tuple(found)


def check_definite(tensor: TensorOnGrid, grid: Grid, what: str) -> None:
    """Refuse a tensor that is known and not positive semi-definite in some free cell.

    Raises: InputError.
    """
    parts = (*tensor.diagonal, *tensor.cross.values())
    if any(isinstance(part, Tracer) for part in parts):
        return
    with jax.ensure_compile_time_eval():
        numbers = [np.asarray(number) for number in least_diffusivities(tensor)]
        size = np.asarray(sum(tensor.diagonal))
    least, size = np.broadcast_arrays(np.min(np.broadcast_arrays(*numbers), 0), size)
    wrong = least < -_ROUND_OFF * np.abs(size)
    if grid.solid is not None and wrong.shape == grid.shape:
        wrong = wrong & ~grid.solid
    if not wrong.any():
        return
    cell = np.unravel_index(np.argmin(np.where(wrong, least, np.inf)), least.shape)
    places = [(axis, axis) for axis in range(grid.num_axes)] + list(tensor.cross)
    found = ", ".join(
        f"{_spelled(place, grid)}: {np.broadcast_to(part, least.shape)[cell]:.6g}"
        for place, part in zip(places, parts, strict=True)
    )
    raise InputError(
        f"{what} is {{{found}}}"
        + (f" in cell {tuple(map(int, cell))}" if cell else "")
        + ", which is not positive definite: what diffuses backwards along any direction grows. "
        "The square of a component of two axes is at most the product of those of either axis; "
        "from principal values k1, k2 at an angle a to the first axis they are k1 cos(a)^2 + "
        "k2 sin(a)^2, (k1 - k2) sin(a) cos(a) and k1 sin(a)^2 + k2 cos(a)^2."
    )


def _or_one(value: Array) -> Array:
    return jnp.where(value == 0, 1, value)


def _axes_of(key: str) -> tuple[str, ...]:
    """The axes in a name, if no axis is called by two letters or with a blank."""
    return tuple(key.split()) if " " in key else tuple(key) if len(key) == 2 else (key,)


def _is_cross(key: str) -> bool:
    return len(set(_axes_of(key))) > 1


def _place(key: str, grid: Grid, what: str) -> tuple[int, int]:
    """The pair of axes' numbers that a name means."""
    names = grid.names
    pair = (key, key) if key in names else _axes_of(key)
    if len(pair) != 2 or not set(pair) <= set(names):
        axes = ", ".join(map(repr, names))
        two = ", or two of them for what the gradient along one moves along the other, such as "
        raise InputError(
            f"{what} has a component {key!r}: name an axis of the grid ({axes})"
            + (f"{two}{_joined(names[:2])!r}." if len(names) > 1 else ".")
        )
    return _numbered(pair, names)


def _numbered(pair: Sequence[str], names: Sequence[str]) -> tuple[int, int]:
    low, high = sorted(map(names.index, pair))
    return low, high


def _spelled(place: tuple[int, int], grid: Grid) -> str:
    return repr(_joined([grid.names[axis] for axis in sorted(set(place))]))


def _joined(names: Sequence[str]) -> str:
    return ("" if all(len(name) == 1 for name in names) else " ").join(names)
