r"""Fluxes by gradients along a face: what the components of two axes of a tensor move.

$F_a = -\sum_b K_{ab}\,\partial_b u$ has for $b = a$ the two cells of a face, as any diffusion. The
others follow from one quadratic form. A cell has two faces along each axis, and with them a corner
for each choice of one face per axis. With the differences $\delta_a$ across the faces the form is

$$ E = \tfrac12 \sum_\mathrm{corners} V\,\sum_{ab} \rho_{ab}\,q_a\,q_b, \qquad
   q_a = \sqrt{k_a}\,\delta_a, $$

with $k_a$ the diffusivity at the face, by whatever mean, and $\rho_{ab} = K_{ab} /
\sqrt{K_{aa} K_{bb}}$ that of the cell. Where $K$ is positive definite in each cell so is $\rho$,
and so is $E$: the scheme is symmetric and dissipates whatever $K$ does from cell to cell. Where
$k_a = 0$ nothing passes. Derived by $\delta_a$, the flux through a face is the two-point one and

$$ -\sqrt{k_a} \sum_\mathrm{sides} s\,\sum_{b \ne a} \rho_{ab}\,Q_b $$

with the mean $Q_b$ of $q_b$ over the two faces of the cell on either side, and with its share $s$
of the distance. Of a linear field $Q_b$ is exact, on stretched axes, too.

Nothing is known of $q$ at a closed face. There $E$ is least where the flux is zero: $q_n =
-\sum_b \rho_{nb}\,Q_b$. At an end it is what the condition makes it, see `OuterFace`.
"""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import jax.numpy as jnp
from jaxtyping import Array, Float

from impindiff.grid import Grid
from impindiff.linear import neighbour
from impindiff.terms._boundary_face import OuterFace
from impindiff.terms._face_fluxes import Correction
from impindiff.terms._metric import as_metric, between_centres, cells_at, end_distance, open_faces


class FaceRoots(NamedTuple):
    r"""$\sqrt{k}$ at the faces across one axis.

    Attributes:
        upper: at the upper face of every cell.
        ends: at the outer faces of the lower and the upper end; None where it has none.
    """

    upper: Float[Array, "..."]
    ends: tuple[Float[Array, "..."] | None, Float[Array, "..."] | None]


Ends = Sequence[tuple[OuterFace | None, OuterFace | None]]


def oblique_fluxes(
    grid: Grid,
    roots: Sequence[FaceRoots],
    correlation: Mapping[tuple[int, int], Float[Array, "..."]],
    field: Float[Array, "..."],
    outer: Ends,
) -> list[Correction]:
    r"""The fluxes across each axis by the gradients along all others.

    Args:
        grid: where; cartesian.
        roots: for each axis.
        correlation: $\rho_{ab}$ in the cells, the lower number first.
        field: in the cells.
        outer: what is at the ends of each axis, evaluated. An end of which nothing is known is a
            wall.
    """
    axes = range(grid.num_axes)
    means = _cell_means(grid, roots, correlation, field, outer)

    def by_others(axis: int) -> Array:
        parts = [
            correlation[_pair(axis, other)] * means[other]
            for other in axes
            if _pair(axis, other) in correlation
        ]
        return sum(parts, start=jnp.zeros_like(field))

    def along(axis: int) -> Correction:
        moved, between = by_others(axis), between_centres(grid, axis)
        below, above = (as_metric(part, field) for part in (between.below, between.above))
        upper = -roots[axis].upper * (below * moved + above * neighbour(moved, axis, +1))

        def at_end(side: int) -> Array | None:
            end, root = outer[axis][side], roots[axis].ends[side]
            if end is None or root is None:
                return None
            place = cells_at(grid, axis, side)
            outward = (-1 if side else 1) * root * moved[place] * (1 - jnp.asarray(end.share))
            return outward if grid.solid is None else jnp.where(grid.solid[place], 0, outward)

        return Correction(upper, (at_end(0), at_end(1)))

    return [along(axis) for axis in axes]


