"""What implicit steppers share: how their systems are solved, chosen, checked and set up."""

import abc
from collections.abc import Callable
from dataclasses import replace
from typing import Any, Self

import equinox as eqx
import jax

from impindiff._errors import InputError, as_flag
from impindiff._types import Scalar, State
from impindiff.implicit import AbstractRootSolver, Affine, Newton
from impindiff.integrate._dynamics import AbstractDynamics
from impindiff.integrate._quadrature import split_integrals
from impindiff.integrate._stepper import AbstractStepper
from impindiff.linear import AbstractInverse, AbstractLinearSolver, Automatic
from impindiff.precondition import AbstractPreconditioner, LinearisedStep

_AFFINE = Affine(Automatic())
_NEWTON = Newton(Automatic())


class AbstractImplicitStepper(AbstractStepper):
    """A stepper whose stages are roots.

    A subclass has `solver`, `preconditioner` and `keep_preconditioner` as fields with defaults.
    """

    # Not `AbstractVar`s: type checkers would take them for the first fields of every stepper.
    @property
    @abc.abstractmethod
    def solver(self) -> AbstractRootSolver | None:
        """Finds the root of a stage's residual.

        None for one linear solve where the system is affine, and otherwise Newton's method, with a
        linear solver that is chosen.
        """

    @property
    @abc.abstractmethod
    def preconditioner(self) -> AbstractPreconditioner | None:
        """Makes an approximate inverse of a stage's linearised system.

        None where a step needs few iterations as it is.
        """

    @property
    @abc.abstractmethod
    def keep_preconditioner(self) -> bool | None:
        """Whether the inverse made for the first step serves all.

        It then costs next to nothing, but grows worse as the Jacobian changes. None for where that
        does not change: in affine systems with steady coefficients.
        """

    def __check_init__(self) -> None:
        """Refuse solvers and preconditioners that are none."""
        _check_solver(self.solver)
        _check_preconditioner(self.preconditioner)
        if self.keep_preconditioner is not None:
            as_flag(self.keep_preconditioner, "keep_preconditioner")

    @property
    @abc.abstractmethod
    def implicit_weight(self) -> float:
        """See `AbstractStepper.implicit_weight`."""

    @property
    def is_open(self) -> bool:
        """See `AbstractStepper.is_open`."""
        return self.preconditioner is None and (self.solver is None or self.solver.is_open)

    def resolved(
        self,
        is_affine: bool,
        change: Callable[[AbstractLinearSolver], AbstractLinearSolver],
        preconditioner: AbstractPreconditioner | None,
    ) -> Self:
        """See `AbstractStepper.resolved`."""
        solver = choose_solver(self.solver, is_affine).with_linear(change)
        return replace(self, solver=solver, preconditioner=preconditioner)

    def with_preconditioner(self, preconditioner: AbstractPreconditioner) -> Self:
        """See `AbstractStepper.with_preconditioner`."""
        return replace(self, preconditioner=preconditioner)

    def check(self, dynamics: AbstractDynamics) -> None:
        """Refuse to solve a nonlinear step with one linear solve, or without its derivatives."""
        if dynamics.is_affine:
            return
        dynamics.check_derivatives()
        if self.solver is not None and self.solver.assumes_affine:
            raise InputError(
                "the system is not affine in its fields, but the stepper's solver takes each step "
                "as one linear solve. Leave the solver out, give a nonlinear one (Newton), or use "
                "an explicit stepper (RungeKutta4)."
            )

    def setup(
        self, dynamics: AbstractDynamics, time: Scalar, dt: Scalar, state: State
    ) -> AbstractInverse | None:
        """The approximate inverse, where one serves every step."""
        keep = self.keep_preconditioner
        if keep is None:
            keep = dynamics.is_steady and dynamics.is_affine
        return self.inverse(dynamics, time + dt, self.implicit_weight * dt, state) if keep else None

    def inverse(
        self, dynamics: AbstractDynamics, time: Scalar, weight: Scalar, state: State
    ) -> AbstractInverse | None:
        """The approximate inverse of a stage's system, if there is to be one.

        Args:
            dynamics: the system.
            time: at which it is linearised.
            weight: $w$.
            state: at which it is linearised.
        """
        if self.preconditioner is None:
            return None
        fields, _ = split_integrals(dynamics, state)
        return self.preconditioner.make(LinearisedStep(dynamics.at(time), weight, fields))


def factorise(
    solver: AbstractRootSolver,
    dynamics: AbstractDynamics,
    time: Scalar,
    weight: Scalar,
    state: State,
) -> AbstractInverse | None:
    """The inverse of a stage's system for chord steps, where it can be had at once.

    Args:
        solver: finds the stages' roots.
        dynamics: the system.
        time: at which it is linearised.
        weight: $w$.
        state: at which it is linearised.
    """
    linear = solver.tangent_solver
    if linear is None or not solver.num_chord_steps:
        return None
    fields, integrals = split_integrals(dynamics, state)
    if integrals:  # in whose balances the little would be missing that chord steps leave over
        return None
    arrays, rest = eqx.partition(LinearisedStep(dynamics.at(time), weight, fields), eqx.is_array)
    step = eqx.combine(jax.lax.stop_gradient(arrays), rest)
    return linear.factorise(step.operator(), fields)


def choose_solver(solver: AbstractRootSolver | None, is_affine: bool) -> AbstractRootSolver:
    """The solver given, or one linear solve where that is exact, or Newton's method."""
    if solver is not None:
        return solver
    return _AFFINE if is_affine else _NEWTON


def _check_solver(solver: Any) -> None:
    """Refuse what is no root solver.

    Raises: InputError.
    """
    if isinstance(solver, AbstractLinearSolver):
        name = type(solver).__name__
        raise InputError(
            f"the stepper's solver is {name}, which solves linear systems: give it to one that "
            f"solves a step, Affine({name}()) or Newton({name}())."
        )
    if solver is not None and not isinstance(solver, AbstractRootSolver):
        raise InputError(
            f"the stepper's solver is {solver!r:.60}: give one such as Newton(), called, or leave "
            "it out."
        )


def _check_preconditioner(preconditioner: Any) -> None:
    """Refuse what is no preconditioner.

    Raises: InputError.
    """
    if preconditioner is not None and not isinstance(preconditioner, AbstractPreconditioner):
        raise InputError(
            f"the stepper's preconditioner is {preconditioner!r:.60}: give one such as Fourier() "
            "or Multigrid(), called, or leave it out."
        )
