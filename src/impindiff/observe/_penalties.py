r"""Penalties on learned coefficients: what is held against them beside the observations.

Each penalty is a sum of squares $\sum r^2$, as the misfit is: of a least-squares problem it is so
many more equations. Integrals are means over the open volume, so that a weight means the same on
any grid.
"""

import abc
from collections.abc import Mapping, Sequence
from typing import NamedTuple, final

import equinox as eqx
import jax.numpy as jnp
import numpy as np
from jax.flatten_util import ravel_pytree
from jaxtyping import Array, Float, PyTree

from impindiff._errors import InputError, as_names, as_number
from impindiff.grid import EndNames, Ends, Grid, listed_ends, named_ends
from impindiff.observe._operator import on_grid


class Slopes(NamedTuple):
    """Differences across the upper faces of all cells along one axis, zero where one is closed.

    Attributes:
        value: the gradient.
        share: the volume between the two centres, as a share of the open volume.
        reach: distance of the centres times the area of the face, over the volume of the cell.
    """

    value: Float[Array, "..."]
    share: np.ndarray
    reach: np.ndarray


def open_share(grid: Grid) -> np.ndarray:
    """Volume of each cell over that of all that are not solid; zero in those that are."""
    volumes = grid.cell_volumes()
    if grid.solid is not None:
        volumes = np.where(grid.solid, 0.0, volumes)
    return volumes / volumes.sum()


def face_gradients(values: Float[Array, "..."], grid: Grid) -> list[Slopes]:
    """The gradient along each axis, second order between equal cells."""
    volumes = grid.cell_volumes()
    free = np.ones(grid.shape, bool) if grid.solid is None else ~grid.solid
    total, found = volumes[free].sum(), []
    for axis, row in enumerate(grid.axes):
        halves = row.widths / 2
        distance = grid.spread(halves + np.roll(halves, -1), axis)
        between = (volumes + np.roll(volumes, -1, axis)) / 2
        is_open = free & np.roll(free, -1, axis)
        if not row.periodic:
            is_open &= grid.spread(np.arange(row.num_cells) < row.num_cells - 1, axis)
        slope = (jnp.roll(values, -1, axis) - values) / distance.astype(values.dtype)
        areas = grid.face_measures(axis)[1:] / grid.cell_measures(axis)
        found.append(
            Slopes(
                jnp.where(is_open, slope, 0),
                np.where(is_open, between, 0) / total,
                (distance * grid.spread(areas, axis)).astype(values.dtype),
            )
        )
    return found


def divergence(
    velocity: Sequence[Float[Array, "..."]],
    grid: Grid,
    walls: frozenset[tuple[int, int]] = frozenset(),
) -> Float[Array, "..."]:
    """What flows out of each cell per volume, zero in solid ones; see `DivergenceFree`."""
    free = np.ones(grid.shape, bool) if grid.solid is None else ~grid.solid
    total = jnp.zeros(grid.shape, velocity[0].dtype)
    for axis, (along, row) in enumerate(zip(velocity, grid.axes, strict=True)):
        wide = np.roll(row.widths, -1)
        below = grid.spread(wide / (row.widths + wide), axis).astype(along.dtype)
        at_upper = below * along + (1 - below) * jnp.roll(along, -1, axis)
        at_upper = jnp.where(free & np.roll(free, -1, axis), at_upper, 0)
        at_lower = jnp.roll(at_upper, 1, axis)
        if not row.periodic:
            place = grid.spread(np.arange(row.num_cells), axis)
            first, last = (
                0 if (axis, side) in walls else _at_end(along, grid, axis, side) for side in (0, 1)
            )
            at_upper = jnp.where(place == row.num_cells - 1, last, at_upper)
            at_lower = jnp.where(place == 0, first, at_lower)
        measures, faces = grid.cell_measures(axis), grid.face_measures(axis)
        upper = grid.spread(faces[1:] / measures, axis).astype(along.dtype)
        lower = grid.spread(faces[:-1] / measures, axis).astype(along.dtype)
        total += upper * at_upper - lower * at_lower
    return jnp.where(free, total, 0)


