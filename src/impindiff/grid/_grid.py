"""Cells in rows: a structured grid is the product of its axes.

Fields live at cell centres and are arrays of the grid's shape, the first axis first. Areas of faces
and volumes of cells are products of a factor for each axis, so that a row of numbers along each
axis is all the geometry there is.
"""

import inspect
from collections.abc import Callable, Iterable, Sequence
from typing import Any, Self, final

import equinox as eqx
import numpy as np
from numpy.typing import ArrayLike

from impindiff._errors import InputError
from impindiff.grid._axis import Axis
from impindiff.grid._coordinates import RADII, Coordinates, Radius, check_coordinates


@final
class Grid(eqx.Module):
    r"""A structured grid of one, two or three axes.

    Args:
        axes: the axes in the order of the arrays' dimensions; a single one as it is or in a list.
        coordinates: "cartesian"; "cylindrical" for fields that do not vary around an axis of
            symmetry: the first axis is then the distance $r \ge 0$ from it and the second, if there
            is one, runs along it. A cell is a ring of volume $2\pi r\,\Delta r\,\Delta z$, a face
            across $r$ has the area $2\pi r\,\Delta z$, and none at $r = 0$; or "spherical" for
            fields that vary with the distance $r \ge 0$ from a centre, which is the only axis. A
            cell is a shell of volume $\frac{4}{3}\pi\,(r_2^3 - r_1^3)$, a face has the area
            $4\pi r^2$.
        solid: obstacles, true where a cell is solid: an array of the grid's shape, or a function of
            the positions of cell centres whose parameters name the axes. Nothing passes through
            the faces of a solid cell, and the value in it stays what it is.

    Static: grids compare and hash by what they are, and equal ones share a compilation.
    Raises: InputError for what is no axis, none, more than three, or two of one name; for other
        coordinates, or those with a radius where that is periodic or reaches below zero, or with an
        axis too many; for a mask that is not of truth values, of another shape, or without a free
        cell.
    """

    axes: tuple[Axis, ...] = eqx.field(static=True)
    coordinates: Coordinates = eqx.field(static=True)
    # An array has no hash: the mask is kept as bytes, eight cells in each.
    packed_solid: bytes | None = eqx.field(static=True)

    def __init__(
        self,
        axes: Axis | tuple[Axis, ...] | list[Axis],
        coordinates: Coordinates = "cartesian",
        solid: ArrayLike | Callable[..., ArrayLike] | None = None,
    ) -> None:
        self.axes = _as_axes(axes)
        self.coordinates: Coordinates = coordinates
        _check_axes(self.axes)
        check_coordinates(coordinates, self.axes)
        mask = _where(solid, self.names, self.centres()) if callable(solid) else solid
        self.packed_solid = None if mask is None else _packed(mask, self.shape)

    @classmethod
    def uniform(
        cls,
        shape: tuple[int, ...],
        bounds: tuple[tuple[float, float], ...],
        *,
        periodic: bool | tuple[bool, ...] = False,
        solid: ArrayLike | Callable[..., ArrayLike] | None = None,
    ) -> Self:
        """A grid of axes `x`, `y`, `z` with the given numbers of equal cells and bounds.

        Args:
            shape: number of cells along each axis.
            bounds: lower and upper bound of each axis.
            periodic: whether the axes are, one answer for all or one for each.
            solid: obstacles, see `Grid`: `solid=lambda x, y: x**2 + y**2 < 0.04` is a disc.

        Example: `Grid.uniform((128, 64), ((-1, 1), (0, 1)), periodic=True)`.
        """
        for what, given in (("shape", shape), ("bounds", bounds)):
            if isinstance(given, str) or not isinstance(given, Sequence | np.ndarray):
                raise InputError(
                    f"the {what} of a grid is {given!r:.60}: write Grid.uniform((100,), "
                    "((0.0, 1.0),)), an entry for each axis."
                )
        is_list = isinstance(periodic, Sequence | np.ndarray) and not isinstance(periodic, str)
        each: Any = periodic if is_list else (periodic,) * len(shape)
        if not len(shape) == len(bounds) == len(each):
            raise InputError(
                f"shape {shape} has {len(shape)} axes, bounds {bounds} has {len(bounds)}, periodic "
                f"{periodic} has {len(each)}: give one entry for each axis."
            )
        if len(shape) > 3:
            raise InputError(f"a grid has 1, 2 or 3 axes, found {len(shape)}: shape {shape}.")
        parts = zip("xyz", shape, bounds, each, strict=False)
        axes = [Axis(name, *bound, num, ring) for name, num, bound, ring in parts]
        return cls(axes, solid=solid)

    @property
    def shape(self) -> tuple[int, ...]:
        """Number of cells along each axis: the shape of a field's array."""
        return tuple(axis.num_cells for axis in self.axes)

    @property
    def names(self) -> tuple[str, ...]:
        """The axes' names."""
        return tuple(axis.name for axis in self.axes)

    @property
    def num_axes(self) -> int:
        """Number of space dimensions."""
        return len(self.axes)

    @property
    def cell_widths(self) -> tuple[float, ...]:
        """Mean cell width along each axis."""
        return tuple(axis.cell_width for axis in self.axes)

    @property
    def solid(self) -> np.ndarray | None:
        """True where a cell is solid; None where none is."""
        if self.packed_solid is None:
            return None
        bits = np.unpackbits(np.frombuffer(self.packed_solid, np.uint8), count=self._num_cells)
        return bits.astype(bool).reshape(self.shape)

    def centres(self) -> tuple[np.ndarray, ...]:
        """Coordinates of every cell centre, one array of the grid's shape for each axis."""
        return _mesh(axis.centres for axis in self.axes)

    def face_centres(self, axis: int) -> tuple[np.ndarray, ...]:
        """Coordinates of the faces across one axis, all of them, the outer ones included.

        Shapes: the grid's, with one more along the axis: a periodic axis has its first face twice.
        """
        return _mesh(a.faces if k == axis else a.centres for k, a in enumerate(self.axes))

    def cell_volumes(self) -> np.ndarray:
        """Volume of every cell, per unit of length along axes that the grid does not have."""
        volumes = np.ones(self.shape)
        for axis in range(self.num_axes):
            volumes = volumes * self.spread(self.cell_measures(axis), axis)
        return volumes

    def cell_measures(self, axis: int) -> np.ndarray:
        """Each cell's factor along one axis of its volume: the width, or what a ring or shell has.

        That of a cylindrical grid is the area of a ring, of a spherical one the volume of a shell.
        """
        widths, radius = self.axes[axis].widths, self.radius_along(axis)
        return widths if radius is None else radius.volume(self.axes[axis].centres, widths)

    def face_measures(self, axis: int) -> np.ndarray:
        """The factor along one axis of the area of each face across it: one, or that at a radius.

        A circumference in cylindrical coordinates, in spherical ones the area of a sphere. The
        factors along the other axes are those of the cell that the face belongs to.
        """
        faces, radius = self.axes[axis].faces, self.radius_along(axis)
        return np.ones(faces.size) if radius is None else radius.area(faces)

    def radius_along(self, axis: int) -> Radius | None:
        """What is special about an axis that is a distance; None for any other."""
        return None if axis else RADII[self.coordinates]

    def is_radial(self, axis: int) -> bool:
        """Whether an axis is the distance from an axis of symmetry, or a centre."""
        return self.radius_along(axis) is not None

    def is_even(self, axis: int) -> bool:
        """Whether all cells have one volume along an axis, and all faces across it one area."""
        return self.axes[axis].is_uniform and not self.is_radial(axis)

    def has_end(self, axis: int, side: int) -> bool:
        """Whether the domain ends on a side of an axis: 0 is the lower, 1 the upper one.

        It does not on a periodic axis, nor where a radius is zero: no face lies there.
        """
        at_origin = self.is_radial(axis) and side == 0 and self.axes[0].lower == 0
        return not (self.axes[axis].periodic or at_origin)

    def spread(self, values: np.ndarray, axis: int) -> np.ndarray:
        """Numbers along one axis, in a shape that goes with arrays of the grid's."""
        return values.reshape([-1 if k == axis else 1 for k in range(self.num_axes)])

    def across(self, axis: int) -> Self:
        """The grid of a boundary: the axes but one. That of a single axis is a point, and is left.

        Obstacles are left out, for they do not matter to where something is.
        """
        others = tuple(a for k, a in enumerate(self.axes) if k != axis)
        if not others:
            return self
        return type(self)(others, self.coordinates if axis else "cartesian")

    @property
    def _num_cells(self) -> int:
        return int(np.prod(self.shape))


