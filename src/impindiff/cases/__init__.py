"""The built-in cases, each a folder as a user's own would be.

Such a folder holds a config, and where its equations are no kind that configs know by name the
Python that states them, `system.py`, which uses nothing but what `impindiff` offers everyone. How
the data are made is the package's own, `__init__.py`.
"""

import difflib

from impindiff._errors import InputError
from impindiff.cases._case import Case
from impindiff.cases.advection_diffusion_dynamic import ADVECTION_DIFFUSION_DYNAMIC
from impindiff.cases.advection_diffusion_steady import ADVECTION_DIFFUSION_STEADY
from impindiff.cases.burgers import BURGERS_DYNAMIC, BURGERS_STEADY, BURGERS_VECTOR
from impindiff.cases.vapour_infiltration import VAPOUR_INFILTRATION, VAPOUR_INFILTRATION_PLANE

CASES: dict[str, Case] = {
    case.name: case
    for case in (
        ADVECTION_DIFFUSION_STEADY,
        ADVECTION_DIFFUSION_DYNAMIC,
        BURGERS_STEADY,
        BURGERS_DYNAMIC,
        BURGERS_VECTOR,
        VAPOUR_INFILTRATION,
        VAPOUR_INFILTRATION_PLANE,
    )
}


def case_named(name: str) -> Case:
    """A built-in case.

    Raises: InputError for another name, with the nearest one.
    """
    if name not in CASES:
        near = difflib.get_close_matches(name, CASES, n=1)
        hint = f" Did you mean {near[0]!r}?" if near else ""
        raise InputError(f"there is no case {name!r}; allowed: {', '.join(CASES)}.{hint}")
    return CASES[name]


__all__ = ["CASES", "Case", "case_named"]
