"""L-BFGS."""

from typing import Any, ClassVar, final

import equinox as eqx
import jax
import jax.numpy as jnp
from jax.flatten_util import ravel_pytree
from jaxtyping import PyTree

from impindiff._types import Scalar
from impindiff.train._curvature import Curvature
from impindiff.train._line_search import unknown, weak_wolfe
from impindiff.train._objective import AbstractObjective
from impindiff.train._optimisers import (
    AbstractOptimiser,
    Epoch,
    StageLength,
    check_positive,
    traced_once,
)


@final
class LBFGS(AbstractOptimiser):
    """Limited-memory BFGS with a line search for the weak Wolfe conditions.

    The epoch's loss is the one it arrives at. The stage ends early where the line search finds no
    lower loss, which in float32 is the usual end.

    Args:
        memory: number of stored pairs.
        max_evaluations: most evaluations of a line search.

    Reference: Nocedal & Wright, Numerical Optimization, section 7.2.
    """

    loss_is_before: ClassVar[bool] = False
    needs_all_data: ClassVar[bool] = True
    memory: int = eqx.field(static=True, kw_only=True, default=50)
    max_evaluations: int = eqx.field(static=True, kw_only=True, default=20)

    def __check_init__(self) -> None:
        """Refuse counts that do nothing."""
        check_positive(self, min(self.memory, self.max_evaluations))

    def init(self, objective: AbstractObjective, learned: PyTree) -> Any:
        """See `AbstractOptimiser.init`."""
        flat, _ = ravel_pytree(learned)
        return _not_evaluated(learned), Curvature.none(flat, self.memory)

    def update(
        self, objective: AbstractObjective, learned: PyTree, state: Any, length: StageLength
    ) -> tuple[PyTree, Any, Epoch]:
        """See `AbstractOptimiser.update`."""
        (loss, gradient), pairs = state
        _, restore = ravel_pytree(learned)
        # Traced once, for the shapes of what it returns and for the search alike.
        evaluate = traced_once(objective, learned)
        nothing = unknown(evaluate, learned)
        evaluation = eqx.tree_at(
            lambda e: (e.loss, e.gradient), nothing, (loss.astype(nothing.loss.dtype), gradient)
        )

        def search(carry):
            point, (evaluation, pairs), *_ = carry
            is_new = jnp.isposinf(evaluation.loss)
            slope, _ = ravel_pytree(evaluation.gradient)
            direction = jnp.where(is_new, 0, pairs.direction(slope))
            found = weak_wolfe(
                evaluate, point, restore(direction), evaluation, self.max_evaluations
            )
            # The pairs may lead nowhere where the loss curves otherwise than it did, or where
            # single precision has eaten what they were made of: steepest descent is tried before
            # the stage gives up.
            again = ~is_new & ~found.accepted & pairs.is_known
            step = ravel_pytree(found.point)[0] - ravel_pytree(point)[0]
            change = ravel_pytree(found.evaluation.gradient)[0] - slope
            more = pairs.after(step, change)
            pairs = jax.tree.map(
                lambda new, old: jnp.where(found.accepted & ~is_new, new, old), more, pairs
            ).forgotten(again)
            epoch = Epoch(found.evaluation, found.length, ~found.accepted)
            ended = ~again & (~is_new | ~found.evaluation.is_finite)
            return found.point, (found.evaluation, pairs), epoch, ended

        nothing = Epoch(evaluation, jnp.zeros_like(evaluation.loss), jnp.array(False))
        # A second time where the first has but evaluated the start: one compiled objective does
        # both, and compiling it is what most small trainings take.
        first = (learned, (evaluation, pairs), nothing, jnp.array(False))
        point, (found, pairs), epoch, _ = jax.lax.while_loop(
            lambda carry: ~carry[-1], search, first
        )
        return point, ((found.loss.astype(loss.dtype), found.gradient), pairs), epoch

    def refresh(self, objective: AbstractObjective, learned: PyTree, state: Any) -> Any:
        """Evaluate anew: a search that compared two objectives would find no way down."""
        return _not_evaluated(learned), state[1]


def _not_evaluated(learned: PyTree) -> tuple[Scalar, PyTree]:
    """An infinite loss, as wide as can be: the objective's precision is not known. No slope."""
    return jnp.array(jnp.inf, float), jax.tree.map(jnp.zeros_like, learned)
