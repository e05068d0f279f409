"""Levenberg-Marquardt: least squares by derivatives of all residuals.

For few unknowns they are all computed and held, as a triangle; for many, only products with them
are taken.
"""

from collections.abc import Callable
from functools import partial
from typing import Any, ClassVar, NamedTuple, Self, final

import equinox as eqx
import jax
import jax.numpy as jnp
from jax.flatten_util import ravel_pytree
from jaxtyping import Array, Bool, Float, Int, PyTree

from impindiff._errors import as_count
from impindiff._types import Scalar
from impindiff.rollout import StepOutcome
from impindiff.train._least_squares import column_norms, damped_step, krylov_step
from impindiff.train._objective import AbstractObjective, Evaluation
from impindiff.train._optimisers import (
    AbstractOptimiser,
    CountedEpochs,
    Epoch,
    StageLength,
    check_positive,
    traced_once,
    unknown,
)

# A step counts that gains this share of what the linearised residuals promise.
LEAST_GAIN = 1e-4
LEAST_DAMPING = 1e-12


class DampedState(NamedTuple):
    """Where the last epoch arrived; of infinite loss where nothing has been evaluated yet.

    Attributes:
        loss: there.
        slope: the triangle of its residuals; the gradient where unknowns are many.
        scale: the diagonal of $D$.
        damping: to try next.
    """

    loss: Scalar
    slope: Float[Array, "columns columns"] | Float[Array, " n"]
    scale: Float[Array, " n"]
    damping: Scalar


def epoch_by_products(
    squares: AbstractObjective,
    learned: PyTree,
    state: DampedState,
    max_attempts: int,
    max_products: int,
) -> tuple[PyTree, DampedState, Epoch]:
    """One step of Levenberg-Marquardt, see there; the start is evaluated first where it is unknown.

    Args:
        squares: the objective, a gradient by reverse mode included.
        learned: where to begin.
        state: what the last epoch left.
        max_attempts: most attempts at the step.
        max_products: most iterations in one attempt.
    """
    flat, restore = ravel_pytree(learned)
    objective = traced_once(squares, learned)
    nothing = unknown(objective, learned)
    dtype = nothing.loss.dtype
    smallest = jnp.finfo(flat.dtype).eps
    here = jax.tree.map(lambda leaf: leaf.astype(dtype), state)
    # Where no step is taken, this is where the stage stays.
    gradient = restore(here.slope.astype(flat.dtype))
    stay = eqx.tree_at(lambda e: (e.loss, e.gradient), nothing, (here.loss, gradient))

    def step_from(point: Array, here: DampedState, damping: Scalar):
        maps = squares.linear_maps(restore(point))
        scale = maps.column_norms(here.scale)
        return *krylov_step(maps, scale, damping, max_products), scale

    def no_step(point: Array, here: DampedState, damping: Scalar):
        zero = jnp.zeros((), dtype)
        return jnp.zeros(point.shape, dtype), zero, jnp.array(True), here.scale

    def attempt(carry):
        point, here, evaluation, _, growth, count, *_ = carry
        is_new = jnp.isposinf(here.loss)
        step, promised, sound, scale = jax.lax.cond(
            is_new, no_step, step_from, point, here, here.damping
        )
        there = point + step.astype(point.dtype)
        found = objective(restore(there))
        gain = (here.loss - found.loss) / promised
        vanishes = (promised <= smallest * here.loss) | jnp.all(
            jnp.abs(step) <= smallest * jnp.abs(point)
        )
        accepted = is_new | (sound & found.is_finite & (gain > LEAST_GAIN) & ~vanishes)
        less = jnp.clip(1 - (2 * gain - 1) ** 3, 1 / 3, 2)
        damping = here.damping * jnp.where(accepted, less, growth)
        damping = jnp.where(is_new, here.damping, jnp.maximum(damping, LEAST_DAMPING))
        slope = ravel_pytree(found.gradient)[0].astype(dtype)
        moved = (there, DampedState(found.loss, slope, scale, damping), found)
        # A derivative that could not be solved for is as bad as a gradient that could not.
        lost = jax.tree.map(lambda leaf: jnp.where(sound, leaf, jnp.nan), evaluation.gradient)
        evaluation = eqx.tree_at(lambda e: e.gradient, evaluation, lost)
        stayed = (point, here._replace(scale=scale, damping=damping), evaluation)
        after = jax.tree.map(lambda new, old: jnp.where(accepted, new, old), moved, stayed)
        ended = jnp.where(is_new, ~found.is_finite, accepted | vanishes | ~sound)
        growth = jnp.where(is_new, growth, 2 * growth)
        return *after, here.damping, growth, count + 1, accepted, ended

    used, no = here.damping, jnp.array(False)
    first = (flat, here, stay, used, jnp.full((), 2, dtype), jnp.array(0), no, no)
    point, found, evaluation, used, _, _, accepted, _ = jax.lax.while_loop(
        lambda carry: ~carry[-1] & (carry[-3] < max_attempts), attempt, first
    )
    epoch = Epoch(evaluation, 1 / (1 + used), ~accepted)
    kept = jax.tree.map(lambda new, old: new.astype(old.dtype), found, state)
    return restore(point), kept, epoch


