"""Levenberg-Marquardt: least squares in few unknowns, by all derivatives of all residuals."""

from collections.abc import Callable
from typing import Any, ClassVar, NamedTuple, Protocol, Self, final, runtime_checkable

import equinox as eqx
import jax
import jax.numpy as jnp
from jax.flatten_util import ravel_pytree
from jaxtyping import Array, Bool, Float, Int, PyTree

from impindiff._errors import InputError
from impindiff._types import Scalar
from impindiff.implicit import Outcome
from impindiff.train._batch import WHOLE, Batching
from impindiff.train._objective import Evaluation, Objective
from impindiff.train._optimisers import AbstractOptimiser, Epoch, check_counts, traced_once
from impindiff.train._triangle import damped_step

# Beyond, as many derivatives cost far more than L-BFGS takes to the same end.
MOST_UNKNOWNS = 500
# A step counts that gains this share of what the linearised residuals promise.
_LEAST_GAIN = 1e-4
_LEAST_DAMPING = 1e-12


@runtime_checkable
class LeastSquares(Protocol):
    """An objective that is a sum of squares."""

    def value(self, learned: PyTree) -> tuple[Scalar, Outcome]:
        """The loss, and what its solves did."""
        ...

    def triangle(self, learned: PyTree) -> Float[Array, "columns columns"]:
        """See `TrainingLoss.triangle`."""
        ...


class _State(NamedTuple):
    """Where the last epoch arrived; of infinite loss where nothing has been evaluated yet."""

    loss: Scalar
    triangle: Float[Array, "columns columns"]
    damping: Scalar


class _Search(NamedTuple):
    """Attempts at a step from one point."""

    attempts: Int[Array, ""]
    damping: Scalar
    growth: Scalar
    used: Scalar
    point: PyTree
    loss: Scalar
    outcome: Outcome
    accepted: Bool[Array, ""]
    ended: Bool[Array, ""]

    @classmethod
    def begin(cls, point: PyTree, state: _State, outcome: Outcome) -> Self:
        """Before the first of them."""
        growth, no = jnp.full_like(state.damping, 2), jnp.array(False)
        damping = state.damping
        return cls(jnp.array(0), damping, growth, damping, point, state.loss, outcome, no, no)


