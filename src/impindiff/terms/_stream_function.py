"""Plane velocities without divergence: what is learned of them is one number for each place.

Of a stream function at the corners of the cells the velocities at the faces are differences, and
what enters a cell leaves it whatever the function is.
"""

from collections.abc import Sequence
from functools import lru_cache
from typing import Any, final

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from impindiff._errors import InputError
from impindiff._types import Scalar
from impindiff.coefficients import AbstractCoefficient, as_coefficients
from impindiff.grid import EndNames, Ends, Grid, listed_ends, named_ends
from impindiff.terms._term import check_coefficient


@final
class StreamFunction(AbstractCoefficient):
    r"""The velocity $v_x = U_x + \partial\psi/\partial y$, $v_y = U_y - \partial\psi/\partial x$.

    Args:
        psi: $\psi$ in the cells: a field that is learned, an array of the grid's shape, a function.
            It is interpolated to the corners, at the ends of the domain extrapolated.
        walls: ends of the domain through which nothing flows, those with `NoFlux`: `"y"` for both
            ends of an axis, `("y", "lower")` for one, or a list of these. Nothing flows into
            obstacles either, named or not.
        mean_flow: $(U_x, U_y)$: of each a number, a `Parameter` or a function of `t`. Around a
            periodic axis $\psi$ alone carries nothing on the whole. Where it would run into a wall
            it is the number 0.

    For `Advection` on plane grids; evaluated, it is what a `FaceVelocity` is. The divergence is
    zero to round-off in every cell, so that a uniform field stays uniform. To that end $\psi$ is
    replaced, along walls and around obstacles, by its mean over each piece that hangs together:
    where it is learned, it has to learn to be even there, or the flow slips along the wall.

    Raises: InputError for what is no coefficient, for a mean flow of other than two components or
        into a wall, for walls that are no names, and, when
        evaluated, for a grid that is not plane, walls that are no ends of it, or a mean flow across
        an obstacle that lies on the seam of a periodic axis.
    """

    psi: Any
    mean_flow: tuple[Any, Any]
    walls: EndNames = eqx.field(static=True)
    # Known here and not when evaluated: under a transformation a number may be an unknown.
    is_flowing: tuple[bool, ...] = eqx.field(static=True)

    def __init__(
        self, psi: Any, *, walls: Ends = (), mean_flow: Sequence[Any] | Array = (0.0, 0.0)
    ) -> None:
        self.walls = listed_ends(walls, "walls= of StreamFunction")
        each = tuple(mean_flow) if isinstance(mean_flow, Sequence | np.ndarray | Array) else ()
        if len(each) != 2:
            raise InputError(
                f"the mean flow of a StreamFunction is {mean_flow!r:.80}: give two components, "
                "mean_flow=(along_x, along_y)."
            )
        check_coefficient(psi, "the stream function", text_too=True)
        for part in each:
            check_coefficient(part, "the mean flow of a StreamFunction", text_too=True)
        self.psi, self.mean_flow = as_coefficients(psi), tuple(map(as_coefficients, each))
        self.is_flowing = tuple(not (isinstance(u, int | float) and u == 0) for u in self.mean_flow)

    @property
    def is_steady(self) -> bool:
        """As steady as its parts, which are evaluated first."""
        return True

    def evaluate(
        self, grid: Grid | None, time: Scalar | None = None
    ) -> tuple[Float[Array, "..."], Float[Array, "..."]]:
        """An array of all faces for each axis, see `FaceVelocity`."""
        if grid is None or grid.num_axes != 2 or grid.coordinates != "cartesian":
            kind = "none" if grid is None else f"{grid.coordinates}, of {grid.num_axes} axes"
            raise InputError(
                f"a StreamFunction gives plane velocities, on Cartesian grids of two axes; the "
                f"grid is {kind}. Give components, and hold DivergenceFree against them."
            )
        walls = named_ends(grid, self.walls, "walls= of StreamFunction")
        self._check_mean_flow(grid, walls)
        psi = jnp.asarray(self.psi, jnp.result_type(self.psi, float))
        if psi.shape not in ((), grid.shape) or any(map(jnp.ndim, self.mean_flow)):
            shapes = [psi.shape, *map(jnp.shape, self.mean_flow)]
            raise InputError(
                f"a StreamFunction has psi and mean_flow of the shapes {shapes}: on this grid psi "
                f"must be one number for each cell, of shape {grid.shape}, and each component of "
                "the mean flow a number."
            )
        corners = self._at_corners(jnp.broadcast_to(psi, grid.shape), grid, walls)
        widths = [grid.spread(row.widths, k).astype(psi.dtype) for k, row in enumerate(grid.axes)]
        # The last face of a periodic axis is its first, and is left out.
        count_x, count_y = (row.num_cells + (not row.periodic) for row in grid.axes)
        along_x = (jnp.diff(corners, axis=1) / widths[1])[:count_x]
        along_y = (-jnp.diff(corners, axis=0) / widths[0])[:, :count_y]
        return along_x, along_y

    def _at_corners(
        self, psi: Float[Array, "..."], grid: Grid, walls: frozenset[tuple[int, int]]
    ) -> Float[Array, "..."]:
        """The stream function, that of the mean flow included, at all corners."""
        for axis in (0, 1):
            psi = _at_faces(psi, grid, axis)
        u_x, u_y = (jnp.asarray(u, psi.dtype) for u in self.mean_flow)
        slopes = -u_y, u_x
        for axis, row in enumerate(grid.axes):
            faces = row.faces[: psi.shape[axis]].astype(psi.dtype)
            psi = psi + slopes[axis] * grid.spread(faces, axis)
        psi = _even_on(_rigid(grid, walls), psi)
        for axis, row in enumerate(grid.axes):
            if row.periodic:
                again = jnp.take(psi, np.array([0]), axis) + slopes[axis] * row.length
                psi = jnp.concatenate([psi, again], axis)
        return psi

    def _check_mean_flow(self, grid: Grid, walls: frozenset[tuple[int, int]]) -> None:
        for axis, name in enumerate(grid.names):
            other, solid = grid.names[1 - axis], grid.solid
            if self.is_flowing[axis] and any(wall == axis for wall, _ in walls):
                raise InputError(
                    f"a StreamFunction has a mean flow along {name!r}, into the walls that it "
                    "names there: give the number 0 for it, or leave out the walls."
                )
            if not (self.is_flowing[1 - axis] and grid.axes[axis].periodic) or solid is None:
                continue
            if solid.take(-1, axis).any():
                raise InputError(
                    f"a StreamFunction has a mean flow along {other!r}, and an obstacle lies at "
                    f"the upper end of the periodic axis {name!r}: let the axis begin elsewhere, "
                    "so that none lies across its seam."
                )


