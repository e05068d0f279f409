"""What a time stepper is: one step of a system, and how that step was solved."""

import abc
from typing import Any, NamedTuple

import equinox as eqx
from jaxtyping import PyTree

from impindiff._errors import InputError
from impindiff._types import Dynamics, Scalar, State
from impindiff.implicit import AbstractPreconditioner, Outcome, SolveContext


class Step(NamedTuple):
    """A step that was taken.

    Attributes:
        state: at its end.
        increment: what it added, to more digits than the difference of two states may have; it has
            no derivative of its own.
        outcome: of the solve.
        stages: the roots of solves before the last, for `SolveContext.stages`; None where there
            are none. With these kept, a step is taken again for its derivative and nothing solved.
    """

    state: State
    increment: State
    outcome: Outcome
    stages: PyTree = None


class AbstractStepper(eqx.Module):
    """Advances a state over one step. Unbatched: samples are the caller's `vmap`."""

    @property
    def implicit_weight(self) -> float | None:
        r"""$w / \Delta t$ of the systems $q' - w\,\partial F/\partial u$ of a step, if any."""
        return None

    @abc.abstractmethod
    def check(self, dynamics: Dynamics) -> None:
        """Raise InputError where this stepper cannot advance such a system."""

    @abc.abstractmethod
    def setup(
        self, dynamics: Dynamics, time: Scalar, dt: Scalar, state: State
    ) -> AbstractPreconditioner | None:
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
        dynamics: Dynamics,
        time: Scalar,
        dt: Scalar,
        state: State,
        setup: AbstractPreconditioner | None = None,
        context: SolveContext | None = None,
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
        dynamics: Dynamics,
        time: Scalar,
        dt: Scalar,
        state: State,
        setup: AbstractPreconditioner | None = None,
        context: SolveContext | None = None,
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
