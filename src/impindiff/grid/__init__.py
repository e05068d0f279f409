"""Structured cell-centred grids, and what is to be evaluated on them."""

from impindiff.grid._coefficient import (
    AbstractCoefficient,
    Function,
    as_coefficient,
    is_coefficient,
)
from impindiff.grid._grid import Axis, Grid

__all__ = ["AbstractCoefficient", "Axis", "Function", "Grid", "as_coefficient", "is_coefficient"]
