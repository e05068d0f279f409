"""What a model is trained on: initial fields and later snapshots, taken from a dataset."""

from collections.abc import Sequence
from typing import final

import equinox as eqx
import jax.numpy as jnp
import numpy as np
import xarray as xr

from impindiff._errors import InputError
from impindiff._types import State
from impindiff.data import (
    check_dataset,
    check_grid,
    initial_fields,
    select_samples,
    select_times,
    snapshots,
    times_of,
)
from impindiff.grid import Grid
from impindiff.rollout import TimeGrid


@final
class Observations(eqx.Module):
    """Snapshots of some samples at some times, and where those samples started.

    Attributes:
        initial: for each field an array `(sample, *grid)`.
        observed: for each field an array `(sample, time, *grid)`, NaN where not observed.
        start: time of the initial fields.
        times: times of the snapshots.
    """

    initial: State
    observed: State
    start: float = eqx.field(static=True)
    times: tuple[float, ...] = eqx.field(static=True)

    @property
    def num_samples(self) -> int:
        """How many samples there are."""
        return len(next(iter(self.initial.values())))

    def time_grid(self, dt: float) -> TimeGrid:
        """Steps of at most `dt` through all observed times."""
        return TimeGrid.build(self.start, np.array(self.times), dt)

    @classmethod
    def from_dataset(
        cls,
        dataset: xr.Dataset,
        grid: Grid | None,
        fields: Sequence[str],
        samples: str | Sequence[int],
        times: Sequence[float] | np.ndarray,
        dtype: jnp.dtype | type = jnp.float32,
    ) -> "Observations":
        """Select and check.

        Raises: InputError for a dataset that is not of the documented layout or of another grid,
            for samples or times that it does not have, and for values that are not finite where
            they must be.
        """
        check_dataset(dataset, fields=fields)
        for field in fields:
            check_grid(dataset, field, grid)
        at = select_samples(dataset, samples)
        when = select_times(dataset, times)
        clock = times_of(dataset)
        if when[0] == 0:
            raise InputError(
                f"training time {clock[0]:g} is the initial time, whose fields are given and not "
                "predicted: leave it out of the training times."
            )
        return cls(
            {field: jnp.asarray(initial_fields(dataset, field, at), dtype) for field in fields},
            {field: jnp.asarray(snapshots(dataset, field, at, when), dtype) for field in fields},
            float(clock[0]),
            tuple(float(clock[i]) for i in when),
        )