def in_free_cells(grid: Grid | None, values: Any) -> Any:
    """The values of a field in cells that are not solid, in a row if any is.

    What stands in the others may be anything, and must have no part in any judgement of a field.
    """
    solid = None if grid is None else grid.solid
    if solid is None or np.shape(values)[-solid.ndim :] != solid.shape:
        return values
    return values[..., ~solid]


def _mesh(along) -> tuple[np.ndarray, ...]:
    return tuple(np.meshgrid(*along, indexing="ij"))


def _as_axes(given: Any) -> tuple[Axis, ...]:
    """The axes of a grid, of which one may be given as it is."""
    axes = tuple(given) if isinstance(given, Iterable) else (given,)
    for axis in axes:
        if not isinstance(axis, Axis):
            raise InputError(
                f"the axes of a grid are a list of Axis, found {axis!r}: write "
                "Grid([Axis('x', 0.0, 1.0, 100)]), or Grid.uniform((100,), ((0.0, 1.0),))."
            )
    return axes


def _check_axes(axes: tuple[Axis, ...]) -> None:
    """Refuse a grid that arrays cannot be laid out on."""
    names = [axis.name for axis in axes]
    if not 1 <= len(names) <= 3:
        raise InputError(f"a grid has 1, 2 or 3 axes, found {len(names)}.")
    if len(set(names)) != len(names):
        raise InputError(f"each axis of a grid needs a name of its own, found {names}.")


def _where(
    solid: Callable[..., ArrayLike], names: tuple[str, ...], centres: Sequence[np.ndarray]
) -> ArrayLike:
    """What a function of positions says of the cells; its parameters name what it is given."""
    asked = tuple(inspect.signature(solid).parameters)
    if not set(asked) <= set(names):
        raise InputError(
            f"solid is a function of {', '.join(asked)}, but the axes are {', '.join(names)}: "
            "name those that it needs."
        )
    places = dict(zip(names, centres, strict=True))
    return solid(**{name: places[name] for name in asked})


def _packed(solid: ArrayLike, shape: tuple[int, ...]) -> bytes | None:
    mask = np.asarray(solid)
    wrong = None
    if mask.dtype != bool:
        wrong = f"holds {mask.dtype}: it must hold truth values, as `array > 0` does"
    elif mask.shape != shape:
        wrong = f"has the shape {mask.shape}: it must have that of the grid, {shape}"
    elif mask.all():
        wrong = f"is true in all of the {mask.size} cells: it must leave one free"
    if wrong:
        raise InputError(f"solid, which is true in the cells of obstacles, {wrong}.")
    return np.packbits(mask).tobytes() if mask.any() else None