def safe_root(value: Float[Array, "..."]) -> Float[Array, "..."]:
    """The square root; zero, and without a slope, of what is not positive."""
    is_positive = value > 0
    return jnp.where(is_positive, jnp.sqrt(jnp.where(is_positive, value, 1)), 0)


def _pair(one: int, other: int) -> tuple[int, int]:
    return (one, other) if one < other else (other, one)


def _cell_means(
    grid: Grid,
    roots: Sequence[FaceRoots],
    correlation: Mapping[tuple[int, int], Float[Array, "..."]],
    field: Float[Array, "..."],
    outer: Ends,
) -> list[Float[Array, "..."]]:
    r"""$Q_b$ of each axis: of faces whose $q$ follows from the others that, too.

    With the share $m_b$ of them in the mean they solve $Q_b + m_b \sum_a \rho_{ab} Q_a = Q_b^0$ in
    each cell.
    """
    known, shares = [], []
    for axis in range(grid.num_axes):
        mean, share = _known_mean(grid, axis, roots[axis], field, outer[axis])
        known.append(mean)
        shares.append(share)
    if all(share is None for share in shares):
        return known
    axes, one = range(grid.num_axes), jnp.ones((), field.dtype)

    def entry(row: int, column: int) -> Array:
        if row == column:
            return one
        share = shares[row]
        if share is None or _pair(row, column) not in correlation:
            return jnp.zeros_like(one)
        return share * correlation[_pair(row, column)]

    matrix = [[entry(row, column) for column in axes] for row in axes]
    # By elimination: what is scaled to a diagonal of ones is positive definite, with no pivoting.
    for pivot in axes:
        for row in range(pivot + 1, grid.num_axes):
            factor = matrix[row][pivot] / _or_one(matrix[pivot][pivot])
            known[row] = known[row] - factor * known[pivot]
            matrix[row] = [
                own - factor * other for own, other in zip(matrix[row], matrix[pivot], strict=True)
            ]
    for row in reversed(axes):
        for column in range(row + 1, grid.num_axes):
            known[row] = known[row] - matrix[row][column] * known[column]
        known[row] = known[row] / _or_one(matrix[row][row])
    return known


def _known_mean(
    grid: Grid,
    axis: int,
    roots: FaceRoots,
    field: Float[Array, "..."],
    outer: tuple[OuterFace | None, OuterFace | None],
) -> tuple[Float[Array, "..."], Float[Array, "..."] | None]:
    """The mean over both faces of what is known of them, and the share that is not; None for none.

    Args:
        grid: where.
        axis: across which the faces lie.
        roots: at the faces.
        field: in the cells.
        outer: at the ends.
    """
    distance = as_metric(between_centres(grid, axis).distance, field)
    upper = roots.upper * (neighbour(field, axis, +1) - field) / distance
    passable = open_faces(grid, axis)
    if passable is None:
        return (upper + neighbour(upper, axis, -1)) / 2, None
    upper = jnp.where(passable, upper, 0)
    faces = [neighbour(upper, axis, -1), upper]
    closed = jnp.asarray(~passable, field.dtype)
    follows = [neighbour(closed, axis, -1), closed]
    for side, (end, root) in enumerate(zip(outer, roots.ends, strict=True)):
        if end is None or root is None:
            continue
        place = cells_at(grid, axis, side)
        slope = (end.value - field[place]) / end_distance(grid, axis, side)
        known = root * (slope if side else -slope)
        share = jnp.broadcast_to(jnp.asarray(end.share, field.dtype), field[place].shape)
        faces[side] = faces[side].at[place].set(known)
        follows[side] = follows[side].at[place].set(share)
    return (faces[0] + faces[1]) / 2, (follows[0] + follows[1]) / 2


def _or_one(value: Float[Array, "..."]) -> Float[Array, "..."]:
    return jnp.where(value == 0, 1, value)
