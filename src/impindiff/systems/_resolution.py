"""Advice where single precision hardly resolves the field whose flux carries others.

Such a flux is a conductance times the difference of two neighbours. A pressure of 1e5 that drops by
1 over fifty cells differs by 0.02 between them, and numbers at 1e5 are 0.008 apart in float32: its
velocities have hardly one right digit, however well the equations are solved. As the difference
from a reference pressure the same field has five.
"""

import numpy as np
from jaxtyping import Array

from impindiff._types import GivenState
from impindiff.grid import Grid
from impindiff.linear import is_coarse
from impindiff.systems._flux_of import carriers
from impindiff.systems._ranges import Prepared

# Spacings between numbers that neighbours must be apart, for velocities right to so many parts.
_SPACINGS = 500
# Fewer than these are the rounding of a field that does not vary.
_NOISE = 2.0


def unresolved(system: Prepared, states: GivenState, saved: np.ndarray) -> tuple[str, ...]:
    """What is to be said of fields that carry others by differences near their own round-off.

    Args:
        system: the equations.
        states: the saved ones, along a leading axis.
        saved: their times.
    """
    grid = system.scope.grid
    if grid is None or not len(saved):
        return ()
    found = (_advice(grid, field, states[field], saved) for field in carriers(system.equations))
    return tuple(filter(None, found))


def _advice(grid: Grid, field: str, states: Array | np.ndarray, saved: np.ndarray) -> str:
    if not is_coarse(states.dtype):
        return ""
    free = np.ones(grid.shape, bool) if grid.solid is None else ~grid.solid
    values = np.asarray(states)
    typical = [
        max(_typical(one.astype(np.float64), free, axis) for axis in range(one.ndim))
        for one in values
    ]
    # A field that has come to rest carries nothing: what is left between its cells is rounding.
    at = int(np.argmax(typical))
    largest = np.abs(values[at][free]).max()
    spacing = float(np.spacing(largest))
    if not np.isfinite(largest) or not _NOISE < typical[at] / spacing < _SPACINGS:
        return ""
    return (
        f"the flux of {field!r} carries other fields, but {values.dtype} hardly resolves it: at t "
        f"= {saved[at]:.4g} neighbouring cells differ by {typical[at]:.2g} (root mean square), and "
        f"numbers at {largest:.4g} are {spacing:.2g} apart. State {field!r} as the difference from "
        'a reference, or compute in double precision: jax.config.update("jax_enable_x64", True).'
    )


def _typical(values: np.ndarray, free: np.ndarray, axis: int) -> float:
    """The root mean square of the differences between free neighbours along an axis."""
    both = np.delete(free & np.roll(free, -1, axis), -1, axis)
    differences = np.diff(values, axis=axis)[both]
    return float(np.sqrt(np.mean(differences**2))) if differences.size else 0.0
