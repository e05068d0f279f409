"""Geometric multigrid as a preconditioner: one cycle, a fixed linear map.

What a smoother cannot remove on a grid is smooth there, and rough on a coarser one. One cycle costs
a few products with the operator on the finest grid, and leaves an error that does not depend on how
fine that is.
"""

from typing import NamedTuple, Self, final

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, PyTree

from impindiff._errors import InputError, as_count
from impindiff._types import Vector
from impindiff.linear import AbstractInverse, Stencil
from impindiff.precondition._balanced import BalancedInverse, balanced_fields
from impindiff.precondition._coarsening import Faces, Transfer, coarsen
from impindiff.precondition._preconditioner import AbstractPreconditioner, LinearisedStep

Field = Float[Array, "..."]

# An axis is not halved below this, and what remains is solved densely.
_FEWEST_CELLS = 5
# Axes are coarsened together whose spacings differ by less: the tightly coupled ones first.
_SIMILAR = 1.5


@final
class Level(eqx.Module):
    """One grid of the hierarchy: the operator on it, and the way to the next."""

    stencil: Stencil
    inverse_diagonal: Field
    transfers: tuple[Transfer, ...]


@final
class Hierarchy(eqx.Module):
    """All grids for one field, and the inverse on the coarsest."""

    levels: tuple[Level, ...]
    inverse: Float[Array, "cells cells"]


def check_cycle(cycle: str, sweeps: int) -> None:
    """Refuse cycles that are not there.

    Raises: InputError.
    """
    if cycle not in ("V", "W") or as_count(sweeps, "the number of sweeps of multigrid") < 1:
        raise InputError(
            f"multigrid with cycle={cycle!r}, sweeps={sweeps}: the cycle must be 'V' or 'W', and "
            "there must be at least 1 sweep."
        )


@final
class MultigridCycle(AbstractInverse):
    r"""One multigrid cycle with red-black Gauss-Seidel smoothing.

    For operators of diffusion and upwind advection with coefficients that vary, or jump by orders
    of magnitude, on grids of any size in one to three dimensions, periodic or not. The number of
    iterations then hardly grows as the grid is refined or the time step lengthened. Where
    coefficients are nearly constant `SpectralInverse` is cheaper.

    Args:
        hierarchies: see `MultigridCycle.build`.
        cycle: "V" visits each coarser grid once, "W" twice where it has at most a third of the
            cells.
        sweeps: smoothing before and after the coarser grid, each.
        transposed: whether it is the transpose of what was built.
        volumes: of the cells, where they differ.

    Diffusion alone is served well by one sweep and a V-cycle, which is symmetric where the operator
    is, as CG needs. Where advection carries more than diffusion between two cells, a coarse grid is
    a poor image of a fine one: then W-cycles and two sweeps, the default, keep the count down.

    Raises: InputError for another cycle, or no sweeps.
    Reference: Wesseling, An Introduction to Multigrid Methods (1992), chapters 4, 5 and 7.
    """

    hierarchies: PyTree[Hierarchy]
    cycle: str = eqx.field(static=True, default="W")
    sweeps: int = eqx.field(static=True, default=2)
    transposed: bool = eqx.field(static=True, default=False)
    volumes: Field | None = None

    def __check_init__(self) -> None:
        """Refuse cycles that are not there."""
        check_cycle(self.cycle, self.sweeps)

    @classmethod
    def build(
        cls,
        stencils: PyTree[Stencil],
        shape: tuple[int, ...],
        spacing: tuple[float, ...] | None = None,
        *,
        cycle: str = "W",
        sweeps: int = 2,
        volumes: np.ndarray | None = None,
    ) -> Self:
        """Set up the grids; costs about as much as a few cycles. Not differentiated.

        Args:
            stencils: the operator, a stencil for each leaf of the unknown.
            shape: of the grid.
            spacing: cell widths, where they differ: an axis whose cells are much wider than others
                is coarsened only when those have caught up.
            cycle: see `MultigridCycle`.
            sweeps: see `MultigridCycle`.
            volumes: of the cells, where they differ: what leaves one enters another only per unit
                of time, not of volume and time, and equations are taken apart by what is exchanged.
        """
        spacing = (1.0,) * len(shape) if spacing is None else spacing

        weights = None
        if volumes is not None:
            # Of mean one: coefficients keep their size.
            dtype = jax.tree.leaves(stencils)[0].dtype
            weights = jnp.asarray(volumes / volumes.mean(), dtype)

        def build(stencil: Stencil) -> Hierarchy:
            whole = stencil if weights is None else stencil.scaled(weights)
            return _build(jax.lax.stop_gradient(whole), shape, spacing)

        hierarchies = jax.tree.map(build, stencils, is_leaf=lambda s: isinstance(s, Stencil))
        return cls(hierarchies, cycle, sweeps, volumes=weights)

    def apply(self, vector: Vector) -> Vector:
        """One cycle from zero."""
        if self.transposed:
            (found,) = jax.linear_transpose(self._cycle, vector)(vector)
            return found
        return self._cycle(vector)

    def transpose(self) -> Self:
        """The transposed cycle, on the same grids."""
        return type(self)(
            self.hierarchies, self.cycle, self.sweeps, not self.transposed, self.volumes
        )

    def _cycle(self, vector: Vector) -> Vector:
        def one(residual: Field, hierarchy: Hierarchy) -> Field:
            if self.volumes is not None:
                residual = self.volumes * residual
            return _Cycle(hierarchy, self.cycle == "W", self.sweeps).visit(0, residual)

        return jax.tree.map(one, vector, self.hierarchies)


