"""Steppers that name no solver are given one: from the step's matrix, or from what can be told.

Where coefficients are known, outside of `jit` and for systems that are closed over inside of it,
the matrix is looked at and the choice is made before anything is compiled. Where they are traced,
it is left to `impindiff.implicit.Automatic`, with a preconditioner at hand that serves any
coefficients.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any, Protocol, final, runtime_checkable

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jax.core import Tracer

from impindiff._errors import InputError
from impindiff._types import Dynamics, Scalar, State
from impindiff.grid import Grid
from impindiff.implicit import AbstractPreconditioner, Automatic, Deferred
from impindiff.integrate import AbstractStepper, CrankNicolson, apart, choose_solver
from impindiff.rollout._choice import SMALL, Candidate, candidates
from impindiff.terms import (
    Corrected,
    Preconditioning,
    Structure,
    fourier,
    kinds_for,
    line,
    multigrid,
    step_blocks,
)

# Of more steps than this the setup of a preconditioner is nothing to speak of.
_MANY_STEPS = 100


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


@final
@dataclass(frozen=True)
class Choice:
    """How the systems of a step are solved, and why.

    Attributes:
        name: of the preconditioner or direct method, such as "fourier"; "none" for plain
            iterations, "automatic" where it is decided while they run, "given" where the stepper
            says it.
        reason: in one sentence, with the numbers.
        stepper: with the solver and the preconditioner filled in.
        costs: what was compared: for each method its predicted cost for a step, in plain
            iterations.
    """

    name: str
    reason: str
    stepper: AbstractStepper
    costs: Mapping[str, float]


def select_solver(
    system: Preparable,
    initial: State,
    dt: float,
    stepper: AbstractStepper | None = None,
    *,
    time: float = 0.0,
    num_steps: int = _MANY_STEPS,
) -> Choice:
    """Choose how the steps of a system are solved, as `simulate`, `predict` and `fit` do.

    A stepper that names a solver or a preconditioner keeps both. Not under `jit`.

    Args:
        system: the equations, with what is learned as it is now.
        initial: the fields at which a nonlinear system is linearised.
        dt: length of a step.
        stepper: names no solver; Crank-Nicolson by default.
        time: at which coefficients that vary are taken.
        num_steps: how many steps there will be: over so many the setup of a preconditioner is
            spread, where one serves all.

    Returns: the choice; `choice.stepper` is to be used, `choice.reason` says why.
    Raises: InputError where anything is traced, or as `simulate` for a system or a state that is
        wrong.
    """
    stepper = CrankNicolson() if stepper is None else stepper
    if any(isinstance(leaf, Tracer) for leaf in jax.tree.leaves((system, initial))):
        raise InputError(
            "select_solver looks at the coefficients, so that it cannot be traced by jit, vmap or "
            "grad: call it outside of these, and use `choice.stepper` within."
        )
    initial = jax.tree.map(jnp.asarray, dict(initial))
    if not is_automatic(stepper):
        solves = stepper.implicit_weight is not None
        why = "the stepper names its solver" if solves else "an explicit step solves nothing"
        return Choice("given", f"given: {why}.", stepper, {})
    return _chosen(system, initial, float(dt), stepper, float(time), num_steps)


def is_automatic(stepper: AbstractStepper) -> bool:
    """Whether a stepper leaves it open how its systems are solved."""
    if stepper.implicit_weight is None or getattr(stepper, "preconditioner", None) is not None:
        return False
    solver = getattr(stepper, "solver", None)
    return solver is None or any(map(_is_open, _parts(solver)))


def settled(
    system: Preparable,
    dynamics: Dynamics,
    initial: State,
    dt: float,
    stepper: AbstractStepper,
    *,
    time: float = 0.0,
    num_steps: int = _MANY_STEPS,
) -> AbstractStepper:
    """The stepper with a solver, for a rollout that is about to begin, traced or not.

    Args:
        system: the equations, as given.
        dynamics: the same, prepared.
        initial: the fields.
        dt: mean length of the steps.
        stepper: may name a solver, and is then left as it is.
        time: of the start.
        num_steps: how many steps there are.
    """
    grid = dynamics.grid if isinstance(dynamics, OnGrid) else None
    if not is_automatic(stepper) or grid is None:
        return stepper
    traced = initial if not dynamics.is_affine else {}
    if not any(isinstance(leaf, Tracer) for leaf in jax.tree.leaves((system, traced))):
        if grid.num_axes > 1 and int(np.prod(grid.shape)) < SMALL:
            return stepper
        with jax.ensure_compile_time_eval():
            state = {
                field: jnp.zeros(u.shape, u.dtype) if isinstance(u, Tracer) else u
                for field, u in initial.items()
            }
            return _chosen(system, state, dt, stepper, time, num_steps).stepper
    return prepared_for_all(dynamics, stepper)


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


def _chosen(
    system: Preparable,
    initial: State,
    dt: float,
    stepper: AbstractStepper,
    time: float,
    num_steps: int,
) -> Choice:
    dtype = jnp.result_type(*initial.values())
    weight = (stepper.implicit_weight or 1.0) * dt
    seen = _look(system, initial, jnp.asarray(time, dtype), jnp.asarray(weight, dtype))
    if seen is None:
        return Choice("automatic", "automatic: the system has no grid.", stepper, {})
    blocks, kinds, reaches, is_affine, is_steady = seen
    grid = system.grid if isinstance(system, OnGrid) else None
    volumes = None if grid is None else grid.cell_volumes()
    structure = Structure.of(jax.device_get(blocks), kinds, volumes, reaches)
    serves = min(num_steps, _MANY_STEPS) if is_affine and is_steady else 1
    compared = candidates(structure, num_steps=serves, is_affine=is_affine)
    best = compared[0]
    costs = {candidate.name: round(candidate.cost, 1) for candidate in compared}
    return Choice(
        best.name,
        f"{best.name}: {_because(best, compared, structure)}.",
        _with(stepper, best, is_affine, one_axis=len(structure.shape) == 1),
        costs,
    )


@eqx.filter_jit
def _look(system: Preparable, state: State, time: Scalar, weight: Scalar) -> Any:
    """The coefficients of a step, and what else is to be known of it; None without a grid."""
    dynamics = system.prepare(weight.dtype)
    if not isinstance(dynamics, OnGrid) or dynamics.grid is None:
        return None
    tendency, state = dynamics.at(time), apart(dynamics, state)[0]
    blocks = step_blocks(tendency, weight, state)
    reaches = isinstance(tendency, Corrected)
    return blocks, kinds_for(tendency, state), reaches, dynamics.is_affine, dynamics.is_steady


def _with(
    stepper: AbstractStepper, best: Candidate, is_affine: bool, *, one_axis: bool
) -> AbstractStepper:
    direct = best.name == "elimination"
    if best.make is None and one_axis and not direct:
        return stepper
    solver = choose_solver(getattr(stepper, "solver", None), _Kind(is_affine), {})
    solver = _replaced(solver, lambda part: part.settled(direct=direct))
    return replace(stepper, solver=solver, preconditioner=best.make)


@final
@dataclass(frozen=True)
class _Kind:
    """All that the choice of a root solver asks of a system."""

    is_affine: bool
    is_steady: bool = True

    def at(self, time: Scalar) -> Any:
        """Nothing."""
        raise NotImplementedError


def _is_open(part: Any) -> bool:
    return isinstance(part, Automatic)


def _parts(solver: Any) -> list[Any]:
    return jax.tree.leaves(solver, is_leaf=_is_open)


def _replaced(solver: Any, change: Callable[[Automatic], Any]) -> Any:
    return jax.tree.map(
        lambda part: change(part) if isinstance(part, Automatic) else part,
        solver,
        is_leaf=_is_open,
    )


def _because(best: Candidate, compared: list[Candidate], s: Structure) -> str:
    """Why, in numbers."""
    number = " x ".join(f"{max(d, 0):.2g}" for d in s.diffusion)
    told = [f"diffusion number {number}"]
    if max(s.flow) > 0.1:
        told.append(f"Courant number {max(s.flow):.2g}")
    if best.name in ("fourier", "none", "jacobi") or best.name.startswith("multigrid"):
        told.append(f"coefficients vary by {s.variation:.2g}")
    elif len(s.shape) > 1:
        axis = int(best.name[-2]) if best.name[-1] == ")" else 0
        told.append(f"coefficients vary by {s.across[axis]:.2g} across lines of axis {axis}")
    if s.num_fields > 1 and s.coupling > 2:
        told.append(f"fields coupled by {s.coupling:.2g} in a cell")
    if s.reaches:
        told.append("fluxes reach beyond neighbours")
    plain = next(c for c in compared if c.name == "none")
    told.append(f"about {best.iterations:.0f} iterations")
    if best.name != "none":
        told[-1] += f" in place of {plain.iterations:.0f}"
    return ", ".join(told)
