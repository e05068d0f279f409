"""Optimisers as training stages: how one epoch changes the learned arrays."""

import abc
from typing import Any, ClassVar, final

import equinox as eqx
import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, Bool, PyTree

from impindiff._errors import InputError
from impindiff._types import Scalar
from impindiff.train._batch import WHOLE, Batching
from impindiff.train._line_search import weak_wolfe
from impindiff.train._objective import Evaluation, Objective


@final
class Epoch(eqx.Module):
    """What one epoch did.

    Attributes:
        evaluation: loss, gradient and outcomes at a point (which one, the optimiser says).
        learning_rate: step length relative to the search direction.
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
    """

    name: ClassVar[str]
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

    def refresh(self, objective: Objective, learned: PyTree, state: Any) -> Any:
        """The state where the objective has changed since; the same where none of it is kept."""
        return state


def _check_counts(optimiser: AbstractOptimiser, rate: float) -> None:
    if optimiser.epochs < 1 or not rate > 0 or (optimiser.dt is not None and not optimiser.dt > 0):
        raise InputError(
            f"{type(optimiser).__name__}: epochs must be at least 1 and rates and steps "
            f"positive; found {optimiser}."
        )


@final
class Adam(AbstractOptimiser):
    """Adam with a constant rate for a share of the epochs, then a cosine decay.

    The epoch's loss is the one before its update.

    Args:
        epochs: number of epochs.
        learning_rate: the constant rate.
        constant_share: share of the epochs before the decay.
        final_share: the last rate, relative to the first.
        dt: see `AbstractOptimiser`.
        batching: how the training data are divided; an update for each batch, whose loss is that
            before it. The epoch's loss is the mean of theirs.

    Reference: Kingma & Ba (2015), arXiv 1412.6980; the schedule is that of arXiv 2504.02260's code.
    """

    name: ClassVar[str] = "adam"
    epochs: int = eqx.field(static=True)
    learning_rate: float = eqx.field(static=True, kw_only=True, default=1e-3)
    constant_share: float = eqx.field(static=True, kw_only=True, default=0.25)
    final_share: float = eqx.field(static=True, kw_only=True, default=1e-3)
    dt: float | None = eqx.field(static=True, kw_only=True, default=None)
    batching: Batching = eqx.field(kw_only=True, default=WHOLE)

    def __check_init__(self) -> None:
        """Refuse counts and rates that do nothing."""
        _check_counts(self, self.learning_rate)

    def _schedule(self) -> optax.Schedule:
        constant = round(self.constant_share * self.epochs)
        decay = optax.cosine_decay_schedule(
            self.learning_rate, max(1, self.epochs - constant), self.final_share
        )
        return optax.join_schedules(
            [optax.constant_schedule(self.learning_rate), decay], [constant]
        )

    def init(self, objective: Objective, learned: PyTree) -> Any:
        """See `AbstractOptimiser.init`."""
        return jnp.array(0), optax.scale_by_adam().init(learned)

    def update(
        self, objective: Objective, learned: PyTree, state: Any, updates: int = 1
    ) -> tuple[PyTree, Any, Epoch]:
        """See `AbstractOptimiser.update`."""
        count, moments = state
        evaluation = objective(learned)
        direction, moments = optax.scale_by_adam().update(evaluation.gradient, moments)
        rate = jnp.asarray(self._schedule()(count // updates))
        learned = jax.tree.map(lambda p, d: p - (rate * d).astype(p.dtype), learned, direction)
        return learned, (count + 1, moments), Epoch(evaluation, rate, jnp.array(False))


@final
class LBFGS(AbstractOptimiser):
    """Limited-memory BFGS with a line search for the weak Wolfe conditions.

    The epoch's loss is the one it arrives at. The stage ends early where the line search finds no
    lower loss, which in float32 is the usual end.

    Args:
        epochs: most iterations.
        memory: number of stored pairs.
        max_evaluations: most evaluations of a line search.
        dt: see `AbstractOptimiser`.

    Reference: Nocedal & Wright, Numerical Optimization, section 7.2.
    """

    name: ClassVar[str] = "lbfgs"
    epochs: int = eqx.field(static=True)
    memory: int = eqx.field(static=True, kw_only=True, default=50)
    max_evaluations: int = eqx.field(static=True, kw_only=True, default=20)
    dt: float | None = eqx.field(static=True, kw_only=True, default=None)
    # Successive losses are compared: they must be of the same data.
    batching: Batching = eqx.field(init=False, default=WHOLE)

    def __check_init__(self) -> None:
        """Refuse counts that do nothing."""
        _check_counts(self, min(self.memory, self.max_evaluations))

    def _scale(self) -> optax.GradientTransformation:
        return optax.scale_by_lbfgs(self.memory)

    def init(self, objective: Objective, learned: PyTree) -> Any:
        """See `AbstractOptimiser.init`."""
        return objective(learned), self._scale().init(learned)

    def update(
        self, objective: Objective, learned: PyTree, state: Any, updates: int = 1
    ) -> tuple[PyTree, Any, Epoch]:
        """See `AbstractOptimiser.update`."""
        evaluation, pairs = state
        ascent, pairs = self._scale().update(evaluation.gradient, pairs, learned)
        found = weak_wolfe(
            objective, learned, jax.tree.map(jnp.negative, ascent), evaluation, self.max_evaluations
        )
        epoch = Epoch(found.evaluation, found.length, ~found.accepted)
        return found.point, (found.evaluation, pairs), epoch

    def refresh(self, objective: Objective, learned: PyTree, state: Any) -> Any:
        """Evaluate anew: a search that compared two objectives would find no way down."""
        return objective(learned), state[1]