def _at_end(along: Float[Array, "..."], grid: Grid, axis: int, side: int) -> Float[Array, "..."]:
    """The values at an outer face, on the straight line through the two cells next to it."""
    cells, widths = grid.shape[axis], grid.axes[axis].widths
    last = cells - 1 if side else 0
    inner = max(cells - 2, 0) if side else min(1, cells - 1)
    outer, before = (jnp.take(along, np.array([at]), axis) for at in (last, inner))
    return outer + (outer - before) * float(widths[last] / (widths[last] + widths[inner]))


Latents = Mapping[str, Array]
"""Learned coefficients on the grid, by name."""

Names = str | Sequence[str]

_WALLS = "walls= of DivergenceFree"


class AbstractPenalty(eqx.Module):
    """A sum of squares that training adds to the misfit."""

    weight: eqx.AbstractVar[float]

    @property
    def slopes_of(self) -> tuple[str, ...]:
        """Names of the coefficients of which it sees the slopes alone, which a number has not."""
        return ()

    @abc.abstractmethod
    def residuals(
        self, latents: Latents, learned: PyTree, grid: Grid | None
    ) -> Float[Array, " entries"]:
        r"""The vector $r$ whose squares add up to the penalty, the weight included.

        Args:
            latents: the steady learned coefficients on the grid, by name.
            learned: the learned arrays.
            grid: the grid, where there is one.
        """


def _check_weight(penalty: AbstractPenalty) -> None:
    if not 0 < as_number(penalty.weight, f"the weight of {type(penalty).__name__}") < np.inf:
        raise InputError(
            f"{type(penalty).__name__} has weight {penalty.weight}: it must be positive and "
            "finite. Leave the penalty out where nothing is to be held against a coefficient."
        )


@final
class Smoothness(AbstractPenalty):
    r"""$w\,\frac{1}{|\Omega|}\int |\nabla k|^2\,\mathrm{d}V$ (Tikhonov): steep slopes cost much.

    Args:
        latent: name of a learned coefficient, or a list of names.
        weight: $w > 0$.

    Differences are taken across faces, none through an end or an obstacle.
    Raises: InputError for a weight that is not positive and finite, or, when it is used, a name
        that no steady learned coefficient has.
    """

    latents: tuple[str, ...] = eqx.field(static=True)
    weight: float = eqx.field(static=True)

    def __init__(self, latent: Names, weight: float) -> None:
        self.latents, self.weight = as_names(latent, "what Smoothness is on"), weight

    def __check_init__(self) -> None:
        """Refuse a weight that does nothing, or harm."""
        _check_weight(self)

    @property
    def slopes_of(self) -> tuple[str, ...]:
        """See `AbstractPenalty.slopes_of`."""
        return self.latents

    def residuals(
        self, latents: Latents, learned: PyTree, grid: Grid | None
    ) -> Float[Array, " entries"]:
        """See `AbstractPenalty.residuals`."""
        grid = on_grid(grid, type(self).__name__)
        parts = []
        for name in self.latents:
            for slope in face_gradients(_named(latents, name, self), grid):
                parts.append((slope.value * np.sqrt(self.weight * slope.share)).ravel())
        return jnp.concatenate(parts)


@final
class TotalVariation(AbstractPenalty):
    r"""$w\,\frac{1}{|\Omega|}\int \sqrt{|\nabla k|^2 + \varepsilon^2}\,\mathrm{d}V$: edges stay.

    A jump costs its height, however steep it is and whatever the cells; `Smoothness` would smear
    it.

    Args:
        latent: name of a learned coefficient, or a list of names.
        weight: $w > 0$.
        epsilon: $\varepsilon > 0$, in units of the gradient: below it, slopes cost as with
            `Smoothness`. A constant coefficient costs $w\,\varepsilon$.

    Raises: InputError as `Smoothness`.
    Reference: Rudin, Osher & Fatemi (1992), Physica D 60, 259.
    """

    latents: tuple[str, ...] = eqx.field(static=True)
    weight: float = eqx.field(static=True)
    epsilon: float = eqx.field(static=True)

    def __init__(self, latent: Names, weight: float, *, epsilon: float = 1e-3) -> None:
        self.latents = as_names(latent, "what TotalVariation is on")
        self.weight, self.epsilon = weight, epsilon

    def __check_init__(self) -> None:
        """Refuse a weight that does nothing, or harm."""
        _check_weight(self)
        if not 0 < as_number(self.epsilon, "epsilon of TotalVariation") < np.inf:
            raise InputError(
                f"TotalVariation has epsilon {self.epsilon}: it must be positive and finite, for "
                "the square root has no slope at zero."
            )

    @property
    def slopes_of(self) -> tuple[str, ...]:
        """See `AbstractPenalty.slopes_of`."""
        return self.latents

    def residuals(
        self, latents: Latents, learned: PyTree, grid: Grid | None
    ) -> Float[Array, " entries"]:
        """See `AbstractPenalty.residuals`."""
        grid = on_grid(grid, type(self).__name__)
        parts = []
        for name in self.latents:
            slopes = face_gradients(_named(latents, name, self), grid)
            # The cell's volume times this is what the jump across its upper face costs: with the
            # gradient itself, a jump between cells of different sizes would cost more or less.
            squared = sum((slope.value * slope.reach) ** 2 for slope in slopes) + self.epsilon**2
            share = np.sqrt(self.weight * open_share(grid))
            parts.append((share * squared**0.25).ravel())
        return jnp.concatenate(parts)


