r"""L-BFGS: directions from past steps and gradients, lengths from a line search.

A pair of a step and the change of the gradient is kept only where $s^\top y > 0$. The inverse
Hessian that the pairs stand for is then positive definite, and $-H g$ is a direction of descent.

The line search bisects for the weak Wolfe conditions. It has one compiled evaluation of the
objective in its loop, and returns the outcomes of the solves at the accepted point. The zoom search
of optax compiles several evaluations, and returns the value alone.
"""

from collections.abc import Callable
from functools import partial
from typing import Any, ClassVar, NamedTuple, Self, final

import equinox as eqx
import jax
import jax.numpy as jnp
from jax.flatten_util import ravel_pytree
from jaxtyping import Array, Bool, Float, PyTree

from impindiff._errors import as_count
from impindiff._types import Scalar
from impindiff.train._objective import AbstractObjective, Evaluation
from impindiff.train._optimisers import (
    AbstractOptimiser,
    CountedEpochs,
    Epoch,
    StageLength,
    traced_once,
    unknown,
)


class Curvature(NamedTuple):
    r"""Pairs of steps and gradient differences, the newest last.

    Attributes:
        steps: $s$; zero where there is none yet.
        changes: $y$.
        weights: $1 / s^\top y$; zero where there is none yet.
        scale: $s^\top y / y^\top y$ of the newest, which stays when the pairs are dropped; zero at
            first.
    """

    steps: Float[Array, "memory n"]
    changes: Float[Array, "memory n"]
    weights: Float[Array, " memory"]
    scale: Scalar

    @classmethod
    def none(cls, like: Float[Array, " n"], memory: int) -> Self:
        """Before the first step."""
        pairs = jnp.zeros((memory, like.size), like.dtype)
        return cls(pairs, pairs, jnp.zeros(memory, like.dtype), jnp.zeros((), like.dtype))

    @property
    def is_known(self) -> Array:
        """Whether there is any pair."""
        return self.weights[-1] > 0

    def forgotten(self, where: Array) -> Self:
        """Without pairs, where told to."""
        kept = jnp.where(where, 0, 1).astype(self.weights.dtype)
        return self._replace(weights=self.weights * kept)

    def after(self, step: Float[Array, " n"], change: Float[Array, " n"]) -> Self:
        """With one pair more, if it shows curvature that is above round-off."""
        dot, square = jnp.vdot(step, change), jnp.vdot(change, change)
        least = 10 * jnp.finfo(step.dtype).eps * jnp.sqrt(jnp.vdot(step, step) * square)
        counts = jnp.isfinite(dot) & jnp.isfinite(square) & (dot > least)
        safe = jnp.where(counts, dot, 1)

        def pushed(old: Array, new: Array) -> Array:
            return jnp.where(counts, jnp.concatenate([old[1:], new[None]]), old)

        return type(self)(
            pushed(self.steps, step),
            pushed(self.changes, change),
            pushed(self.weights, 1 / safe),
            jnp.where(counts, dot / jnp.where(counts, square, 1), self.scale),
        )

    def direction(self, gradient: Float[Array, " n"]) -> Float[Array, " n"]:
        r"""$-H g$; without pairs $-g$, at first no longer than 1.

        Reference: Nocedal & Wright, Numerical Optimization, algorithm 7.4.
        """

        def down(rest, pair):
            step, change, weight = pair
            share = weight * jnp.vdot(step, rest)
            return rest - share * change, share

        pairs = (self.steps, self.changes, self.weights)
        rest, shares = jax.lax.scan(down, gradient, pairs, reverse=True)
        # The step from an unknown place: neither the loss's unit nor the unknowns' is known.
        length = jnp.linalg.norm(gradient)
        first = 1 / jnp.maximum(length, 1)
        rest = jnp.where(self.scale > 0, self.scale, first) * rest

        def up(rest, pair):
            step, change, weight, share = pair
            return rest + (share - weight * jnp.vdot(change, rest)) * step, None

        rest, _ = jax.lax.scan(up, rest, (*pairs, shares))
        return -rest


