"""Levenberg-Marquardt: least squares in few unknowns, by all derivatives of all residuals."""

from typing import Any, ClassVar, NamedTuple, Protocol, final, runtime_checkable

import equinox as eqx
import jax
import jax.numpy as jnp
from jax.flatten_util import ravel_pytree
from jaxtyping import Array, Bool, Float, Int, PyTree

from impindiff._errors import InputError
from impindiff._types import Scalar
from impindiff.train._batch import WHOLE, Batching
from impindiff.train._objective import Evaluation, Objective
from impindiff.train._optimisers import AbstractOptimiser, Epoch, check_counts
from impindiff.train._triangle import damped_step

# Beyond, as many derivatives cost far more than L-BFGS takes to the same end.
MOST_UNKNOWNS = 500
# A step counts that gains this share of what the linearised residuals promise.
_LEAST_GAIN = 1e-4
_LEAST_DAMPING = 1e-12


@runtime_checkable
class LeastSquares(Protocol):
    """An objective that is a sum of squares."""

    def __call__(self, learned: PyTree) -> Evaluation:
        """The loss and its gradient."""
        ...

    def triangle(self, learned: PyTree) -> Float[Array, "columns columns"]:
        """See `TrainingLoss.triangle`."""
        ...


class _State(NamedTuple):
    """Where the last epoch arrived."""

    evaluation: Evaluation
    triangle: Float[Array, "columns columns"]
    damping: Scalar


class _Search(NamedTuple):
    """Attempts at a step from one point."""

    attempts: Int[Array, ""]
    damping: Scalar
    growth: Scalar
    used: Scalar
    point: PyTree
    evaluation: Evaluation
    accepted: Bool[Array, ""]
    ended: Bool[Array, ""]


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
        squares = _as_least_squares(objective)
        evaluation, triangle = squares(learned), squares.triangle(learned)
        return _State(evaluation, triangle, jnp.asarray(self.damping, triangle.dtype))

    def update(
        self, objective: Objective, learned: PyTree, state: _State, updates: int = 1
    ) -> tuple[PyTree, Any, Epoch]:
        """See `AbstractOptimiser.update`."""
        squares = _as_least_squares(objective)
        flat, restore = ravel_pytree(learned)
        smallest = jnp.finfo(flat.dtype).eps

        def attempt(search: _Search) -> _Search:
            step, promised = damped_step(state.triangle, search.damping)
            point = restore(flat + step.astype(flat.dtype))
            evaluation = objective(point)
            gain = (state.evaluation.loss - evaluation.loss) / promised
            # Below that, neither the loss nor the point would show a difference.
            vanishes = (promised <= smallest * state.evaluation.loss) | jnp.all(
                jnp.abs(step) <= smallest * jnp.abs(flat)
            )
            accepted = evaluation.is_finite & (gain > _LEAST_GAIN) & ~vanishes
            less = jnp.clip(1 - (2 * gain - 1) ** 3, 1 / 3, 2)
            damping = search.damping * jnp.where(accepted, less, search.growth)
            new, old = (point, evaluation), (search.point, search.evaluation)
            point, evaluation = jax.tree.map(lambda a, b: jnp.where(accepted, a, b), new, old)
            return _Search(
                search.attempts + 1,
                jnp.maximum(damping, _LEAST_DAMPING).astype(damping.dtype),
                2 * search.growth,
                search.damping,
                point,
                evaluation,
                accepted,
                accepted | vanishes,
            )

        damping = state.damping
        first = _Search(
            jnp.array(0),
            damping,
            jnp.full_like(damping, 2),
            damping,
            learned,
            state.evaluation,
            jnp.array(False),
            jnp.array(False),
        )
        found = jax.lax.while_loop(
            lambda search: ~search.ended & (search.attempts < self.max_attempts), attempt, first
        )
        triangle = jax.lax.cond(
            found.accepted,
            lambda point: squares.triangle(point),
            lambda _: state.triangle,
            found.point,
        )
        # A derivative that could not be solved for is as bad as a gradient that could not.
        sound = jnp.isfinite(triangle).all()
        gradient = jax.tree.map(
            lambda leaf: jnp.where(sound, leaf, jnp.nan), found.evaluation.gradient
        )
        evaluation = eqx.tree_at(lambda e: e.gradient, found.evaluation, gradient)
        epoch = Epoch(evaluation, 1 / (1 + found.used), ~found.accepted)
        return found.point, _State(evaluation, triangle, found.damping), epoch

    def refresh(self, objective: Objective, learned: PyTree, state: _State) -> _State:
        """Evaluate anew: losses of two objectives cannot be compared."""
        return self.init(objective, learned)._replace(damping=state.damping)


def _as_least_squares(objective: Objective) -> LeastSquares:
    if not isinstance(objective, LeastSquares):
        raise InputError(
            f"LevenbergMarquardt needs a sum of squares, and {objective} has no residuals: use "
            "LBFGS."
        )
    return objective
