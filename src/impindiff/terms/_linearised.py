"""The stencils of a right-hand side: its own, or those of its Jacobian, probed."""

from collections.abc import Callable, Mapping
from typing import Any, Protocol, final, runtime_checkable

import equinox as eqx
import jax
import numpy as np

from impindiff._types import BalanceTendency, Scalar, State, Tendency
from impindiff.grid import Grid
from impindiff.implicit import Stencil, probe


@runtime_checkable
class Assembled(Protocol):
    """A right-hand side whose linear part is one stencil for each field."""

    @property
    def stencils(self) -> Mapping[str, Stencil | None]:
        """The stencils; None for a field without linear terms."""
        ...

    @property
    def shape(self) -> tuple[int, ...]:
        """The grid's shape."""
        ...

    @property
    def spacing(self) -> tuple[float, ...]:
        """Mean cell widths, an axis each."""
        ...

    @property
    def volumes(self) -> np.ndarray | None:
        """Volumes of the cells; None where all are equal."""
        ...

    @property
    def mode_kinds(self) -> Mapping[str, tuple[str, ...]]:
        """For each field what each axis ends in, see `impindiff.implicit.Spectral`."""
        ...


@runtime_checkable
class Ended(Protocol):
    """A right-hand side that knows what the grid's axes end in, field by field."""

    @property
    def mode_kinds(self) -> Mapping[str, tuple[str, ...] | None]:
        """For each field what each axis ends in; None for one that does not move through faces."""
        ...


@runtime_checkable
class OnGrid(Protocol):
    """A right-hand side that knows its grid."""

    @property
    def grid(self) -> Grid | None:
        """The grid; None without."""
        ...


@runtime_checkable
class Corrected(Tendency, Protocol):
    """A right-hand side that names a linear one like it, which serves for preconditioning."""

    linear_part: Any


@final
class ProbedJacobian(eqx.Module):
    """What each field does to itself in a right-hand side near a state; cells taken for cubes.

    Axes whose ends nobody tells are taken for periodic by what needs to know. Where they are not,
    coefficients that are zero across the boundary say so to all else.
    """

    stencils: dict[str, Stencil]
    shape: tuple[int, ...] = eqx.field(static=True)
    spacing: tuple[float, ...] = eqx.field(static=True)
    kinds: tuple[tuple[str, tuple[str, ...]], ...] = eqx.field(static=True)
    volumes: None = None

    @property
    def mode_kinds(self) -> Mapping[str, tuple[str, ...]]:
        """See `Assembled`."""
        return dict(self.kinds)


def linearised(tendency: Tendency, weight: Scalar, state: State) -> Assembled:
    r"""The stencils $S$, field by field, of which a step inverts $I - w S$.

    Args:
        tendency: the right-hand side. One that is neither `Assembled` nor names such a one is
            linearised at the state and its coefficients found by coloured products, see
            `impindiff.implicit.probe`; what reaches beyond face neighbours is misread, which costs
            iterations and nothing else.
        weight: $w$.
        state: where to linearise.

    Raises: InputError for fields of different shapes.
    """
    if isinstance(tendency, Corrected):
        tendency = tendency.linear_part
    if isinstance(tendency, Assembled):
        return tendency
    jacobian = probe(products(tendency, weight, state), state)
    # The leaves of a dictionary come in the order of its sorted names.
    stencils = {field: jacobian.stencil(k) for k, field in enumerate(sorted(state))}
    shape = jacobian.centre.shape[2:]
    still = ("neumann",) * len(shape)
    kinds = tuple((field, words or still) for field, words in kinds_of(tendency, state).items())
    return ProbedJacobian(stencils, shape, (1.0,) * len(shape), kinds)


def grid_of(tendency: Tendency) -> Grid | None:
    """The grid of a right-hand side; None where there is none, or it is not told."""
    return tendency.grid if isinstance(tendency, OnGrid) else None


def volumes_of(tendency: Tendency) -> np.ndarray | None:
    """The volumes of the cells; None where nobody tells."""
    grid = grid_of(tendency)
    return None if grid is None else grid.cell_volumes()


def kinds_of(tendency: Tendency, state: State) -> Mapping[str, tuple[str, ...] | None]:
    """For each field what each axis ends in, see `Ended`; periodic where it is not told."""
    known = tendency.mode_kinds if isinstance(tendency, Ended) else {}
    return {field: known.get(field, ("periodic",) * value.ndim) for field, value in state.items()}


def products(tendency: Tendency, weight: Scalar, state: State) -> Callable[[State], State]:
    r"""The product with $\partial F/\partial u$ at a state.

    With a storage $q$ that of $F' + (I - q') / w$: a step inverts $q' - w F'$, and so $I - w S$
    with this for $S$, as if there were none.
    """
    here = jax.lax.stop_gradient(state)
    _, rate = jax.linearize(tendency, here)
    if not isinstance(tendency, BalanceTendency):
        return rate
    _, change = jax.linearize(tendency.stored, here)

    def product(vector: State) -> State:
        return jax.tree.map(
            lambda f, v, q: f + (v - q) / weight, rate(vector), vector, change(vector)
        )

    return product
