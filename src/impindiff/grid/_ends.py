"""Ends of the domain, as they are named: by an axis, or an axis and a side of it."""

from collections.abc import Sequence

from impindiff._errors import InputError
from impindiff.grid._grid import Grid

SIDES = ("lower", "upper")

Ends = str | Sequence[str | Sequence[str]]
"""As users write them: `"y"` for both ends of an axis, `("y", "lower")` for one, or several."""

EndNames = tuple[str | tuple[str, ...], ...]
"""The same in one form: an axis, or a pair of axis and side, for each."""


def listed_ends(given: Ends, whose: str) -> EndNames:
    """Names of ends in one form, which has a hash.

    Args:
        given: as users write them.
        whose: begins the message.

    Raises: InputError for what is neither a name nor names.
    """
    if isinstance(given, str):
        return (given,)
    # Text is a sequence, too.
    if not (isinstance(given, Sequence) and all(isinstance(one, Sequence) for one in given)):
        raise InputError(
            f"{whose} is {given!r}: name ends, such as 'y', ('y', 'lower'), or a list of these."
        )
    pair = tuple(one for one in given if isinstance(one, str))
    if len(given) == 2 and pair[1:] and pair[1] in SIDES:
        return (pair,)
    return tuple(one if isinstance(one, str) else tuple(one) for one in given)


def named_ends(grid: Grid, names: EndNames, whose: str) -> frozenset[tuple[int, int]]:
    """The ends that names mean: number of the axis, and side, 0 for the lower and 1 for the upper.

    Args:
        grid: whose ends they are.
        names: see `listed_ends`. An axis stands for each end that it has.
        whose: begins the message.

    Raises: InputError for an axis that the grid does not have or that has no ends, for a side that
        is none, and for the axis of symmetry or the centre.
    """
    found = set()
    for name in names:
        axis, side = (name, None) if isinstance(name, str) else (*name, "")[:2]
        if axis not in grid.names or (side is not None and (len(name) != 2 or side not in SIDES)):
            raise InputError(
                f"{whose} names {name!r}: name an axis of the grid "
                f"({', '.join(map(repr, grid.names))}) for all its ends, or one end of it, such as "
                f"({grid.names[-1]!r}, 'lower') or ({grid.names[-1]!r}, 'upper')."
            )
        number = grid.names.index(axis)
        wanted = (0, 1) if side is None else (SIDES.index(side),)
        there = [(number, one) for one in wanted if grid.has_end(number, one)]
        if not there:
            radius = grid.radius_along(number)
            kind = "is periodic" if radius is None else f"begins at {radius.origin}"
            raise InputError(
                f"{whose} names {name!r}, but the axis {axis!r} {kind} and has no such end: leave "
                "it out."
            )
        found.update(there)
    return frozenset(found)
