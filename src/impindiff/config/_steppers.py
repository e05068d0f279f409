"""From `[time]` and `[solver]` to a time stepper with its solvers."""

import math
from collections.abc import Callable
from typing import Any

import jax.numpy as jnp

from impindiff._errors import InputError
from impindiff.config._schema import Config
from impindiff.config._solving import (
    ALONG_LINES,
    DIRECT,
    EXPLICIT,
    IMPLICIT,
    KRYLOV,
    PRECONDITIONERS,
)
from impindiff.implicit import (
    AbstractAdjoint,
    AbstractRootSolver,
    Affine,
    Anderson,
    ImplicitAdjoint,
    Newton,
    OneStepAdjoint,
    Picard,
    Staggered,
    UnrolledAdjoint,
)
from impindiff.integrate import AbstractStepper
from impindiff.linear import AbstractLinearSolver, Automatic, BiCGStab, DenseLU
from impindiff.precondition import ByGroup
from impindiff.systems import System

_ADJOINTS: dict[str, Callable[[AbstractLinearSolver], AbstractAdjoint]] = {
    "implicit": ImplicitAdjoint,
    "unrolled": lambda linear: UnrolledAdjoint(),
    "one-step": lambda linear: OneStepAdjoint(),
}
_MOST_STEPS = 200


def build_stepper(config: Config, system: System) -> AbstractStepper:
    """The time stepper with its solver.

    Args:
        config: whose tables `[time]` and `[solver]` are taken.
        system: what is to be advanced; whether it is affine decides on the solver, where the config
            does not.

    Raises: InputError for a scheme or solver that cannot advance this system.
    """
    table = config.solver
    axes = () if system.grid is None else system.grid.names
    if table.method == "tridiagonal" and len(axes) != 1:
        raise InputError(
            f"solver.method is 'tridiagonal', but the system's grid has {len(axes)} axes: it is "
            "for one; use 'bicgstab' or 'gmres'."
        )
    if table.method == "dense-lu":
        _check_dense(system, [list(group) for group in table.groups or []])
    named = table.preconditioner
    preconditioner = PRECONDITIONERS[named]() if named in PRECONDITIONERS else None
    if table.line_axis is not None:
        if table.line_axis not in axes:
            raise InputError(
                f"solver.line_axis is {table.line_axis!r}, but the system's axes are "
                f"{', '.join(map(repr, axes)) or 'none'}."
            )
        preconditioner = ALONG_LINES[named](axes.index(table.line_axis))
    dynamics = system.prepare_shared(jnp.dtype(config.precision))
    scheme = config.time.scheme
    part = (EXPLICIT | IMPLICIT)[scheme]().solved_part(dynamics)
    solver = _root_solver(config, system.fields, part.is_affine)
    if isinstance(solver, Staggered) and preconditioner is not None:
        preconditioner = ByGroup(solver.groups, preconditioner)
    if scheme in EXPLICIT:
        stepper = EXPLICIT[scheme](config.time.substeps)
    else:
        stepper = IMPLICIT[scheme](solver, preconditioner)
    stepper.check(dynamics)
    return stepper


def _check_dense(system: System, groups: list[list[str]]) -> None:
    """Refuse more unknowns than a matrix is written out for."""
    cells = 1 if system.grid is None else math.prod(system.grid.shape)
    fields = max(map(len, groups), default=len(system.fields))
    unknowns, most = cells * fields, DenseLU().max_size
    if unknowns > most:
        raise InputError(
            f"solver.method is 'dense-lu', but a step has {unknowns} unknowns ({cells} cells, "
            f"{fields} fields), and the matrix is written out for {most} at most: use "
            "'automatic', 'bicgstab' or 'gmres', or fewer cells."
        )


def _root_solver(config: Config, fields: tuple[str, ...], is_affine: bool) -> AbstractRootSolver:
    table = config.solver
    most = _MOST_STEPS
    if table.is_automatic:
        # What is chosen is worth more iterations than were foreseen.
        method, most = Automatic, Automatic().max_steps
    else:
        # Where only a preconditioner is named, BiCGStab is taken.
        method = (KRYLOV | DIRECT).get(table.method, BiCGStab)
    linear = method(table.rtol, max_steps=table.max_steps or most)
    adjoint_rtol = table.rtol if table.adjoint_rtol is None else table.adjoint_rtol
    adjoint = method(adjoint_rtol, max_steps=table.adjoint_max_steps or most)
    if table.nonlinear is None and is_affine:
        return Affine(linear, adjoint)
    limits: dict[str, Any] = {"rtol": table.rtol}
    if table.nonlinear_max_steps is not None:
        limits["max_steps"] = table.nonlinear_max_steps
    match table.nonlinear:
        case "anderson":
            return Anderson(_ADJOINTS[table.adjoint](adjoint), **limits)
        case "picard":
            return Picard(_ADJOINTS[table.adjoint](adjoint), **limits)
        case "staggered":
            groups = _groups(table.groups, fields)
            return Staggered(groups, linear, ImplicitAdjoint(adjoint), **limits)
        case _:
            return Newton(linear, ImplicitAdjoint(adjoint), **limits)


def _groups(given: list[list[str]] | None, fields: tuple[str, ...]) -> tuple[tuple[str, ...], ...]:
    """The groups that a staggered iteration solves for, in order.

    Raises: InputError for groups in which not each field is named once.
    """
    if given is None:
        return tuple((field,) for field in fields)
    named = [name for group in given for name in group]
    if sorted(named) != sorted(fields):
        raise InputError(
            f"solver.groups are {given}: each field of the system must be named once, "
            f"{', '.join(map(repr, fields))}."
        )
    return tuple(map(tuple, given))
