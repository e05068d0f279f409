"""Structured cell-centred grids."""

from impindiff.grid._axis import Axis
from impindiff.grid._ends import SIDES, EndNames, Ends, listed_ends, named_ends
from impindiff.grid._grid import Grid

__all__ = ["SIDES", "Axis", "EndNames", "Ends", "Grid", "listed_ends", "named_ends"]
