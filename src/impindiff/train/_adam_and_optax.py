"""Optimisers that need a gradient alone: Adam, and any of optax."""

from collections.abc import Mapping
from typing import Any, final

import equinox as eqx
import jax
import jax.numpy as jnp
import optax
from jaxtyping import PyTree

from impindiff._errors import InputError
from impindiff._types import Scalar
from impindiff.train._by_name import REST, by_name
from impindiff.train._objective import AbstractObjective
from impindiff.train._optimisers import (
    AbstractOptimiser,
    CountedEpochs,
    Epoch,
    StageLength,
    check_positive,
)

# Of numbers near 1.
_USUAL = 4e-3


def _as_dict(rates: float | Mapping[str, float] | None) -> float | dict[str, float] | None:
    return dict(rates) if isinstance(rates, Mapping) else rates


@final
class Adam(AbstractOptimiser, metaclass=CountedEpochs):
    """Adam with a constant rate for a share of the stage's epochs, then a cosine decay.

    An update's loss is the one before it; that of an epoch in batches is the mean over its updates.

    Args:
        learning_rate: the constant rate; or rates by the names of latents, with `"*"` for all that
            are not named, as in `{"k": 1e-2, "*": 4e-3}`. Where None, 4e-3 in the unit of each
            latent, see [training](docs/training.md#units): a rate that is given is of the learned
            numbers themselves.
        constant_share: share of the epochs before the decay.
        final_share: the last rate, relative to the first.

    Reference: Kingma & Ba (2015), arXiv 1412.6980; the schedule is that of arXiv 2504.02260's code.
    """

    learning_rate: float | dict[str, float] | None = eqx.field(
        kw_only=True, default=None, converter=_as_dict
    )
    constant_share: float = eqx.field(static=True, kw_only=True, default=0.25)
    final_share: float = eqx.field(static=True, kw_only=True, default=1e-3)

    def __check_init__(self) -> None:
        """Refuse counts and rates that do nothing."""
        check_positive(self, *self._rates.values())

    @property
    def _rates(self) -> dict[str, float]:
        rates = _USUAL if self.learning_rate is None else self.learning_rate
        return rates if isinstance(rates, dict) else {REST: rates}

    @property
    def takes_units(self) -> bool:
        """See `AbstractOptimiser.takes_units`: unless its rates are given."""
        return self.learning_rate is None

    def _share(self, epochs: int) -> optax.Schedule:
        """Of the first rate, by epochs done."""
        constant = round(self.constant_share * epochs)
        decay = optax.cosine_decay_schedule(1.0, max(1, epochs - constant), self.final_share)
        return optax.join_schedules([optax.constant_schedule(1.0), decay], [constant])

    def check(self, learned: PyTree) -> None:
        """Refuse rates of latents that there are not, and latents without a rate."""
        by_name(learned, self._rates, "learning rate")

    def init(self, objective: AbstractObjective, learned: PyTree) -> Any:
        """See `AbstractOptimiser.init`."""
        return jnp.array(0), optax.scale_by_adam().init(learned)

    def update(
        self, objective: AbstractObjective, learned: PyTree, state: Any, length: StageLength
    ) -> tuple[PyTree, Any, Epoch]:
        """See `AbstractOptimiser.update`."""
        count, moments = state
        evaluation = objective(learned)
        direction, moments = optax.scale_by_adam().update(evaluation.gradient, moments)
        share = self._share(length.epochs)(count // length.updates_per_epoch)
        rates = by_name(learned, self._rates, "learning rate")
        learned = jax.tree.map(
            lambda p, d, rate: p - (rate * share * d).astype(p.dtype), learned, direction, rates
        )
        # Of several rates the largest; they fall together.
        rate = jnp.asarray(max(self._rates.values()) * share)
        return learned, (count + 1, moments), Epoch(evaluation, rate, jnp.array(False))


@final
class Optax(AbstractOptimiser, metaclass=CountedEpochs):
    """An optax optimiser, or a chain of transformations that ends in a step.

    The epoch's loss is the one before its update. Schedules count updates, which with batches are
    several an epoch. Optimisers that search along a line or follow the loss (`optax.lbfgs`,
    `optax.polyak_sgd`) are given `value`, `grad` and `value_fn`. Each call of `value_fn` is a
    rollout of all samples, and its gradient one forth and back, beyond that which begins the epoch;
    `LBFGS` compiles less and evaluates less often. Where a solve fails in such a search the loss is
    infinite, so that a shorter step is taken.

    Args:
        transformation: what makes of a gradient the change of the learned arrays, such as
            `optax.chain(optax.clip_by_global_norm(1.0), optax.adamw(1e-3))`. For one by the name
            of each latent see `by_latent`.

    The epoch's record tells the learning rate where the state holds one, as it does of
    `optax.inject_hyperparams`.
    """

    transformation: optax.GradientTransformation

    def __check_init__(self) -> None:
        """Refuse what is no transformation."""
        if not isinstance(self.transformation, optax.GradientTransformation):
            raise InputError(
                f"Optax has {self.transformation!r:.60}: give a transformation of optax, such as "
                "Optax(optax.adamw(1e-3))."
            )

    def check(self, learned: PyTree) -> None:
        """Refuse what the transformation cannot begin with."""
        eqx.filter_eval_shape(self.transformation.init, learned)

    def init(self, objective: AbstractObjective, learned: PyTree) -> Any:
        """See `AbstractOptimiser.init`."""
        return jax.tree.map(_as_numbers, self.transformation.init(learned))

    def update(
        self, objective: AbstractObjective, learned: PyTree, state: Any, length: StageLength
    ) -> tuple[PyTree, Any, Epoch]:
        """See `AbstractOptimiser.update`."""
        evaluation = objective(learned)
        # Only its kinds of leaves are used, which cost nothing.
        fresh = self.transformation.init(learned)
        changes, inner = optax.with_extra_args_support(self.transformation).update(
            evaluation.gradient,
            jax.tree.map(_as_in, fresh, state),
            learned,
            value=evaluation.loss,
            grad=evaluation.gradient,
            value_fn=_value_function(objective),
        )
        # As it was: in batches, and from a checkpoint, kinds of numbers may not change.
        kept = jax.tree.map(lambda new, old: _as_numbers(new).astype(old.dtype), inner, state)
        epoch = Epoch(evaluation, _learning_rate(kept), jnp.array(False))
        return optax.apply_updates(learned, changes), kept, epoch


def _is_key(leaf: Any) -> bool:
    return eqx.is_array(leaf) and jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key)


