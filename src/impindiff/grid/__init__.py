"""Structured cell-centred grids."""

from impindiff.grid._axis import Axis
from impindiff.grid._grid import Grid

__all__ = ["Axis", "Grid"]