@final
class DivergenceFree(AbstractPenalty):
    r"""$w\,\frac{1}{|\Omega|}\int (\nabla\cdot v)^2\,\mathrm{d}V$ of a learned velocity.

    Args:
        components: names of the components, one for each axis in the grid's order.
        weight: $w > 0$.
        walls: ends of the domain through which nothing flows, those with `NoFlux`: `"y"` for both
            ends of an axis, `("y", "lower")` for one, or a list of these. With them a flow into a
            wall counts as divergence; without, what is lost there goes unseen.

    At faces the velocity is interpolated between the two cells, at an end of the domain
    extrapolated; at a wall and at a solid cell it is zero, as nothing passes there.
    Raises: InputError as `Smoothness`, or for another number of components than there are axes, or
        for walls that are no ends of the grid.
    """

    components: tuple[str, ...] = eqx.field(static=True)
    weight: float = eqx.field(static=True)
    walls: EndNames = eqx.field(static=True)

    def __init__(self, components: Names, weight: float, *, walls: Ends = ()) -> None:
        self.components, self.weight = as_names(components, "what DivergenceFree is on"), weight
        self.walls = listed_ends(walls, _WALLS)

    def __check_init__(self) -> None:
        """Refuse a weight that does nothing, or harm."""
        _check_weight(self)

    @property
    def slopes_of(self) -> tuple[str, ...]:
        """See `AbstractPenalty.slopes_of`."""
        return self.components

    def residuals(
        self, latents: Latents, learned: PyTree, grid: Grid | None
    ) -> Float[Array, " entries"]:
        """See `AbstractPenalty.residuals`."""
        grid = on_grid(grid, type(self).__name__)
        if len(self.components) != grid.num_axes:
            raise InputError(
                f"DivergenceFree names {self.components}: a velocity on this grid has "
                f"{grid.num_axes} components, one for each of {', '.join(grid.names)}."
            )
        velocity = [_named(latents, name, self) for name in self.components]
        share = np.sqrt(self.weight * open_share(grid))
        walls = named_ends(grid, self.walls, _WALLS)
        return (divergence(velocity, grid, walls) * share).ravel()


@final
class WeightDecay(AbstractPenalty):
    r"""$w\sum_i \theta_i^2$ over all learned numbers: of networks, their weights.

    Args:
        weight: $w > 0$.

    Raises: InputError for a weight that is not positive and finite.
    """

    weight: float = eqx.field(static=True)

    def __check_init__(self) -> None:
        """Refuse a weight that does nothing, or harm."""
        _check_weight(self)

    def residuals(
        self, latents: Latents, learned: PyTree, grid: Grid | None
    ) -> Float[Array, " entries"]:
        """See `AbstractPenalty.residuals`."""
        flat, _ = ravel_pytree(learned)
        return jnp.sqrt(self.weight) * flat


def _named(latents: Latents, name: str, penalty: AbstractPenalty) -> Array:
    if name not in latents:
        raise InputError(
            f"{type(penalty).__name__} is on {name!r}, but the learned coefficients are "
            f"{', '.join(map(repr, latents)) or 'none'}: name one of these."
        )
    return latents[name]
