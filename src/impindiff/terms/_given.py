"""What cannot be a coefficient, whatever the term: refused where it is given."""

from collections.abc import Mapping, Set
from typing import Any

import equinox as eqx
import numpy as np
from jax.core import Tracer

from impindiff._errors import InputError


def check_given(value: Any, what: str, *, text_too: bool = False) -> None:
    """Refuse what is no coefficient of any kind.

    Args:
        value: what stands where a coefficient does.
        what: how messages call it, such as "the diffusivity".
        text_too: whether text is refused here. `System` does it otherwise, and says whose it is.

    Raises: InputError.
    """
    holds_text = isinstance(value, list | tuple) and any(isinstance(v, str) for v in value)
    unfit = (Mapping, Set, type, *([str] if text_too else []))
    if value is None or holds_text or isinstance(value, unfit):
        raise InputError(
            f"{what} is {value!r:.80}: it must be a number, an array of the grid's shape, a "
            "function such as lambda t, x: ..., or learned (Parameter, CellField, SineField, "
            "NeuralClosure)."
        )


def check_not_negative(value: Any, what: str) -> None:
    """Refuse a number, or array, that is known to be negative or not finite somewhere.

    Raises: InputError.
    """
    if isinstance(value, Tracer) or not eqx.is_array_like(value):
        return
    values = np.ravel(value)
    wrong = values[~((values >= 0) & (values < np.inf))]
    if wrong.size:
        raise InputError(f"{what} is {wrong[0]}: it must be finite and not negative.")