# Beyond, as many derivatives, and a triangle of them, cost more than products do.
MOST_COLUMNS = 500
# How much more damping a step gets whose end has a loss but no derivatives.
_REFUSAL = 10.0


class _Search(NamedTuple):
    """Attempts at a step from one point."""

    attempts: Int[Array, ""]
    damping: Scalar
    growth: Scalar
    used: Scalar
    point: PyTree
    loss: Scalar
    outcome: StepOutcome
    accepted: Bool[Array, ""]
    ended: Bool[Array, ""]

    @classmethod
    def begin(cls, point: PyTree, state: DampedState, outcome: StepOutcome) -> Self:
        """Before the first of them."""
        growth, no = jnp.full_like(state.damping, 2), jnp.array(False)
        damping = state.damping
        return cls(jnp.array(0), damping, growth, damping, point, state.loss, outcome, no, no)


@final
class LevenbergMarquardt(AbstractOptimiser, metaclass=CountedEpochs):
    r"""Damped Gauss-Newton steps, $(J^\top J + \lambda D^2)\,\delta = -J^\top r$.

    $J$ is the derivative of all residuals by all learned numbers. Up to 500 of them it is computed,
    a forward solve for each: a coefficient or some dozens are found in a few epochs. Beyond, the
    step is found by conjugate gradients, with a product by $J$ and one by $J^\top$ an iteration,
    each of the cost of a solve in time; memory grows as the number of unknowns, not its square.

    The damping $\lambda$ grows where a step gains less than the linearised residuals promise, and
    shrinks where they tell the truth. $D$ holds the largest norm that each column of $J$ has had so
    far, so that the unit of an unknown changes nothing, and one that the residuals cease to depend
    on does not run away. The epoch's loss is the one it arrives at, its learning rate the share of
    a Gauss-Newton step, $1/(1 + \lambda)$. The stage ends early where no step has a lower loss.

    Args:
        damping: $\lambda$ to begin with; small where the start is good.
        max_attempts: most attempts at one step, each with more damping.
        max_products: most iterations of conjugate gradients in one attempt.

    Raises: InputError for counts that do nothing.
    Reference: Madsen, Nielsen & Tingleff (2004), Methods for Non-Linear Least Squares Problems;
        the scaling $D$ is Moré's (1978).
    """

    loss_is_before: ClassVar[bool] = False
    needs_all_data: ClassVar[bool] = True
    damping: float = eqx.field(static=True, kw_only=True, default=1e-3)
    max_attempts: int = eqx.field(
        static=True,
        kw_only=True,
        default=12,
        converter=partial(as_count, what="max_attempts of LevenbergMarquardt", least=1),
    )
    max_products: int = eqx.field(
        static=True,
        kw_only=True,
        default=60,
        converter=partial(as_count, what="max_products of LevenbergMarquardt", least=1),
    )

    def __check_init__(self) -> None:
        """Refuse counts that do nothing."""
        check_positive(self, self.damping)

    @property
    def name(self) -> str:
        """See `AbstractOptimiser.name`."""
        return "levenberg-marquardt"

    def init(self, objective: AbstractObjective, learned: PyTree) -> DampedState:
        """See `AbstractOptimiser.init`."""
        return self._unknown(learned, self.damping)

    def _unknown(self, learned: PyTree, damping: Scalar | float) -> DampedState:
        count = sum(leaf.size for leaf in jax.tree.leaves(learned))
        # As wide as can be: what the objective's precision is, the first evaluation shows.
        slope = (count + 1, count + 1) if count <= MOST_COLUMNS else (count,)
        return DampedState(
            jnp.array(jnp.inf, float),
            jnp.zeros(slope, float),
            jnp.zeros(count, float),
            jnp.asarray(damping, float),
        )

    def update(
        self, objective: AbstractObjective, learned: PyTree, state: DampedState, length: StageLength
    ) -> tuple[PyTree, Any, Epoch]:
        """See `AbstractOptimiser.update`."""
        if state.slope.ndim == 2:
            return self._by_columns(objective, learned, state)
        return epoch_by_products(objective, learned, state, self.max_attempts, self.max_products)

    def _by_columns(
        self, squares: AbstractObjective, learned: PyTree, state: DampedState
    ) -> tuple[PyTree, DampedState, Epoch]:
        flat, restore = ravel_pytree(learned)
        value = traced_once(squares.value, learned)
        triangle_at = traced_once(squares.triangle, learned)
        (loss, outcome), triangle = jax.eval_shape(lambda: (value(learned), triangle_at(learned)))
        outcome = jax.tree.map(lambda leaf: jnp.zeros(leaf.shape, leaf.dtype), outcome)
        here = DampedState(
            state.loss.astype(loss.dtype),
            state.slope.astype(triangle.dtype),
            state.scale.astype(triangle.dtype),
            state.damping.astype(triangle.dtype),
        )

        def described(found: _Search, triangle: Array) -> Epoch:
            # A derivative that could not be solved for is as bad as a gradient that could not.
            sound = jnp.isfinite(triangle).all()
            gradient = jnp.where(sound, 2 * triangle[:, :-1].T @ triangle[:, -1], jnp.nan)
            no_adjoint = jnp.zeros((*outcome.result.shape[:-1], 4), jnp.float32)
            gradient = restore(gradient.astype(flat.dtype))
            evaluation = Evaluation(found.loss, gradient, found.outcome, no_adjoint)
            return Epoch(evaluation, 1 / (1 + found.used), ~found.accepted)

        def arrive(carry):
            point, here, *_, refusals = carry
            found = self._search(value, _Search.begin(point, here, outcome), here)
            triangle = jax.lax.cond(found.accepted, triangle_at, lambda _: here.slope, found.point)
            epoch = described(found, triangle)
            is_new = jnp.isposinf(here.loss)
            # A loss without derivatives is a place that no further step leads away from: a shorter
            # step is taken, and only where none helps is the failure told.
            refused = ~is_new & ~jnp.isfinite(triangle).all() & (refusals < self.max_attempts)
            there = DampedState(
                found.loss, triangle, column_norms(triangle, here.scale), found.damping
            )
            back = here._replace(damping=(_REFUSAL * found.used).astype(here.damping.dtype))
            point, there = jax.tree.map(
                lambda old, new: jnp.where(refused, old, new), (point, back), (found.point, there)
            )
            ended = ~refused & (~is_new | ~epoch.evaluation.is_finite)
            return point, there, epoch, ended, refusals + refused

        nothing = described(_Search.begin(learned, here, outcome), here.slope)
        # A second time where the first has but evaluated the start: one compiled value and one
        # compiled triangle do both.
        first = (learned, here, nothing, jnp.array(False), jnp.array(0))
        point, found, epoch, *_ = jax.lax.while_loop(lambda carry: ~carry[3], arrive, first)
        return point, jax.tree.map(lambda new, old: new.astype(old.dtype), found, state), epoch

    def _search(
        self,
        value: Callable[[PyTree], tuple[Scalar, StepOutcome]],
        first: _Search,
        state: DampedState,
    ) -> _Search:
        """Attempts, with more damping each, until one counts; an unknown start is evaluated."""
        flat, restore = ravel_pytree(first.point)
        smallest = jnp.finfo(flat.dtype).eps
        is_new = jnp.isposinf(state.loss)

        def attempt(search: _Search) -> _Search:
            step, promised = damped_step(state.slope, state.scale, search.damping)
            step = jnp.where(is_new, 0, step)
            point = restore(flat + step.astype(flat.dtype))
            loss, outcome = value(point)
            gain = (state.loss - loss) / promised
            # Below that, neither the loss nor the point would show a difference.
            vanishes = (promised <= smallest * state.loss) | jnp.all(
                jnp.abs(step) <= smallest * jnp.abs(flat)
            )
            is_sound = jnp.isfinite(loss) & outcome.converged.all()
            accepted = is_new | (is_sound & (gain > LEAST_GAIN) & ~vanishes)
            less = jnp.clip(1 - (2 * gain - 1) ** 3, 1 / 3, 2)
            damping = search.damping * jnp.where(accepted, less, search.growth)
            damping = jnp.where(is_new, search.damping, jnp.maximum(damping, LEAST_DAMPING))
            new, old = (point, loss, outcome), (search.point, search.loss, search.outcome)
            point, loss, outcome = jax.tree.map(lambda a, b: jnp.where(accepted, a, b), new, old)
            return _Search(
                search.attempts + 1,
                damping.astype(search.damping.dtype),
                2 * search.growth,
                search.damping,
                point,
                loss,
                outcome,
                accepted,
                accepted | vanishes,
            )

        return jax.lax.while_loop(
            lambda search: ~search.ended & (search.attempts < self.max_attempts), attempt, first
        )

    def refresh(
        self, objective: AbstractObjective, learned: PyTree, state: DampedState
    ) -> DampedState:
        """Evaluate anew: losses of two objectives cannot be compared."""
        return self._unknown(learned, state.damping)
