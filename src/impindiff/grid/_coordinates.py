"""Coordinates of a grid: how much space there is at a distance from an axis or a centre.

Areas of faces and volumes of cells are products of a factor for each axis. Coordinates differ in
the factor of the first one, where it is a distance.
"""

from collections.abc import Callable, Mapping
from typing import Literal, NamedTuple

import numpy as np

from impindiff._errors import InputError
from impindiff.grid._axis import Axis

Coordinates = Literal["cartesian", "cylindrical", "spherical"]


class Radius(NamedTuple):
    r"""A first axis that is a distance, $r \ge 0$.

    Attributes:
        origin: what lies at $r = 0$.
        others: which other axes there may be, for messages.
        max_axes: how many axes there may be.
        area: of a face at each $r$, per unit of length along the other axes.
        volume: between the faces around centres $r$, of widths $\Delta r$; the same.
    """

    origin: str
    others: str
    max_axes: int
    area: Callable[[np.ndarray], np.ndarray]
    volume: Callable[[np.ndarray, np.ndarray], np.ndarray]


# By centre and width, not as a difference of powers: a thin shell far out keeps its digits.
RADII: Mapping[Coordinates, Radius | None] = {
    "cartesian": None,
    "cylindrical": Radius(
        "the axis of symmetry",
        "at most one more along it",
        2,
        lambda r: 2 * np.pi * r,
        lambda r, width: 2 * np.pi * r * width,
    ),
    "spherical": Radius(
        "the centre",
        "no other, for fields that vary with the distance alone",
        1,
        lambda r: 4 * np.pi * r**2,
        lambda r, width: 4 * np.pi * (r**2 + width**2 / 12) * width,
    ),
}


def check_coordinates(coordinates: Coordinates, axes: tuple[Axis, ...]) -> None:
    """Refuse coordinates that there are not, and axes that do not go with them.

    Raises: InputError.
    """
    if coordinates not in RADII:
        raise InputError(f"coordinates {coordinates!r} are not one of {', '.join(RADII)}.")
    radius = RADII[coordinates]
    if radius is None:
        return
    first = axes[0]
    if first.periodic or first.lower < 0 or len(axes) > radius.max_axes:
        raise InputError(
            f"a {coordinates} grid has the distance from {radius.origin} as its first axis, and "
            f"{radius.others}; found {len(axes)} axes, the first, {first.name!r}, from "
            f"{first.lower:g}{' and periodic' * first.periodic}. Begin it at 0 or above, not "
            "periodic."
        )