def _build(stencil: Stencil, shape: tuple[int, ...], spacing: tuple[float, ...]) -> Hierarchy:
    faces, levels, widths = Faces.of(stencil, shape), [], list(spacing)
    while long := [a for a, n in enumerate(faces.kept.shape) if n >= _FEWEST_CELLS]:
        stencil = faces.stencil()
        finest = min(widths[axis] for axis in long)
        transfers = []
        for axis in long:
            if widths[axis] <= _SIMILAR * finest:
                faces, transfer = coarsen(faces, axis)
                transfers.append(transfer)
                widths[axis] *= 2
        levels.append(Level(stencil, _reciprocal(stencil.centre), tuple(transfers)))
    return Hierarchy(tuple(levels), _invert(faces.stencil(), faces.kept.shape))


def _invert(stencil: Stencil, shape: tuple[int, ...]) -> Float[Array, "cells cells"]:
    size = int(np.prod(shape))
    units = jnp.eye(size, dtype=stencil.centre.dtype).reshape(size, *shape)
    matrix = jax.vmap(stencil)(units).reshape(size, size).T
    inverse = jnp.linalg.inv(matrix)
    # Of a singular one the diagonal serves: it is only a preconditioner.
    return jnp.where(jnp.isfinite(inverse).all(), inverse, jnp.diag(_reciprocal(jnp.diag(matrix))))


class _Cycle(NamedTuple):
    """The cycle for one field."""

    hierarchy: Hierarchy
    twice: bool
    sweeps: int

    def visit(self, depth: int, residual: Field) -> Field:
        """Solve on one grid, about, from zero."""
        if depth == len(self.hierarchy.levels):
            return (self.hierarchy.inverse @ residual.ravel()).reshape(residual.shape)
        level = self.hierarchy.levels[depth]
        red = _red(residual.shape)

        def smooth(x: Field, colour) -> Field:
            return x + jnp.where(colour, level.inverse_diagonal * (residual - level.stencil(x)), 0)

        x = smooth(jnp.where(red, level.inverse_diagonal * residual, 0), ~red)
        for _ in range(self.sweeps - 1):
            x = smooth(smooth(x, red), ~red)
        coarse = residual - level.stencil(x)
        for transfer in level.transfers:
            coarse = transfer.restrict(coarse)
        coarse = self._descend(depth + 1, coarse, coarse.size * 3 <= residual.size)
        for transfer in reversed(level.transfers):
            coarse = transfer.prolong(coarse)
        x = x + coarse
        # In the opposite order, which makes the whole symmetric.
        for _ in range(self.sweeps):
            x = smooth(smooth(x, ~red), red)
        return x

    def _descend(self, depth: int, residual: Field, much_smaller: bool) -> Field:
        exact = depth == len(self.hierarchy.levels)
        if exact or not (self.twice and much_smaller):
            return self.visit(depth, residual)
        stencil = self.hierarchy.levels[depth].stencil

        def improve(x: Field, _: None) -> tuple[Field, None]:
            return x + self.visit(depth, residual - stencil(x)), None

        # A loop, for written out the program would double from grid to grid.
        return jax.lax.scan(improve, jnp.zeros_like(residual), None, length=2)[0]


def _red(shape: tuple[int, ...]) -> np.ndarray:
    """Every second cell, as on a chessboard."""
    return np.indices(shape, sparse=False).sum(0) % 2 == 0


def _reciprocal(values: Field) -> Field:
    return jnp.where(values == 0, 1, 1 / jnp.where(values == 0, 1, values))


@final
class Multigrid(AbstractPreconditioner):
    """One multigrid cycle: for stiff steps with coefficients that vary or jump, and for advection.

    Args:
        cycle: "V" or "W", see `MultigridCycle`.
        sweeps: smoothing before and after each coarser grid.

    For diffusion without advection `Multigrid("V", 1)` is cheaper.

    Raises: InputError for another cycle, or no sweeps.
    """

    cycle: str = eqx.field(static=True, default="W")
    sweeps: int = eqx.field(static=True, default=2)

    def __check_init__(self) -> None:
        """Refuse cycles that are not there."""
        check_cycle(self.cycle, self.sweeps)

    def make(self, operator: LinearisedStep) -> BalancedInverse:
        """See `AbstractPreconditioner.make`."""
        parts = operator.field_stencils()
        inner = MultigridCycle.build(
            parts.shifted(operator.weight),
            parts.shape,
            parts.spacing,
            cycle=self.cycle,
            sweeps=self.sweeps,
            volumes=parts.volumes,
        )
        return balanced_fields(inner, parts, operator)
