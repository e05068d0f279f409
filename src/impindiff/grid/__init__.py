"""Structured cell-centred grids."""

from impindiff.grid._axis import Axis
from impindiff.grid._ends import SIDES, EndNames, Ends, listed_ends, named_ends
from impindiff.grid._grid import Grid, in_free_cells
from impindiff.grid._spacing import round_off

__all__ = [
    "SIDES",
    "Axis",
    "EndNames",
    "Ends",
    "Grid",
    "in_free_cells",
    "listed_ends",
    "named_ends",
    "round_off",
]
