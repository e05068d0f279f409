r"""Slopes within cells that make a scheme of second order without new extremes."""

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from impindiff.grid import Grid
from impindiff.linear import neighbour
from impindiff.terms._metric import Metric, as_metric, between_centres, cells_at, open_faces

OuterValues = tuple[Float[Array, "..."] | None, Float[Array, "..."] | None]
"""A field at the outer faces of an axis, of the shape of the cells beside them; None where unknown.
"""


def limited_step(
    field: Float[Array, "..."], grid: Grid, axis: int, outer: OuterValues = (None, None)
) -> Float[Array, "..."]:
    r"""How much a field grows from each cell's centre to its upper face.

    $\frac{w}{2}\,\frac{g_+ g_- (c_+ g_- + c_- g_+)}{g_-^2 + (c_+ + c_- - 2)\,g_+ g_- + g_+^2}$
    with the gradients $g_\pm$ towards the two neighbours, the distances $c_\pm$ of their centres
    in half widths $w/2$ of the cell, and zero where the gradients differ in sign. With equal
    cells it is van Leer's harmonic mean. The values that result at the cell's faces lie between
    its own and those of its neighbours. Towards an end the neighbour is the outer face itself, half
    a cell away, where its value is known. Else, and towards a solid cell, the gradient is taken
    for zero, and the scheme is of first order there.

    Reference: A. Mignone, J. Comput. Phys. 270 (2014) 784, eq. (37).
    """
    distance = as_metric(between_centres(grid, axis).distance, field)
    forward = (neighbour(field, axis, +1) - field) / distance
    passable = open_faces(grid, axis)
    if passable is not None:
        forward = jnp.where(passable, forward, 0)
    backward = neighbour(forward, axis, -1)
    half, ahead, behind = _distances(grid, axis, outer)
    half, ahead, behind = (as_metric(metric, field) for metric in (half, ahead, behind))
    for side, value in enumerate(outer):
        if value is not None:
            place = cells_at(grid, axis, side)
            towards = jnp.broadcast_to(half, grid.shape)[place]
            gradient = (value - field[place]) / towards
            if side:
                forward = forward.at[place].set(gradient)
            else:
                backward = backward.at[place].set(-gradient)
    # In units of the steeper of the two, which the result is proportional to: squares of what is
    # left far from a front, and more so their derivatives, would be zero in single precision.
    size = jax.lax.stop_gradient(jnp.maximum(jnp.abs(forward), jnp.abs(backward)))
    size = jnp.where(size > 0, size, 1)
    forward, backward = forward / size, backward / size
    product = forward * backward
    same_sign = product > 0
    total = backward**2 + (ahead + behind - 2) * product + forward**2
    weighted = product * (ahead * backward + behind * forward)
    return size * jnp.where(same_sign, half * weighted / jnp.where(same_sign, total, 1), 0)


def _distances(grid: Grid, axis: int, outer: OuterValues) -> tuple[Metric, Metric, Metric]:
    """Half of each cell's width; how many of them to the next value ahead, and behind."""
    row = grid.axes[axis]
    if row.is_uniform and outer == (None, None):
        return row.cell_width / 2, 2.0, 2.0
    halves = row.widths / 2
    ahead, behind = (1 + np.roll(halves, -offset) / halves for offset in (1, -1))
    if outer[1] is not None:
        ahead[-1] = 1
    if outer[0] is not None:
        behind[0] = 1
    return grid.spread(halves, axis), grid.spread(ahead, axis), grid.spread(behind, axis)
