"""A function to minimise in the place of a training loss."""

from collections.abc import Callable

import equinox as eqx
import jax

from impindiff.linear import AdjointOutcome, Outcome
from impindiff.rollout import StepOutcome
from impindiff.train import AbstractObjective, Evaluation


class Plain(AbstractObjective):
    """A function of a PyTree, and its gradient; it is no sum of squares."""

    function: Callable = eqx.field(static=True)

    def __call__(self, learned) -> Evaluation:
        loss, gradient = jax.value_and_grad(self.function)(learned)
        return Evaluation(
            loss, gradient, StepOutcome.of_solve(Outcome.exact()), AdjointOutcome.probe()
        )
