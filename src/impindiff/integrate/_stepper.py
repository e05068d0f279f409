"""What a time stepper is: one step of a system, and how that step was solved."""

import abc

import equinox as eqx
from jaxtyping import PyTree

from impindiff._types import Dynamics, Scalar, State
from impindiff.implicit import AbstractPreconditioner, Outcome, SolveContext


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
    def step(
        self,
        dynamics: Dynamics,
        time: Scalar,
        dt: Scalar,
        state: State,
        setup: AbstractPreconditioner | None = None,
        context: SolveContext | None = None,
    ) -> tuple[State, Outcome]:
        """The state at `time + dt` and the outcome of the solve.

        Args:
            dynamics: the system, its steady parts evaluated.
            time: where the step starts.
            dt: its length, positive.
            state: the fields at `time`.
            setup: what `setup` returned, for this or an earlier step.
            context: what else is wanted of the solve.
        """


class AbstractStagedStepper(AbstractStepper):
    """Solves more than once in a step, and can tell what it found on the way.

    With that kept, a step is taken again for its derivative without solving anything.
    """

    @abc.abstractmethod
    def step_with_stages(
        self,
        dynamics: Dynamics,
        time: Scalar,
        dt: Scalar,
        state: State,
        setup: AbstractPreconditioner | None = None,
        context: SolveContext | None = None,
    ) -> tuple[State, Outcome, PyTree]:
        """As `step`, and the roots before the last, for `SolveContext.stages`."""
