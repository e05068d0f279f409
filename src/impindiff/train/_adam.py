"""Adam, with a rate for all latents or one for each."""

from collections.abc import Mapping
from typing import Any, final

import equinox as eqx
import jax
import jax.numpy as jnp
import optax
from jaxtyping import PyTree

from impindiff.train._by_name import REST, by_name
from impindiff.train._objective import AbstractObjective
from impindiff.train._optimisers import AbstractOptimiser, Epoch, StageLength, check_positive


def _as_dict(rates: float | Mapping[str, float]) -> float | dict[str, float]:
    return dict(rates) if isinstance(rates, Mapping) else rates


@final
class Adam(AbstractOptimiser):
    """Adam with a constant rate for a share of the stage's epochs, then a cosine decay.

    An update's loss is the one before it; that of an epoch in batches is the mean over its updates.

    Args:
        learning_rate: the constant rate; or rates by the names of latents, with `"*"` for all that
            are not named, as in `{"k": 1e-2, "*": 4e-3}`.
        constant_share: share of the epochs before the decay.
        final_share: the last rate, relative to the first.

    Reference: Kingma & Ba (2015), arXiv 1412.6980; the schedule is that of arXiv 2504.02260's code.
    """

    learning_rate: float | dict[str, float] = eqx.field(
        kw_only=True, default=4e-3, converter=_as_dict
    )
    constant_share: float = eqx.field(static=True, kw_only=True, default=0.25)
    final_share: float = eqx.field(static=True, kw_only=True, default=1e-3)

    def __check_init__(self) -> None:
        """Refuse counts and rates that do nothing."""
        check_positive(self, *self._rates.values())

    @property
    def _rates(self) -> dict[str, float]:
        rates = self.learning_rate
        return rates if isinstance(rates, dict) else {REST: rates}

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