def _as_numbers(leaf: Any) -> jax.Array:
    """A leaf of a state as what a checkpoint can hold, and `jnp.where` choose."""
    return jax.random.key_data(leaf) if _is_key(leaf) else jnp.asarray(leaf)


def _as_in(fresh: Any, numbers: jax.Array) -> jax.Array:
    if not _is_key(fresh):
        return numbers
    return jax.random.wrap_key_data(numbers, impl=jax.random.key_impl(fresh))


def _value_function(objective: AbstractObjective):
    """The loss alone, whose gradient is that of the objective and not derived a second time."""

    def value(evaluation) -> Scalar:
        loss = evaluation.loss
        return jnp.where(evaluation.outcome.converged.all(), loss, jnp.inf).astype(loss.dtype)

    @jax.custom_jvp
    def loss(learned: PyTree) -> Scalar:
        return value(objective(learned))

    @loss.defjvp
    def _(primals, tangents):
        evaluation = objective(*primals)
        slopes = jax.tree.map(jnp.vdot, evaluation.gradient, *tangents)
        loss = value(evaluation)
        return loss, jax.tree.reduce(jnp.add, slopes).astype(loss.dtype)

    return loss


def _learning_rate(state: Any) -> Scalar:
    """What a state calls by this name, NaN where that is nothing or several."""
    found = [
        value
        for _, value in optax.tree_utils.tree_get_all_with_path(state, "learning_rate")
        if eqx.is_array(value) and value.ndim == 0
    ]
    return found[0] if len(found) == 1 else jnp.array(jnp.nan)