_SUFFICIENT_DECREASE = 1e-4
_CURVATURE = 0.9


@final
class LineSearch(eqx.Module):
    """Where a search ended, its evaluation, the step length, whether the loss went down."""

    point: PyTree
    evaluation: Evaluation
    length: Scalar
    accepted: Bool[Array, ""]


def weak_wolfe(
    objective: Callable[[PyTree], Evaluation],
    start: PyTree,
    direction: PyTree,
    evaluation: Evaluation,
    max_evaluations: int,
) -> LineSearch:
    r"""Search for a step $t$ with $f(t) \le f_0 + c_1 t f_0'$ and $f'(t) \ge c_2 f_0'$.

    Where there is none within the evaluations allowed, the lowest point seen is taken; none is
    taken whose loss is not below $f_0$. Starts at $t = 1$; doubles while the slope is still steep,
    halves the bracket otherwise. A loss that is not finite, or a solve that failed, counts as too
    long a step.

    Args:
        objective: loss and gradient.
        start: where the line begins.
        direction: along which to search.
        evaluation: of the objective at the start; where it is `unknown`, the start is evaluated
            and taken, whatever it is.
        max_evaluations: most evaluations.

    Reference: Lewis & Overton, Math. Program. 141 (2013) 135, algorithm 4.6.
    """
    is_new = jnp.isposinf(evaluation.loss)
    slope = _dot(evaluation.gradient, direction)
    infinity = jnp.array(jnp.inf, evaluation.loss.dtype)

    def unfinished(carry):
        *_, done, count = carry
        return ~done & (count < max_evaluations)

    def probe(carry):
        best, low, high, t, _, count = carry
        point = jax.tree.map(lambda p, d: p + (t * d).astype(p.dtype), start, direction)
        here = objective(point)
        # Strictly: at a minimum, or where the slope drowns in round-off, equal is no progress.
        wanted = evaluation.loss + _SUFFICIENT_DECREASE * t * slope
        lower = here.is_finite & (here.loss <= wanted) & (here.loss < evaluation.loss)
        flat = _dot(here.gradient, direction) >= _CURVATURE * slope
        done = (lower & flat) | is_new
        better = done | (here.is_finite & (here.loss < best.evaluation.loss))
        # The step has drowned in round-off: so does a shorter one.
        stays = (here.loss == evaluation.loss) & _same(here.gradient, evaluation.gradient)
        found = LineSearch(point, here, t, jnp.array(True))
        best = jax.tree.map(lambda new, old: jnp.where(better, new, old), found, best)
        high = jnp.where(lower, high, t)
        low = jnp.where(lower, t, low)
        t = jnp.where(jnp.isfinite(high), (low + high) / 2, 2 * t)
        return best, low, high, t, done | stays, count + 1

    zero, one = jnp.zeros_like(infinity), jnp.ones_like(infinity)
    nowhere = LineSearch(start, evaluation, zero, jnp.array(False))
    first = (nowhere, zero, infinity, one, jnp.array(False), 0)
    return jax.lax.while_loop(unfinished, probe, first)[0]


def _dot(left: PyTree, right: PyTree) -> Scalar:
    return jax.tree.reduce(jnp.add, jax.tree.map(jnp.vdot, left, right))


def _same(left: PyTree, right: PyTree) -> Bool[Array, ""]:
    return jax.tree.reduce(jnp.logical_and, jax.tree.map(jnp.array_equal, left, right))


@final
class LBFGS(AbstractOptimiser, metaclass=CountedEpochs):
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
    memory: int = eqx.field(
        static=True,
        kw_only=True,
        default=50,
        converter=partial(as_count, what="memory of LBFGS", least=1),
    )
    max_evaluations: int = eqx.field(
        static=True,
        kw_only=True,
        default=20,
        converter=partial(as_count, what="max_evaluations of LBFGS", least=1),
    )

    @property
    def takes_units(self) -> bool:
        """See `AbstractOptimiser.takes_units`: its first step is no longer than 1."""
        return True

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
