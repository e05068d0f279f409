"""The built-in cases."""

import difflib

from impindiff._errors import InputError
from impindiff.cases._advection_diffusion_steady import ADVECTION_DIFFUSION_STEADY
from impindiff.cases._case import Case

CASES: dict[str, Case] = {case.name: case for case in (ADVECTION_DIFFUSION_STEADY,)}


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
