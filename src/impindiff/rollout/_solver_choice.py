"""Steppers that name no solver are given one: from the step's matrix, or from what can be told.

Where coefficients are known, outside of `jit` and for systems that are closed over inside of it,
the matrix is looked at and the choice is made before anything is compiled. Where they are traced,
it is left to `impindiff.linear.Automatic`, with a preconditioner at hand that serves any
coefficients.
"""

from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, final

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jax.core import Tracer

from impindiff._errors import InputError
from impindiff._types import Scalar, State, real_state
from impindiff.integrate import (
    AbstractDynamics,
    AbstractStepper,
    AbstractSystem,
    CrankNicolson,
    check_is_stepper,
)
from impindiff.linear import AbstractInverse, Result
from impindiff.precondition import (
    SMALL,
    AbstractPreconditioner,
    Candidate,
    Deferred,
    Fourier,
    Line,
    LinearisedStep,
    Multigrid,
    Structure,
    because,
    candidates,
    robust,
    step_blocks,
)
from impindiff.rollout._failures import StepOutcome
from impindiff.rollout._times import TimeGrid

# What JAX says of numbers that are not known yet.
_TRACED_INSIDE = (jax.errors.TracerArrayConversionError, jax.errors.ConcretizationTypeError)
# Of more steps than this the setup of a preconditioner is nothing to speak of.
_MANY_STEPS = 100
# Below this diffusion and Courant number a storage is so steep that cells hardly exchange anything.
_STEEP = 1e-3
_BY_ELIMINATION = (
    "elimination: at the start a storage is so steep that the step's matrix does not show what is "
    "to come, and cells ahead of a front need all digits."
)
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
    system: AbstractSystem,
    initial: State,
    dt: float,
    stepper: AbstractStepper | None = None,
    *,
    time: float = 0.0,
    num_steps: int = _MANY_STEPS,
    named: str | None = None,
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
        named: take this one, the name of another choice or a key of its `costs`, if it could serve.

    Returns: the choice; `choice.stepper` is to be used, `choice.reason` says why.
    Raises: InputError where anything is traced, or as `simulate` for a system or a state that is
        wrong.
    """
    stepper = CrankNicolson() if stepper is None else stepper
    check_is_stepper(stepper)
    if not isinstance(system, AbstractSystem):
        raise InputError(f"the system is {system!r:.60}: give the equations, System(...).")
    if any(isinstance(leaf, Tracer) for leaf in jax.tree.leaves((system, initial))):
        raise InputError(
            "select_solver looks at the coefficients, so that it cannot be traced by jit, vmap or "
            "grad: call it outside of these, and use `choice.stepper` within."
        )
    initial = real_state(initial)
    if not 0 < dt < np.inf:
        raise InputError(f"the time step is {dt}: it must be positive and finite.")
    if not stepper.is_open:
        return Choice("given", _GIVEN, stepper, {})
    return _chosen(system, initial, float(dt), stepper, float(time), num_steps, named)


def select_for_samples(
    system: Any,
    initial: State,
    time_grid: TimeGrid,
    stepper: AbstractStepper,
    sample_parameters: State | None = None,
    named: str | None = None,
) -> Choice:
    """The choice for many samples that are advanced together, from the first of them.

    Args:
        system: the equations; of its sample parameters those are known that are not given here.
        initial: for each field an array `(sample, *grid)`.
        time_grid: the steps.
        stepper: names no solver, or is left as it is.
        sample_parameters: by name, of each sample.
        named: see `select_solver`.
    """
    if not stepper.is_open or not time_grid.num_steps or system.grid is None:
        return Choice("given", _GIVEN, stepper, {})
    first = {field: jnp.asarray(values)[0] for field, values in initial.items()}
    if sample_parameters:
        system = system.with_sample_parameters(
            {name: values[0] for name, values in sample_parameters.items()}
        )
    if len(system.grid.shape) > 1 and int(np.prod(system.grid.shape)) < SMALL:
        return Choice("automatic", f"automatic: fewer than {SMALL} cells.", stepper, {})
    dt, start = float(np.mean(time_grid.lengths)), float(time_grid.starts[0])
    many = time_grid.num_steps
    return select_solver(system, first, dt, stepper, time=start, num_steps=many, named=named)


def has_failed_solve(outcome: StepOutcome) -> bool:
    """Whether a solve missed its tolerance, as it may not with another solver. Not under `jit`."""
    missed = (Result.MAX_STEPS, Result.STALLED, Result.SINGULAR)
    return bool(np.isin(np.asarray(outcome.result), missed).any())


def resolve_stepper(
    system: AbstractSystem,
    dynamics: AbstractDynamics,
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
    grid = dynamics.grid
    if not stepper.is_open or grid is None:
        return stepper
    traced = initial if not stepper.solved_part(dynamics).is_affine else {}
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
    return prepare_for_any(dynamics, stepper)


def _chosen(
    system: AbstractSystem,
    initial: State,
    dt: float,
    stepper: AbstractStepper,
    time: float,
    num_steps: int,
    named: str | None = None,
) -> Choice:
    dtype = jnp.result_type(*initial.values())
    seen = _look(system, stepper, initial, jnp.asarray(time, dtype), jnp.asarray(dt, dtype))
    if seen is None:
        return Choice("automatic", "automatic: the system has no grid.", stepper, {})
    blocks, kinds, reaches, is_affine, is_steady, is_stored = seen
    # A step that leads a cell of infinite slope a trifle too far ends where a function is not
    # finite: of iterations some digit may always be missing.
    on_a_line = is_stored and not reaches and system.grid is not None and system.grid.num_axes == 1
    if not all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(jax.device_get(blocks))):
        if on_a_line:
            return _eliminated(stepper, is_affine)
        return Choice("automatic", "automatic: a coefficient is not finite.", stepper, {})
    volumes = None if system.grid is None else system.grid.cell_volumes()
    structure = Structure.of(jax.device_get(blocks), kinds, volumes, reaches)
    if on_a_line and max(*structure.diffusion, *structure.flow) < _STEEP:
        return _eliminated(stepper, is_affine)
    serves = min(num_steps, _MANY_STEPS) if is_affine and is_steady else 1
    compared = candidates(structure, num_steps=serves, is_affine=is_affine)
    best = next((each for each in compared if each.name == named), compared[0])
    one_axis = len(structure.shape) == 1
    costs = {candidate.name: round(candidate.cost, 1) for candidate in compared}
    return Choice(
        best.name,
        f"{best.name}: {because(best, compared, structure)}.",
        _with(stepper, best, is_affine, one_axis=one_axis),
        costs,
        stepper if one_axis else _with(stepper, robust(structure), is_affine, one_axis=False),
    )


def _eliminated(stepper: AbstractStepper, is_affine: bool) -> Choice:
    solved = stepper.resolved(is_affine, lambda linear: linear.resolved(direct=True), None)
    return Choice("elimination", _BY_ELIMINATION, solved, {}, stepper)


@eqx.filter_jit
def _look(
    system: AbstractSystem, stepper: AbstractStepper, state: State, time: Scalar, dt: Scalar
) -> Any:
    """The coefficients of a step, and what else is to be known of it; None without a grid."""
    dynamics = system.prepare(dt.dtype)
    if dynamics.grid is None:
        return None
    operator = stepper.linearised(dynamics, time, dt, state)
    part = stepper.solved_part(dynamics)
    # Before anything else is made of the state: it may be one of other fields.
    jax.eval_shape(operator.tendency, operator.state)
    blocks, kinds = step_blocks(operator), operator.mode_kinds
    is_stored = part.has_storage and not part.is_affine
    reaches = operator.reaches_further
    return blocks, kinds, reaches, part.is_affine, part.is_steady, is_stored


def _with(
    stepper: AbstractStepper, best: Candidate, is_affine: bool, *, one_axis: bool
) -> AbstractStepper:
    direct = best.name == "elimination"
    if best.preconditioner is None and one_axis and not direct:
        return stepper
    return stepper.resolved(
        is_affine, lambda linear: linear.resolved(direct=direct), best.preconditioner
    )


def prepare_for_any(dynamics: AbstractDynamics, stepper: AbstractStepper) -> AbstractStepper:
    """The stepper with a preconditioner at hand for whatever its coefficients turn out to be."""
    grid = dynamics.grid
    if grid is None or (grid.num_axes > 1 and int(np.prod(grid.shape)) < SMALL):
        return stepper
    if grid.num_axes == 1:
        return stepper.with_preconditioner(_WhereFluxesReach(Deferred(Line(0))))
    even = grid.solid is None and all(map(grid.is_even, range(grid.num_axes)))
    # Where cells differ their mean is no help at all. Multigrid would be the safer choice for
    # coefficients that jump, too, but takes five times as long to compile.
    return stepper.with_preconditioner(Deferred(Fourier() if even else Multigrid("V", 1)))


@final
class _WhereFluxesReach(AbstractPreconditioner):
    """On one axis elimination needs no help, but where fluxes reach beyond neighbours."""

    preconditioner: AbstractPreconditioner

    def make(self, operator: LinearisedStep) -> AbstractInverse | None:
        """See `AbstractPreconditioner.make`."""
        return self.preconditioner.make(operator) if operator.reaches_further else None
