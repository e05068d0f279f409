"""Structured cell-centred grids."""

from impindiff.grid._grid import Axis, Grid

__all__ = ["Axis", "Grid"]
