"""One axis of a structured grid: cells in a row, equal or stretched, closed to a ring or not."""

from collections.abc import Iterable
from functools import partial
from typing import Self, final

import equinox as eqx
import numpy as np
from numpy.typing import ArrayLike

from impindiff._errors import InputError, as_count, as_flag, as_number, as_text
from impindiff.grid._spacing import equal_cells, increasing, round_off

# Relative to the mean cell width: cells that differ by less are equal.
_EQUAL = 1e-9
# The same of the narrowest cell: widths that differ by more do so by no round-off.
_MOST_ROUNDING = 1e-3


def _floats(values: Iterable[float]) -> tuple[float, ...]:
    """Python's own, so that axes are told apart by their values."""
    return tuple(map(float, values))


@final
class Axis(eqx.Module):
    r"""One axis of equal cells, $x_i = a + (i + 1/2)\,(b - a)/N$; stretched by `from_faces`.

    Args:
        name: the coordinate's name, as in the data (`x`, `y`, `z`).
        lower: position $a$ of the first cell's outer face.
        upper: position $b$ of the last cell's outer face, in the same units.
        num_cells: number of cells $N$: at least 1, at least 2 where the axis is periodic.
        periodic: whether the face after the last cell is the face before the first. If not, the
            axis has two ends, and a field that moves along it needs a condition at each.
        inner_faces: the $N - 1$ faces between the cells; none where the cells are equal. Use
            `from_faces` or `graded`.

    Raises: InputError if the interval is empty or not finite, or has too few cells.
    """

    name: str = eqx.field(static=True, converter=partial(as_text, what="the name of an axis"))
    lower: float = eqx.field(static=True, converter=partial(as_number, what="the bound of an axis"))
    upper: float = eqx.field(static=True, converter=partial(as_number, what="the bound of an axis"))
    num_cells: int = eqx.field(static=True, converter=partial(as_count, what="a number of cells"))
    periodic: bool = eqx.field(
        static=True, default=False, converter=partial(as_flag, what="whether an axis is periodic")
    )
    inner_faces: tuple[float, ...] = eqx.field(static=True, default=(), converter=_floats)

    def __check_init__(self) -> None:
        """Refuse an axis on which no flux could be formed."""
        if not (np.isfinite(self.lower) and np.isfinite(self.upper) and self.upper > self.lower):
            raise InputError(
                f"axis {self.name!r} runs from {self.lower} to {self.upper}: "
                "give finite bounds, the upper one larger."
            )
        if self.num_cells < 1 + self.periodic:
            raise InputError(
                f"axis {self.name!r} has {self.num_cells} cell(s): a periodic axis needs at "
                "least 2, any other at least 1. Leave the axis out for a problem that does not "
                "vary along it."
            )
        if self.inner_faces and (
            len(self.inner_faces) != self.num_cells - 1 or np.any(self.widths <= 0)
        ):
            raise InputError(
                f"axis {self.name!r} of {self.num_cells} cells has {len(self.inner_faces)} inner "
                f"faces: there must be {self.num_cells - 1}, increasing and between the bounds. "
                "Axis.from_faces takes all faces in one list."
            )

    @property
    def length(self) -> float:
        """From end to end, $b - a$; the period of a periodic axis."""
        return self.upper - self.lower

    @property
    def is_uniform(self) -> bool:
        """Whether all cells are equal."""
        return not self.inner_faces

    @property
    def cell_width(self) -> float:
        """The mean cell width, which is every cell's where the axis is uniform."""
        return self.length / self.num_cells

    @property
    def faces(self) -> np.ndarray:
        """All faces, the two outer ones included, shape `(num_cells + 1,)`, float64."""
        if self.is_uniform:
            return self.lower + np.arange(self.num_cells + 1) * self.cell_width
        return np.array([self.lower, *self.inner_faces, self.upper])

    @property
    def centres(self) -> np.ndarray:
        """Cell centres, midway between faces, shape `(num_cells,)`, float64."""
        if self.is_uniform:
            return self.lower + (np.arange(self.num_cells) + 0.5) * self.cell_width
        return (self.faces[1:] + self.faces[:-1]) / 2

    @property
    def widths(self) -> np.ndarray:
        """Width of each cell, shape `(num_cells,)`, float64."""
        if self.is_uniform:
            return np.full(self.num_cells, self.cell_width)
        return np.diff(self.faces)

    @classmethod
    def from_faces(cls, name: str, faces: ArrayLike, *, periodic: bool = False) -> Self:
        """The axis of cells between these faces, equal or not.

        Raises: InputError for fewer than two faces, or faces that do not increase.
        """
        faces = increasing("the faces of axis", name, faces)
        widths = np.diff(faces)
        # Whole metres far from the origin are float32, of which a metre may be the round-off.
        rounding = min(round_off(faces), _MOST_ROUNDING * widths.min())
        equal = np.allclose(widths, widths.mean(), rtol=_EQUAL, atol=rounding)
        inner = () if equal else tuple(float(face) for face in faces[1:-1])
        return cls(name, float(faces[0]), float(faces[-1]), faces.size - 1, periodic, inner)

    @classmethod
    def graded(cls, name: str, lower: float, upper: float, num_cells: int, ratio: float) -> Self:
        """An axis whose cells grow by one factor from each to the next; it has two ends.

        Args:
            name: the coordinate's name.
            lower: the first outer face.
            upper: the last outer face.
            num_cells: number of cells, at least 2.
            ratio: width of the last cell over that of the first. Above 1 the cells are fine at the
                lower end, below 1 at the upper.

        Raises: InputError for a ratio that is not positive and finite, or too few cells.
        """
        lower, upper, ratio = (
            as_number(each, f"a bound or the ratio of axis {name!r}")
            for each in (lower, upper, ratio)
        )
        num_cells = as_count(num_cells, "a number of cells")
        if not 0 < ratio < np.inf or num_cells < 2:
            raise InputError(
                f"axis {name!r} is graded over {num_cells} cell(s) with ratio {ratio}: give at "
                "least 2 cells, and a positive ratio of the last cell's width to the first's."
            )
        widths = ratio ** (np.arange(num_cells) / (num_cells - 1))
        inner = np.cumsum(widths)[:-1] / widths.sum()
        return cls.from_faces(name, [lower, *(lower + (upper - lower) * inner), upper])

    @classmethod
    def from_centres(cls, name: str, centres: ArrayLike, *, periodic: bool = False) -> Self:
        """The axis of equal cells with these centres, read from a file in float32 or float64.

        The bounds are rounded to the digits that the centres hold: a bound of 0.1 comes back from
        float32 as 0.1, not as 0.10000000149.

        Raises: InputError if the centres do not increase, or not by equal steps.
        """
        centres = increasing("coordinate", name, centres)
        return cls(name, *equal_cells(name, centres), periodic)
