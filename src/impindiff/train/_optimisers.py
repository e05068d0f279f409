"""Optimisers: how one update changes the learned arrays; a `Stage` says how often it is applied."""

import abc
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, ClassVar, cast, final

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, PyTree

from impindiff._errors import InputError, as_number
from impindiff._types import Scalar
from impindiff.train._objective import AbstractObjective, Evaluation


@final
class Epoch(eqx.Module):
    """What one epoch did.

    Attributes:
        evaluation: loss, gradient and outcomes at a point (which one, the optimiser says).
        learning_rate: step length relative to the search direction; NaN where it is not known.
        stalled: whether no further progress is possible and the stage should end.
    """

    evaluation: Evaluation
    learning_rate: Scalar = eqx.field(default_factory=lambda: jnp.array(jnp.nan))
    stalled: Bool[Array, ""] = eqx.field(default_factory=lambda: jnp.array(False))


@final
@dataclass(frozen=True)
class StageLength:
    """How often a stage calls its optimiser: so many epochs, each of so many updates."""

    epochs: int
    updates_per_epoch: int = 1


class AbstractOptimiser(eqx.Module):
    """An update rule. `update` is all that one of your own has to define.

    Attributes:
        loss_is_before: whether the loss of an update is that of the arrays before it, not after.
        needs_all_data: whether losses of successive updates are compared, so that all of them must
            be of the same data: a stage then takes no batches.
    """

    loss_is_before: ClassVar[bool] = True
    needs_all_data: ClassVar[bool] = False

    @property
    def takes_units(self) -> bool:
        """Whether it steps by numbers near 1, so that learned numbers are given in their units."""
        return False

    @property
    def name(self) -> str:
        """What records call it."""
        return type(self).__name__.lower()

    def check(self, learned: PyTree) -> None:
        """Refuse arrays that it cannot change; called before anything is computed."""

    def init(self, objective: AbstractObjective, learned: PyTree) -> Any:
        """The state before the first update, a PyTree of arrays; by default there is none."""
        return ()

    @abc.abstractmethod
    def update(
        self, objective: AbstractObjective, learned: PyTree, state: Any, length: StageLength
    ) -> tuple[PyTree, Any, Epoch]:
        """One update: the changed arrays, the state, and what happened.

        Args:
            objective: gives the loss and its gradient at learned arrays.
            learned: the arrays to change.
            state: as `init` or the last update returned it.
            length: of the stage, for rates that change in its course.
        """

    def refresh(self, objective: AbstractObjective, learned: PyTree, state: Any) -> Any:
        """The state where the objective has changed since; the same where none of it is kept."""
        return state


class CountedEpochs(type(eqx.Module)):
    """Of optimisers that counted epochs in version 0.1.0: `LBFGS(200)` is a stage of 200 epochs."""

    def __call__(cls, *args: Any, **kwargs: Any) -> Any:
        if args and isinstance(args[0], int):
            from impindiff.train._earlier_call import stage_as_stated_today

            return stage_as_stated_today(cast(type[AbstractOptimiser], cls), args, kwargs)
        return super().__call__(*args, **kwargs)


def traced_once(function: Callable[[PyTree], Any], at: PyTree) -> Callable[[PyTree], Any]:
    """The same function of arrays like these, however often it is called, traced no more.

    Args:
        function: may capture arrays that are traced.
        at: what it may be called with, or its like.
    """
    closed = eqx.filter_closure_convert(function, at)
    return lambda point: jax.tree.map(jnp.asarray, closed(point))


def unknown(objective: Callable[[PyTree], Evaluation], point: PyTree) -> Evaluation:
    """An evaluation that has yet to be made: of infinite loss."""
    shapes = eqx.filter_eval_shape(objective, point)
    nothing = jax.tree.map(lambda leaf: jnp.zeros(leaf.shape, leaf.dtype), shapes)
    return eqx.tree_at(lambda e: e.loss, nothing, jnp.full_like(nothing.loss, jnp.inf))


def check_positive(optimiser: AbstractOptimiser, *numbers: float) -> None:
    """Refuse counts and rates that do nothing."""
    what = f"a count, rate or damping of {type(optimiser).__name__}"
    if not all(as_number(number, what) > 0 for number in numbers):
        raise InputError(
            f"{type(optimiser).__name__}: counts, rates and damping must be positive; found "
            f"{optimiser}."
        )
