"""Adam as a training stage, with a rate for all latents or one for each."""

from collections.abc import Mapping
from typing import Any, ClassVar, final

import equinox as eqx
import jax
import jax.numpy as jnp
import optax
from jaxtyping import PyTree

from impindiff.train._batch import WHOLE, Batching
from impindiff.train._by_name import REST, by_name
from impindiff.train._objective import Objective
from impindiff.train._optimisers import AbstractOptimiser, Epoch, check_counts


def _as_dict(rates: float | Mapping[str, float]) -> float | dict[str, float]:
    return dict(rates) if isinstance(rates, Mapping) else rates


@final
class Adam(AbstractOptimiser):
    """Adam with a constant rate for a share of the epochs, then a cosine decay.

    The epoch's loss is the one before its update.

    Args:
        epochs: number of epochs.
        learning_rate: the constant rate; or rates by the names of latents, with `"*"` for all that
            are not named, as in `{"k": 1e-2, "*": 4e-3}`.
        constant_share: share of the epochs before the decay.
        final_share: the last rate, relative to the first.
        dt: see `AbstractOptimiser`, as for `freeze`.
        batching: how the training data are divided; an update for each batch, whose loss is that
            before it. The epoch's loss is the mean of theirs.

    Reference: Kingma & Ba (2015), arXiv 1412.6980; the schedule is that of arXiv 2504.02260's code.
    """

    name: ClassVar[str] = "adam"
    loss_is_before: ClassVar[bool] = True
    epochs: int = eqx.field(static=True)
    learning_rate: float | dict[str, float] = eqx.field(
        kw_only=True, default=4e-3, converter=_as_dict
    )
    constant_share: float = eqx.field(static=True, kw_only=True, default=0.25)
    final_share: float = eqx.field(static=True, kw_only=True, default=1e-3)
    dt: float | None = eqx.field(static=True, kw_only=True, default=None)
    batching: Batching = eqx.field(kw_only=True, default=WHOLE)

    def __check_init__(self) -> None:
        """Refuse counts and rates that do nothing."""
        check_counts(self, *self._rates.values())

    @property
    def _rates(self) -> dict[str, float]:
        rates = self.learning_rate
        return rates if isinstance(rates, dict) else {REST: rates}

    def _share(self) -> optax.Schedule:
        """Of the first rate, by epochs done."""
        constant = round(self.constant_share * self.epochs)
        decay = optax.cosine_decay_schedule(1.0, max(1, self.epochs - constant), self.final_share)
        return optax.join_schedules([optax.constant_schedule(1.0), decay], [constant])

    def check(self, learned: PyTree) -> None:
        """Refuse rates of latents that there are not, and latents without a rate."""
        by_name(learned, self._rates, "learning rate")

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
        share = self._share()(count // updates)
        rates = by_name(learned, self._rates, "learning rate")
        learned = jax.tree.map(
            lambda p, d, rate: p - (rate * share * d).astype(p.dtype), learned, direction, rates
        )
        # Of several rates the largest; they fall together.
        rate = jnp.asarray(max(self._rates.values()) * share)
        return learned, (count + 1, moments), Epoch(evaluation, rate, jnp.array(False))
