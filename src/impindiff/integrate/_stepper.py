"""What a time stepper is: one step of a system, and how that step was solved."""

import abc

import equinox as eqx
from jaxtyping import Array, Float

from impindiff._types import Dynamics, Scalar, State
from impindiff.implicit import Outcome


class AbstractStepper(eqx.Module):
    """Advances a state over one step. Unbatched: samples are the caller's `vmap`."""

    @abc.abstractmethod
    def check(self, dynamics: Dynamics) -> None:
        """Raise InputError where this stepper cannot advance such a system."""

    @abc.abstractmethod
    def step(
        self,
        dynamics: Dynamics,
        time: Scalar,
        dt: Scalar,
        state: State,
        probe: Float[Array, " 4"] | None = None,
    ) -> tuple[State, Outcome]:
        """The state at `time + dt` and the outcome of the solve.

        Args:
            dynamics: the system, its steady parts evaluated.
            time: where the step starts.
            dt: its length, positive.
            state: the fields at `time`.
            probe: carries the outcome of adjoint solves, see `impindiff.implicit.root`.
        """