@final
class LevenbergMarquardt(AbstractOptimiser):
    r"""Damped Gauss-Newton steps, $(J^\top J + \lambda D^2)\,\delta = -J^\top r$.

    $J$ is the derivative of all residuals by all learned numbers, a forward solve for each, which
    few unknowns repay: a coefficient or some dozens are found in a few epochs. The damping
    $\lambda$ grows where a step gains less than the linearised residuals promise, and shrinks where
    they tell the truth. The epoch's loss is the one it arrives at, its learning rate the share of a
    Gauss-Newton step, $1/(1 + \lambda)$. The stage ends early where no step has a lower loss.

    Args:
        epochs: most steps.
        damping: $\lambda$ to begin with; small where the start is good.
        max_attempts: most attempts at one step, each with more damping.
        dt: see `AbstractOptimiser`.

    Raises: InputError for counts that do nothing, or, in training, for more than 500 learned
        numbers.
    Reference: Madsen, Nielsen & Tingleff (2004), Methods for Non-Linear Least Squares Problems;
        the scaling $D$ is Marquardt's (1963).
    """

    name: ClassVar[str] = "levenberg-marquardt"
    epochs: int = eqx.field(static=True)
    damping: float = eqx.field(static=True, kw_only=True, default=1e-3)
    max_attempts: int = eqx.field(static=True, kw_only=True, default=12)
    dt: float | None = eqx.field(static=True, kw_only=True, default=None)
    # Successive losses are compared: they must be of the same data.
    batching: Batching = eqx.field(init=False, default=WHOLE)

    def __check_init__(self) -> None:
        """Refuse counts that do nothing."""
        check_counts(self, self.damping, self.max_attempts)

    def check(self, learned: PyTree) -> None:
        """See `AbstractOptimiser.check`."""
        count = sum(leaf.size for leaf in jax.tree.leaves(learned))
        if count > MOST_UNKNOWNS:
            raise InputError(
                f"LevenbergMarquardt takes a forward solve for each of {count:,} learned numbers: "
                f"at most {MOST_UNKNOWNS} are allowed. Use LBFGS, or fewer unknowns."
            )

    def init(self, objective: Objective, learned: PyTree) -> _State:
        """See `AbstractOptimiser.init`."""
        _as_least_squares(objective)
        return self._unknown(learned, self.damping)

    def _unknown(self, learned: PyTree, damping: Scalar | float) -> _State:
        columns = sum(leaf.size for leaf in jax.tree.leaves(learned)) + 1
        # As wide as can be: what the objective's precision is, the first evaluation shows.
        triangle = jnp.zeros((columns, columns), float)
        return _State(jnp.array(jnp.inf, float), triangle, jnp.asarray(damping, float))

    def update(
        self, objective: Objective, learned: PyTree, state: _State, updates: int = 1
    ) -> tuple[PyTree, Any, Epoch]:
        """See `AbstractOptimiser.update`."""
        squares = _as_least_squares(objective)
        flat, restore = ravel_pytree(learned)
        value = traced_once(squares.value, learned)
        triangle_at = traced_once(squares.triangle, learned)
        (loss, outcome), triangle = jax.eval_shape(lambda: (value(learned), triangle_at(learned)))
        outcome = jax.tree.map(lambda leaf: jnp.zeros(leaf.shape, leaf.dtype), outcome)
        here = _State(
            state.loss.astype(loss.dtype),
            state.triangle.astype(triangle.dtype),
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
            point, here, *_ = carry
            found = self._search(value, _Search.begin(point, here, outcome), here)
            triangle = jax.lax.cond(
                found.accepted, triangle_at, lambda _: here.triangle, found.point
            )
            epoch = described(found, triangle)
            ended = ~jnp.isposinf(here.loss) | ~epoch.evaluation.is_finite
            return found.point, _State(found.loss, triangle, found.damping), epoch, ended

        nothing = described(_Search.begin(learned, here, outcome), here.triangle)
        # A second time where the first has but evaluated the start: one compiled value and one
        # compiled triangle do both.
        point, found, epoch, _ = jax.lax.while_loop(
            lambda carry: ~carry[-1], arrive, (learned, here, nothing, jnp.array(False))
        )
        return point, jax.tree.map(lambda new, old: new.astype(old.dtype), found, state), epoch

    def _search(
        self,
        value: Callable[[PyTree], tuple[Scalar, Outcome]],
        first: _Search,
        state: _State,
    ) -> _Search:
        """Attempts, with more damping each, until one counts; an unknown start is evaluated."""
        flat, restore = ravel_pytree(first.point)
        smallest = jnp.finfo(flat.dtype).eps
        is_new = jnp.isposinf(state.loss)

        def attempt(search: _Search) -> _Search:
            step, promised = damped_step(state.triangle, search.damping)
            step = jnp.where(is_new, 0, step)
            point = restore(flat + step.astype(flat.dtype))
            loss, outcome = value(point)
            gain = (state.loss - loss) / promised
            # Below that, neither the loss nor the point would show a difference.
            vanishes = (promised <= smallest * state.loss) | jnp.all(
                jnp.abs(step) <= smallest * jnp.abs(flat)
            )
            is_sound = jnp.isfinite(loss) & outcome.converged.all()
            accepted = is_new | (is_sound & (gain > _LEAST_GAIN) & ~vanishes)
            less = jnp.clip(1 - (2 * gain - 1) ** 3, 1 / 3, 2)
            damping = search.damping * jnp.where(accepted, less, search.growth)
            damping = jnp.where(is_new, search.damping, jnp.maximum(damping, _LEAST_DAMPING))
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

    def refresh(self, objective: Objective, learned: PyTree, state: _State) -> _State:
        """Evaluate anew: losses of two objectives cannot be compared."""
        return self._unknown(learned, state.damping)


def _as_least_squares(objective: Objective) -> LeastSquares:
    if not isinstance(objective, LeastSquares):
        raise InputError(
            f"LevenbergMarquardt needs a sum of squares, and {objective} has no residuals: use "
            "LBFGS."
        )
    return objective
