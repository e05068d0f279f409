"""Optimisers as training stages: how one epoch changes the learned arrays."""

import abc
from collections.abc import Callable
from typing import Any, ClassVar, final

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, PyTree

from impindiff._errors import InputError
from impindiff._types import Scalar
from impindiff.train._batch import Batching
from impindiff.train._by_name import as_names
from impindiff.train._objective import Evaluation, Objective


@final
class Epoch(eqx.Module):
    """What one epoch did.

    Attributes:
        evaluation: loss, gradient and outcomes at a point (which one, the optimiser says).
        learning_rate: step length relative to the search direction; NaN where the optimiser does
            not tell.
        stalled: whether no further progress is possible and the stage should end.
    """

    evaluation: Evaluation
    learning_rate: Scalar
    stalled: Bool[Array, ""]


class AbstractOptimiser(eqx.Module):
    """A stage of training: an update rule and how often it is applied.

    Attributes:
        epochs: most epochs; each sees all training samples.
        dt: longest time step in this stage; the training's own where None.
        batching: how the training data are divided; into one batch where the optimiser compares
            losses.
        freeze: names of latents that this stage leaves as they are.
        loss_is_before: whether an epoch's loss is that of the arrays before its update, not after.
    """

    name: ClassVar[str]
    loss_is_before: ClassVar[bool] = False
    freeze: tuple[str, ...] = eqx.field(static=True, kw_only=True, default=(), converter=as_names)
    epochs: eqx.AbstractVar[int]
    dt: eqx.AbstractVar[float | None]
    batching: eqx.AbstractVar[Batching]

    @abc.abstractmethod
    def init(self, objective: Objective, learned: PyTree) -> Any:
        """The optimiser's state before the first epoch."""

    @abc.abstractmethod
    def update(
        self, objective: Objective, learned: PyTree, state: Any, updates: int = 1
    ) -> tuple[PyTree, Any, Epoch]:
        """One of so many updates of an epoch: the changed arrays, the state, and what happened."""

    def check(self, learned: PyTree) -> None:
        """Refuse arrays that the stage cannot change; called before anything is computed."""

    def refresh(self, objective: Objective, learned: PyTree, state: Any) -> Any:
        """The state where the objective has changed since; the same where none of it is kept."""
        return state


def traced_once(function: Callable[[PyTree], Any], at: PyTree) -> Callable[[PyTree], Any]:
    """The same function of arrays like these, however often it is called, traced no more.

    Args:
        function: may capture arrays that are traced.
        at: what it may be called with, or its like.
    """
    closed = eqx.filter_closure_convert(function, at)
    return lambda point: jax.tree.map(jnp.asarray, closed(point))


def check_counts(optimiser: AbstractOptimiser, *rates: float) -> None:
    """Refuse counts and rates that do nothing."""
    positive = all(rate > 0 for rate in rates)
    if optimiser.epochs < 1 or not positive or (optimiser.dt is not None and not optimiser.dt > 0):
        raise InputError(
            f"{type(optimiser).__name__}: epochs must be at least 1 and rates and steps "
            f"positive; found {optimiser}."
        )
