r"""What a preconditioner is, and what it is made from: the linearised system of a step.

An implicit stage inverts $I - w\,\partial F/\partial u$ with a weight $w$, or $q' - w\,\partial
F/\partial u$ where the system has a storage $q$. A preconditioner is a description; from such a
system it makes an approximate inverse, which is applied in every iteration.
"""

import abc
from collections.abc import Callable, Mapping
from typing import NamedTuple, final

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np

from impindiff._types import AbstractTendency, Scalar, State
from impindiff.grid import Grid
from impindiff.linear import AbstractInverse, BlockStencil, Stencil, probe

PERIODIC = "periodic"


class FieldStencils(NamedTuple):
    """What each field does to itself in a right-hand side: $S$, of which a step inverts $I - w S$.

    Attributes:
        stencils: $S$; None for a field without linear terms.
        shape: of the grid.
        spacing: mean cell widths, an axis each.
        mode_kinds: for each field what each axis ends in, see `SpectralInverse`.
        volumes: of the cells; None where all are equal.
    """

    stencils: Mapping[str, Stencil | None]
    shape: tuple[int, ...]
    spacing: tuple[float, ...]
    mode_kinds: Mapping[str, tuple[str, ...]]
    volumes: np.ndarray | None

    def shifted(self, weight: Scalar) -> dict[str, Stencil]:
        """$I - w S$ of each field; the identity of one without linear terms."""
        zero, one = jnp.zeros_like(weight), jnp.ones_like(weight)
        identity = Stencil(one, ((zero, zero),) * len(self.shape))
        return {
            name: identity if stencil is None else stencil.shifted_identity(weight)
            for name, stencil in self.stencils.items()
        }


@final
class LinearisedStep(eqx.Module):
    r"""The system of an implicit step, $q' - w F'$, at a state.

    Attributes:
        tendency: $F$, and $q$ if it has one.
        weight: $w$.
        state: at which what is nonlinear is linearised.
    """

    tendency: AbstractTendency
    weight: Scalar
    state: State

    @property
    def grid(self) -> Grid | None:
        """Where the fields live; None where the right-hand side does not say."""
        return self.tendency.grid

    @property
    def volumes(self) -> np.ndarray | None:
        """The volumes of the cells; None without a grid."""
        return None if self.grid is None else self.grid.cell_volumes()

    @property
    def is_even(self) -> bool:
        """Whether all cells are equal, none of them solid, or there is no grid."""
        grid = self.grid
        return grid is None or (grid.solid is None and all(map(grid.is_even, range(grid.num_axes))))

    @property
    def reaches_further(self) -> bool:
        """Whether fluxes couple more than face neighbours."""
        return self.tendency.linear_part is not None

    @property
    def mode_kinds(self) -> Mapping[str, tuple[str, ...] | None]:
        """For each field what each axis ends in; periodic where the right-hand side does not say.

        None for a field that does not move through faces.
        """
        kinds = self.tendency.mode_kinds
        return {
            field: kinds.get(field, (PERIODIC,) * value.ndim) for field, value in self.state.items()
        }

    def linear_part(self) -> "LinearisedStep":
        """The same of the linear part of the right-hand side, where it names one."""
        linear = self.tendency.linear_part
        return self if linear is None else LinearisedStep(linear, self.weight, self.state)

    def jacobian(self) -> Callable[[State], State]:
        r"""The product with $\partial F/\partial u$.

        With a storage $q$ that of $F' + (I - q') / w$: a step inverts $q' - w F'$, and so $I - w S$
        with this for $S$, as if there were none.
        """
        here = jax.lax.stop_gradient(self.state)
        _, rate = jax.linearize(self.tendency, here)
        if not self.tendency.has_storage:
            return rate
        _, change = jax.linearize(self.tendency.stored, here)

        def product(vector: State) -> State:
            return jax.tree.map(
                lambda f, v, q: f + (v - q) / self.weight, rate(vector), vector, change(vector)
            )

        return product

    def operator(self) -> Callable[[State], State]:
        """The product with the matrix of the step, $q' - w F'$."""
        _, rate = jax.linearize(self.tendency, self.state)
        change = None
        if self.tendency.has_storage:
            _, change = jax.linearize(self.tendency.stored, self.state)

        def product(vector: State) -> State:
            stored = vector if change is None else change(vector)
            return jax.tree.map(lambda q, f: q - self.weight * f, stored, rate(vector))

        return product

    def field_stencils(self) -> FieldStencils:
        r"""What each field does to itself.

        A right-hand side that neither has stencils nor names a linear part with some is linearised,
        and its coefficients are found by coloured products, see `impindiff.linear.probe`. What
        reaches beyond face neighbours is misread, which costs iterations and nothing else. Axes
        whose ends are unknown are taken for periodic: where they are not, coefficients that are
        zero across the boundary say so to all else.

        Raises: InputError for fields of different shapes.
        """
        tendency = self.linear_part().tendency
        if tendency.stencils is not None:
            grid = tendency.grid
            even = all(map(grid.is_even, range(grid.num_axes)))
            volumes = None if even else grid.cell_volumes()
            kinds = tendency.mode_kinds
            return FieldStencils(tendency.stencils, grid.shape, grid.cell_widths, kinds, volumes)
        jacobian = probe(LinearisedStep(tendency, self.weight, self.state).jacobian(), self.state)
        # The leaves of a dictionary come in the order of its sorted names.
        stencils = {field: jacobian.stencil(k) for k, field in enumerate(sorted(self.state))}
        shape = jacobian.centre.shape[2:]
        still = ("neumann",) * len(shape)
        kinds = {field: words or still for field, words in self.mode_kinds.items()}
        return FieldStencils(stencils, shape, (1.0,) * len(shape), kinds, None)

    def blocks(self) -> BlockStencil:
        """The blocks of $q' - w F'$, with all that fields do to each other, by coloured products.

        Raises: InputError for fields of different shapes.
        """
        found = probe(self.jacobian(), self.state)
        centre = found.centre
        grid_axes = (1,) * (centre.ndim - 2)
        identity = jnp.eye(centre.shape[0], dtype=centre.dtype)
        identity = identity.reshape(*centre.shape[:2], *grid_axes)
        sides = tuple((-self.weight * lower, -self.weight * upper) for lower, upper in found.sides)
        shifted = BlockStencil(identity - self.weight * centre, sides, found.structure)
        return jax.lax.stop_gradient(shifted)


class AbstractPreconditioner(eqx.Module):
    """Says how the systems of steps are approximately inverted. A small, immutable description."""

    @abc.abstractmethod
    def make(self, operator: LinearisedStep) -> AbstractInverse | None:
        """The approximate inverse of one system; None where plain iterations are as good.

        Args:
            operator: the system.

        Raises: InputError for a system that it is not made for.
        """
