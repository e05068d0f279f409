"""What a time stepper is: one step of a system, and how that step was solved."""

import abc
from collections.abc import Callable
from typing import Any, NamedTuple, final

import equinox as eqx
from jaxtyping import Array, Float, Int, PyTree

from impindiff._errors import InputError
from impindiff._types import Scalar, State, Vector
from impindiff.implicit import SolveContext
from impindiff.integrate._dynamics import AbstractDynamics
from impindiff.linear import AbstractInverse, AbstractLinearSolver, Outcome
from impindiff.precondition import AbstractPreconditioner, LinearisedStep


class Step(NamedTuple):
    """A step that was taken.

    Attributes:
        state: at its end.
        increment: what it added, to more digits than the difference of two states may have; it has
            no derivative of its own.
        outcome: of the solve.
        stages: the roots of solves before the last, for `StepContext.stages`; None where there are
            none. With these kept, a step is taken again for its derivative and nothing solved.
        error: an estimate of the error of what the step has added to each integral and to each
            field's storage, without algebraic fields; None where the method has none.
    """

    state: State
    increment: State
    outcome: Outcome
    stages: PyTree = None
    error: State | None = None


@final
class StepContext(eqx.Module):
    """What a caller wants of a step, besides the state at its end.

    Attributes:
        probe: `AdjointOutcome.probe()`; its gradient is the outcome of the adjoint solves.
        number: of the step, for messages.
        rtol: a looser tolerance than the solvers' own, forward and adjoint.
        end: the state at the step's end, where it is known already, as in a step that is taken
            again for its derivative alone.
        stages: `Step.stages`, where they are known with the end.
    """

    probe: Float[Array, " 4"] | None = None
    number: Int[Array, ""] | None = None
    rtol: Scalar | None = None
    end: State | None = None
    stages: PyTree = None

    def of_solve(self, root: Vector | None) -> SolveContext:
        """What is wanted of the solve whose root, if known, is this."""
        return SolveContext(self.probe, self.number, self.rtol, root, noun="step")


class AbstractStepper(eqx.Module):
    """Advances a state over one step. Unbatched: samples are the caller's `vmap`."""

    @property
    def name(self) -> str:
        """What messages call it."""
        return type(self).__name__

    @property
    def implicit_weight(self) -> float | None:
        r"""$w / \Delta t$ of the systems $q' - w\,\partial F/\partial u$ of a step, if any."""
        return None

    @property
    def is_explicit(self) -> bool:
        """Whether it solves no system."""
        return self.implicit_weight is None

    @property
    def error_order(self) -> int | None:
        r"""$k$ where the estimate `Step.error` is as $\Delta t^k$; None where there is none."""
        return None

    @property
    def nodes(self) -> tuple[float, ...]:
        """Where in a step the right-hand side is evaluated, as parts of its length, if stated."""
        return (0.0, 1.0)

    @property
    def uses_rates_at_start(self) -> bool:
        """Whether an implicit step begins with the right-hand side at its start.

        Then algebraic fields that do not satisfy their equations there are felt by the others.
        """
        return False

    @property
    def rings(self) -> bool:
        """Whether what decays far faster than a step changes sign in each, and hardly dies."""
        return False

    @property
    def ends_in_balance(self) -> bool:
        """Whether each step ends in a steady state, whatever its length."""
        return False

    @property
    def stability_limit(self) -> float | None:
        r"""Largest $-\lambda\,\Delta t$ of a real eigenvalue that does not grow; None for any."""
        return None

    def solved_part(self, dynamics: AbstractDynamics) -> AbstractDynamics:
        """What its systems are made of."""
        return dynamics

    def stepped_part(self, dynamics: AbstractDynamics) -> AbstractDynamics:
        """What `stability_limit` is about."""
        return dynamics

    @property
    def is_open(self) -> bool:
        """Whether it leaves open how its systems are solved, see `resolved`."""
        return False

    def resolved(
        self,
        is_affine: bool,
        change: Callable[[AbstractLinearSolver], AbstractLinearSolver],
        preconditioner: AbstractPreconditioner | None,
    ) -> "AbstractStepper":
        """The same with its systems solved as is chosen for it.

        Args:
            is_affine: whether the system is.
            change: gives the linear solver that takes the place of each.
            preconditioner: for its systems.
        """
        return self

    def with_preconditioner(self, preconditioner: AbstractPreconditioner) -> "AbstractStepper":
        """The same with a preconditioner, where it has use for one."""
        return self

    def linearised(
        self, dynamics: AbstractDynamics, time: Scalar, dt: Scalar, state: State
    ) -> LinearisedStep:
        """The system that a step solves, for the choice of how to.

        Args:
            dynamics: the system.
            time: at which it is linearised.
            dt: of the step.
            state: at which it is linearised.
        """
        weight = (self.implicit_weight or 1.0) * dt
        fields = {field: u for field, u in state.items() if field not in dynamics.integrals}
        return LinearisedStep(dynamics.at(time), weight, fields)

    @abc.abstractmethod
    def check(self, dynamics: AbstractDynamics) -> None:
        """Raise InputError where this stepper cannot advance such a system."""

    @abc.abstractmethod
    def setup(
        self, dynamics: AbstractDynamics, time: Scalar, dt: Scalar, state: State
    ) -> AbstractInverse | None:
        """What is built once and serves many steps, or None where each step builds its own.

        Args:
            dynamics: the system, its steady parts evaluated.
            time: where the first of the steps starts.
            dt: their mean length.
            state: the fields at `time`.
        """

    @abc.abstractmethod
    def advance(
        self,
        dynamics: AbstractDynamics,
        time: Scalar,
        dt: Scalar,
        state: State,
        setup: AbstractInverse | None = None,
        context: StepContext | None = None,
    ) -> Step:
        """The step from `time` to `time + dt`.

        Args:
            dynamics: the system, its steady parts evaluated.
            time: where the step starts.
            dt: its length, positive.
            state: the fields at `time`.
            setup: what `setup` returned, for this or an earlier step.
            context: what else is wanted of the solve.
        """

    def step(
        self,
        dynamics: AbstractDynamics,
        time: Scalar,
        dt: Scalar,
        state: State,
        setup: AbstractInverse | None = None,
        context: StepContext | None = None,
    ) -> tuple[State, Outcome]:
        """The state at `time + dt` and the outcome of the solve; see `advance`."""
        taken = self.advance(dynamics, time, dt, state, setup, context)
        return taken.state, taken.outcome


def check_is_stepper(stepper: Any) -> None:
    """Refuse what is no stepper.

    Raises: InputError.
    """
    if not isinstance(stepper, AbstractStepper):
        name = getattr(stepper, "__name__", None)
        raise InputError(
            f"the stepper is {f'{name}, not called' if name else repr(stepper)}: give one as "
            f"{name or 'CrankNicolson'}()."
        )
