"""Positions along an axis, as files hold them: in order, and equally spaced up to rounding."""

import numpy as np
from numpy.typing import ArrayLike

from impindiff._errors import InputError

# Relative to a cell's width: steps that differ by more are not one spacing.
_SPACING_RTOL = 1e-4
# Relative to it, too: centres further from their places in a row of equal cells are no such row.
_PLACE_RTOL = 0.05
_REMEDY = "Say where the cells end, or interpolate the data to equal cells."


def increasing(kind: str, name: str, positions: ArrayLike) -> np.ndarray:
    """The positions in float64.

    Args:
        kind: what messages call them.
        name: of the axis.
        positions: at least two numbers, each larger than the one before.

    Raises: InputError for anything else.
    """
    given, what = np.asarray(positions), f"{kind} {name!r}"
    if given.ndim != 1 or given.size < 2 or given.dtype.kind not in "fiu":
        raise InputError(
            f"{what} must be a list of at least 2 positions, as numbers; "
            f"found {given.dtype} of shape {given.shape}."
        )
    found = given.astype(np.float64)
    if not np.all(np.isfinite(found)):
        at = int(np.argmin(np.isfinite(found)))
        raise InputError(f"{what} must be finite: entry {at} is {found[at]}.")
    steps = np.diff(found)
    if np.any(steps <= 0):
        at = int(np.argmax(steps <= 0))
        raise InputError(
            f"{what} must increase: entry {at + 1} is {found[at + 1]:g} after {found[at]:g}. "
            f"Sort the data along {name!r}."
        )
    return found


def equal_cells(name: str, centres: np.ndarray) -> tuple[float, float, int]:
    """Lower bound, upper bound and number of the equal cells that have these centres.

    Raises: InputError if they are not equally spaced.
    """
    steps = np.diff(centres)
    width = (centres[-1] - centres[0]) / (centres.size - 1)
    rounding = round_off(centres)
    worst = int(np.argmax(np.abs(steps - width)))
    if abs(steps[worst] - width) > _SPACING_RTOL * width + rounding:
        raise InputError(
            f"coordinate {name!r} must be uniform: its mean spacing is {width:g}, but entries "
            f"{worst} and {worst + 1} are {steps[worst]:g} apart. "
            f"{_REMEDY}"
        )
    # Each step may pass for round-off where all of them together do not.
    away = np.abs(centres - np.linspace(centres[0], centres[-1], centres.size))
    far = int(np.argmax(away))
    if away[far] > _PLACE_RTOL * width + rounding:
        raise InputError(
            f"coordinate {name!r} must be uniform: its mean spacing is {width:g}, but entry {far} "
            f"is {away[far]:g} from its place in an even row. {_REMEDY}"
        )
    digits = -int(np.ceil(np.log10(rounding)))

    def tidy(bound: float) -> float:
        # Not where it would move the cells: far from the origin, float32 holds few decimals.
        shorter = round(float(bound), digits)
        return shorter if abs(shorter - bound) < 0.01 * width else float(bound)

    return tidy(centres[0] - width / 2), tidy(centres[-1] + width / 2), int(centres.size)


def round_off(positions: np.ndarray) -> float:
    """Round-off of a spacing between these numbers, or of a bound drawn from them."""
    # The values decide, not the dtype: a float32 file read into float64 is no more precise for it.
    # Numbers stored in float32 are off by half its last digit, those computed in float64 by a few.
    largest = np.abs(positions).max()
    with np.errstate(over="ignore"):
        if np.array_equal(positions, positions.astype(np.float32)):
            return 2 * float(np.spacing(np.float32(largest)))
    return 8 * float(np.spacing(largest))
