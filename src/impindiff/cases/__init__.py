"""The built-in cases: a config each, the function that returns its equations, and its data.

`system.py` states the equations with nothing but what `impindiff` offers everyone; `__init__.py`
makes the data.
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
