"""What is open about a stepper, and what is at hand where its coefficients are traced."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any, Protocol, runtime_checkable

import jax
import jax.numpy as jnp
import numpy as np

from impindiff._types import Dynamics, Scalar, State
from impindiff.grid import Grid
from impindiff.implicit import AbstractPreconditioner, Automatic, Deferred
from impindiff.integrate import AbstractStepper
from impindiff.rollout._choice import SMALL
from impindiff.terms import Corrected, Preconditioning, fourier, line, multigrid


@runtime_checkable
class Preparable(Protocol):
    """A system whose steady parts can be evaluated once for many steps."""

    def prepare(self, dtype: jnp.dtype) -> Dynamics:
        """The system with every steady coefficient evaluated, in the given precision."""
        ...


@runtime_checkable
class OnGrid(Protocol):
    """What lives on a grid."""

    @property
    def grid(self) -> Grid | None:
        """The grid."""
        ...


def is_automatic(stepper: AbstractStepper) -> bool:
    """Whether a stepper leaves it open how its systems are solved."""
    if stepper.implicit_weight is None or getattr(stepper, "preconditioner", None) is not None:
        return False
    solver = getattr(stepper, "solver", None)
    return solver is None or any(map(_is_open, _parts(solver)))


def _is_open(part: Any) -> bool:
    return isinstance(part, Automatic)


def _parts(solver: Any) -> list[Any]:
    return jax.tree.leaves(solver, is_leaf=_is_open)


def replaced(solver: Any, change: Callable[[Automatic], Any]) -> Any:
    return jax.tree.map(
        lambda part: change(part) if isinstance(part, Automatic) else part,
        solver,
        is_leaf=_is_open,
    )


def prepared_for_all(dynamics: Dynamics, stepper: AbstractStepper) -> AbstractStepper:
    """The stepper with a preconditioner at hand for whatever its coefficients turn out to be."""
    grid = dynamics.grid if isinstance(dynamics, OnGrid) else None
    if grid is None or (grid.num_axes > 1 and int(np.prod(grid.shape)) < SMALL):
        return stepper
    if grid.num_axes == 1:
        return replace(stepper, preconditioner=_of_wide_reach)
    even = grid.solid is None and all(map(grid.is_even, range(grid.num_axes)))
    # Where cells differ their mean is no help at all. Multigrid would be the safer choice for
    # coefficients that jump, too, but takes five times as long to compile.
    make = fourier if even else multigrid("V", 1)
    return replace(stepper, preconditioner=_DEFERRED[make])


def _deferred(make: Preconditioning) -> Preconditioning:
    def at_need(tendency: Any, weight: Scalar, state: State) -> AbstractPreconditioner:
        return Deferred(make, (tendency, weight, state))

    return at_need


# One function for each, or steppers that differ in nothing else would be compiled apart.
_DEFERRED: dict[Preconditioning, Preconditioning] = {
    make: _deferred(make) for make in (fourier, multigrid("V", 1), line(0))
}


def _of_wide_reach(tendency: Any, weight: Scalar, state: State) -> AbstractPreconditioner | None:
    """On one axis elimination needs no help, but where fluxes reach beyond neighbours."""
    if isinstance(tendency, Corrected):
        return _DEFERRED[line(0)](tendency, weight, state)
    return None
