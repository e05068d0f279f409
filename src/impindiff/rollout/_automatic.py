"""Steppers that name no solver are given one: from the step's matrix, or from what can be told.

Where coefficients are known, outside of `jit` and for systems that are closed over inside of it,
the matrix is looked at and the choice is made before anything is compiled. Where they are traced,
it is left to `impindiff.implicit.Automatic`, with a preconditioner at hand that serves any
coefficients.
"""

from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import Any, final

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jax.core import Tracer

from impindiff._errors import InputError
from impindiff._types import Dynamics, Scalar, State, real_state
from impindiff.implicit import Outcome, Result
from impindiff.integrate import (
    AbstractStepper,
    CrankNicolson,
    apart,
    check_is_stepper,
    choose_solver,
)
from impindiff.rollout._choice import SMALL, Candidate, because, candidates, robust
from impindiff.rollout._open_choice import (
    OnGrid,
    Preparable,
    is_automatic,
    prepared_for_all,
    replaced,
)
from impindiff.rollout._times import TimeGrid
from impindiff.terms import (
    Corrected,
    Structure,
    kinds_of,
    step_blocks,
)

# What JAX says of numbers that are not known yet.
_TRACED_INSIDE = (jax.errors.TracerArrayConversionError, jax.errors.ConcretizationTypeError)
# Of more steps than this the setup of a preconditioner is nothing to speak of.
_MANY_STEPS = 100
_GIVEN = "given: the stepper names its solver, or solves no system on a grid."


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
        fallback: what to go on with where a solve fails all the same; None where there is nothing.
    """

    name: str
    reason: str
    stepper: AbstractStepper
    costs: Mapping[str, float]
    fallback: AbstractStepper | None = None


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
    check_is_stepper(stepper)
    if not isinstance(system, Preparable):
        raise InputError(f"the system is {system!r:.60}: give the equations, System(...).")
    if any(isinstance(leaf, Tracer) for leaf in jax.tree.leaves((system, initial))):
        raise InputError(
            "select_solver looks at the coefficients, so that it cannot be traced by jit, vmap or "
            "grad: call it outside of these, and use `choice.stepper` within."
        )
    initial = real_state(initial)
    if not 0 < dt < np.inf:
        raise InputError(f"the time step is {dt}: it must be positive and finite.")
    if not is_automatic(stepper):
        return Choice("given", _GIVEN, stepper, {})
    return _chosen(system, initial, float(dt), stepper, float(time), num_steps)


def select_for_samples(
    system: Any,
    initial: State,
    time_grid: TimeGrid,
    stepper: AbstractStepper,
    settings: State | None = None,
) -> Choice:
    """The choice for many samples that are advanced together, from the first of them.

    Args:
        system: the equations; of its settings those are known that are not given here.
        initial: for each field an array `(sample, *grid)`.
        time_grid: the steps.
        stepper: names no solver, or is left as it is.
        settings: by name, of each sample.
    """
    if not is_automatic(stepper) or not time_grid.num_steps or system.grid is None:
        return Choice("given", _GIVEN, stepper, {})
    first = {field: jnp.asarray(values)[0] for field, values in initial.items()}
    if settings:
        system = system.with_settings({name: values[0] for name, values in settings.items()})
    if len(system.grid.shape) > 1 and int(np.prod(system.grid.shape)) < SMALL:
        return Choice("automatic", f"automatic: fewer than {SMALL} cells.", stepper, {})
    dt, start = float(np.mean(time_grid.lengths)), float(time_grid.starts[0])
    return select_solver(system, first, dt, stepper, time=start, num_steps=time_grid.num_steps)


def solves_failed(outcome: Outcome) -> bool:
    """Whether a solve missed its tolerance, as it may not with another solver. Not under `jit`."""
    missed = (Result.MAX_STEPS, Result.STALLED, Result.SINGULAR)
    return bool(np.isin(np.asarray(outcome.result), missed).any())


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
        # A function may hold a traced array that is no leaf of the system.
        with suppress(*_TRACED_INSIDE), jax.ensure_compile_time_eval():
            state = {
                field: jnp.zeros(u.shape, u.dtype) if isinstance(u, Tracer) else u
                for field, u in initial.items()
            }
            return _chosen(system, state, dt, stepper, time, num_steps).stepper
    return prepared_for_all(dynamics, stepper)


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
    if not all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(jax.device_get(blocks))):
        return Choice("automatic", "automatic: a coefficient is not finite.", stepper, {})
    grid = system.grid if isinstance(system, OnGrid) else None
    volumes = None if grid is None else grid.cell_volumes()
    structure = Structure.of(jax.device_get(blocks), kinds, volumes, reaches)
    serves = min(num_steps, _MANY_STEPS) if is_affine and is_steady else 1
    compared = candidates(structure, num_steps=serves, is_affine=is_affine)
    best, one_axis = compared[0], len(structure.shape) == 1
    costs = {candidate.name: round(candidate.cost, 1) for candidate in compared}
    return Choice(
        best.name,
        f"{best.name}: {because(best, compared, structure)}.",
        _with(stepper, best, is_affine, one_axis=one_axis),
        costs,
        stepper if one_axis else _with(stepper, robust(structure), is_affine, one_axis=False),
    )


@eqx.filter_jit
def _look(system: Preparable, state: State, time: Scalar, weight: Scalar) -> Any:
    """The coefficients of a step, and what else is to be known of it; None without a grid."""
    dynamics = system.prepare(weight.dtype)
    if not isinstance(dynamics, OnGrid) or dynamics.grid is None:
        return None
    tendency, state = dynamics.at(time), apart(dynamics, state)[0]
    # Before anything else is made of the state: it may be one of other fields.
    jax.eval_shape(tendency, state)
    blocks = step_blocks(tendency, weight, state)
    reaches = isinstance(tendency, Corrected)
    return blocks, kinds_of(tendency, state), reaches, dynamics.is_affine, dynamics.is_steady


def _with(
    stepper: AbstractStepper, best: Candidate, is_affine: bool, *, one_axis: bool
) -> AbstractStepper:
    direct = best.name == "elimination"
    if best.make is None and one_axis and not direct:
        return stepper
    solver = choose_solver(getattr(stepper, "solver", None), is_affine)
    solver = replaced(solver, lambda part: part.settled(direct=direct))
    return replace(stepper, solver=solver, preconditioner=best.make)