def _at_faces(values: Float[Array, "..."], grid: Grid, axis: int) -> Float[Array, "..."]:
    """Values at the faces across an axis, on straight lines through those of two cells each.

    Of a periodic axis the last face, which is the first, is left out.
    """
    widths, values = grid.axes[axis].widths, jnp.moveaxis(values, axis, 0)
    below = (widths / (widths + np.roll(widths, 1))).astype(values.dtype)[:, None]
    inner = below * jnp.roll(values, 1, 0) + (1 - below) * values
    if not grid.axes[axis].periodic:
        ends = values[np.array([0, -1])]
        if len(widths) > 1:
            share = (widths[[0, -1]] / (widths[[0, -1]] + widths[[1, -2]])).astype(values.dtype)
            ends += (ends - values[np.array([1, -2])]) * share[:, None]
        inner = jnp.concatenate([ends[:1], inner[1:], ends[1:]])
    return jnp.moveaxis(inner, 0, axis)


def _even_on(pieces: np.ndarray, corners: Float[Array, "..."]) -> Float[Array, "..."]:
    """Values at the corners, in each piece its mean; what belongs to none has the number 0."""
    count = pieces.max() + 1
    if count == 1:
        return corners
    sizes = np.bincount(pieces.ravel(), minlength=count).clip(1).astype(corners.dtype)
    means = jax.ops.segment_sum(corners.ravel(), pieces.ravel(), count) / sizes
    return jnp.where(pieces == 0, corners, means[pieces])


@lru_cache(maxsize=16)
def _rigid(grid: Grid, walls: frozenset[tuple[int, int]]) -> np.ndarray:
    """The number of the piece that each corner belongs to, 0 for those of no closed face.

    A face that nothing passes has one value at both its corners; pieces are what such faces join.
    """
    solid = np.zeros(grid.shape, bool) if grid.solid is None else grid.solid
    rings = [row.periodic for row in grid.axes]
    shape = [count + (not ring) for count, ring in zip(grid.shape, rings, strict=True)]
    numbers, edges = np.arange(np.prod(shape)).reshape(shape), []
    for axis, ring in enumerate(rings):
        across = np.moveaxis(solid, axis, 0)
        closed = across | np.roll(across, 1, 0)
        if not ring:
            ends = [across[k] | ((axis, side) in walls) for k, side in ((0, 0), (-1, 1))]
            closed = np.stack([ends[0], *closed[1:], ends[1]])
        along = np.moveaxis(numbers, axis, 0)
        cells = closed.shape[1]
        edges.append(np.stack([along[:, :cells], np.roll(along, -1, 1)[:, :cells]])[:, closed])
    one, other = np.concatenate(edges, axis=1)
    # Each corner points to the least number that it is known to hang together with.
    least, before = numbers.ravel(), None
    while before is None or np.any(before != least):
        before, lower = least, np.minimum(least[one], least[other])
        least = before.copy()
        np.minimum.at(least, before[one], lower)
        np.minimum.at(least, before[other], lower)
        least = least[least]
    is_rigid = np.isin(numbers, [one, other])
    found = np.zeros(shape, int)
    found[is_rigid] = 1 + np.unique(least.reshape(shape)[is_rigid], return_inverse=True)[1]
    return found
