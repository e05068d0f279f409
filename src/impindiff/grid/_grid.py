"""Cells in rows: a structured grid is the product of its axes.

Fields live at cell centres and are arrays of the grid's shape, the first axis first. Every axis is
periodic and uniform: the face after the last cell is the face before the first.
"""

from typing import Self, final

import equinox as eqx
import numpy as np

from impindiff._errors import InputError

# Relative to a cell's width: steps that differ by more are not one spacing.
_SPACING_RTOL = 1e-4


@final
class Axis(eqx.Module):
    r"""One periodic axis of equal cells, $x_i = a + (i + 1/2)\,(b - a)/N$.

    Args:
        name: the coordinate's name, as in the data (`x`, `y`, `z`).
        lower: position $a$ of the first cell's outer face.
        upper: position $b$ of the last cell's outer face, in the same units.
        num_cells: number of cells $N \ge 2$.

    Raises: InputError if the interval is empty or not finite, or has fewer than two cells.
    """

    name: str = eqx.field(static=True)
    lower: float = eqx.field(static=True, converter=float)
    upper: float = eqx.field(static=True, converter=float)
    num_cells: int = eqx.field(static=True)

    def __check_init__(self) -> None:
        """Refuse an axis on which no flux could be formed."""
        if not (np.isfinite(self.lower) and np.isfinite(self.upper) and self.upper > self.lower):
            raise InputError(
                f"axis {self.name!r} runs from {self.lower} to {self.upper}: "
                "give finite bounds, the upper one larger."
            )
        if self.num_cells < 2:
            raise InputError(
                f"axis {self.name!r} has {self.num_cells} cell(s): a periodic axis needs at "
                "least 2. Leave the axis out for a problem that does not vary along it."
            )

    @property
    def length(self) -> float:
        """The period $b - a$."""
        return self.upper - self.lower

    @property
    def cell_width(self) -> float:
        """Distance between neighbouring faces, and between neighbouring centres."""
        return self.length / self.num_cells

    @property
    def centres(self) -> np.ndarray:
        """Cell centres, shape `(num_cells,)`, float64."""
        return self.lower + (np.arange(self.num_cells) + 0.5) * self.cell_width

    @classmethod
    def from_centres(cls, name: str, centres: np.ndarray) -> Self:
        """The axis whose cells have these centres, read from a file in float32 or float64.

        The bounds are rounded to the digits that the centres hold: a bound of 0.1 comes back from
        float32 as 0.1, not as 0.10000000149.

        Raises: InputError if the centres do not increase, or not by equal steps.
        """
        given = np.asarray(centres)
        if given.ndim != 1 or given.size < 2 or given.dtype.kind not in "fiu":
            raise InputError(
                f"coordinate {name!r} must be a list of at least 2 cell centres, as numbers; "
                f"found {given.dtype} of shape {given.shape}."
            )
        centres = given.astype(np.float64)
        if not np.all(np.isfinite(centres)):
            at = int(np.argmin(np.isfinite(centres)))
            raise InputError(f"coordinate {name!r} must be finite: entry {at} is {centres[at]}.")
        steps = np.diff(centres)
        if np.any(steps <= 0):
            at = int(np.argmax(steps <= 0))
            raise InputError(
                f"coordinate {name!r} must increase: entry {at + 1} is {centres[at + 1]:g} after "
                f"{centres[at]:g}. Sort the data along {name!r}."
            )
        width = (centres[-1] - centres[0]) / (centres.size - 1)
        rounding = _rounding(centres)
        worst = int(np.argmax(np.abs(steps - width)))
        if abs(steps[worst] - width) > _SPACING_RTOL * width + rounding:
            raise InputError(
                f"coordinate {name!r} must be uniform: its mean spacing is {width:g}, but entries "
                f"{worst} and {worst + 1} are {steps[worst]:g} apart. "
                "Interpolate the data to equal cells."
            )
        digits = -int(np.ceil(np.log10(rounding)))

        def tidy(bound: float) -> float:
            # Not where it would move the cells: far from the origin, float32 holds few decimals.
            shorter = round(float(bound), digits)
            return shorter if abs(shorter - bound) < 0.01 * width else float(bound)

        lower, upper = tidy(centres[0] - width / 2), tidy(centres[-1] + width / 2)
        return cls(name, lower, upper, int(centres.size))


def _rounding(centres: np.ndarray) -> float:
    """Round-off of a spacing between these numbers, or of a bound drawn from them."""
    # The values decide, not the dtype: a float32 file read into float64 is no more precise for it.
    # Numbers stored in float32 are off by half its last digit, those computed in float64 by a few.
    largest = np.abs(centres).max()
    with np.errstate(over="ignore"):
        if np.array_equal(centres, centres.astype(np.float32)):
            return 2 * float(np.spacing(np.float32(largest)))
    return 8 * float(np.spacing(largest))


@final
class Grid(eqx.Module):
    """A structured grid of one, two or three periodic axes.

    Args:
        axes: the axes in the order of the arrays' dimensions.

    Raises: InputError for no axis, more than three, or two of one name.
    """

    axes: tuple[Axis, ...] = eqx.field(static=True, converter=tuple)

    def __check_init__(self) -> None:
        """Refuse a grid that arrays cannot be laid out on."""
        names = [axis.name for axis in self.axes]
        if not 1 <= len(names) <= 3:
            raise InputError(f"a grid has 1, 2 or 3 axes, found {len(names)}.")
        if len(set(names)) != len(names):
            raise InputError(f"each axis of a grid needs a name of its own, found {names}.")

    @classmethod
    def uniform(cls, shape: tuple[int, ...], bounds: tuple[tuple[float, float], ...]) -> Self:
        """A grid of axes `x`, `y`, `z` with the given numbers of cells and bounds.

        Example: `Grid.uniform((128, 64), ((-1, 1), (0, 1)))`.
        """
        if len(shape) != len(bounds):
            raise InputError(
                f"shape {shape} has {len(shape)} axes, bounds {bounds} has {len(bounds)}."
            )
        if len(shape) > 3:
            raise InputError(f"a grid has 1, 2 or 3 axes, found {len(shape)}: shape {shape}.")
        triples = zip("xyz", shape, bounds, strict=False)
        return cls(tuple(Axis(name, *bound, num) for name, num, bound in triples))

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
        """Cell width along each axis."""
        return tuple(axis.cell_width for axis in self.axes)

    @property
    def cell_volume(self) -> float:
        """Measure of one cell (all are equal)."""
        return float(np.prod(self.cell_widths))

    def centres(self) -> tuple[np.ndarray, ...]:
        """Coordinates of every cell centre, one array of the grid's shape for each axis."""
        return tuple(np.meshgrid(*(axis.centres for axis in self.axes), indexing="ij"))
