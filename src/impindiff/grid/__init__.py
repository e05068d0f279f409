"""Structured cell-centred grids, and what is to be evaluated on them."""

from impindiff.grid._axis import Axis
from impindiff.grid._coefficient import (
    AbstractCoefficient,
    Function,
    as_coefficients,
    is_coefficient,
)
from impindiff.grid._grid import Grid

__all__ = ["AbstractCoefficient", "Axis", "Function", "Grid", "as_coefficients", "is_coefficient"]
