"""How good a forecast is, where the truth is known."""

from collections.abc import Sequence

import numpy as np
import xarray as xr
from pydantic import BaseModel, Field

from impindiff._errors import InputError
from impindiff.data import (
    check_is_dataset,
    is_setting,
    select_samples,
    times_of,
    without_dates,
)
from impindiff.forecast._balances import BalanceScore, balances_of
from impindiff.forecast._reading_scores import (
    UNSEEN,
    ReadingScore,
    Seen,
    begins_with_data,
    score_readings,
    shared_times,
)
from impindiff.forecast._tables import is_table, truth_at
from impindiff.grid import Grid
from impindiff.observe import AbstractObservation, relative_error


class FieldErrors(BaseModel):
    """Errors of one field against time, averaged over samples."""

    time: list[float]
    relative_l1_percent: list[float]
    relative_l2_percent: list[float]


_NOTHING = FieldErrors(time=[], relative_l1_percent=[], relative_l2_percent=[])


class LatentError(BaseModel):
    """Error of one learned coefficient."""

    relative_l2_percent: float


class Scores(BaseModel):
    """What `evaluate` returns.

    Attributes:
        fields: for each field, relative errors $|p - d|/|d|$ in percent at each time.
        latent: for each learned coefficient whose truth the data carries, its error; of one that
            varies in time, or whose truth does, over the shared times; of a closure over the range
            of its inputs in which the truth is known.
        samples: the samples' positions in the data.
        readings: of the instruments, where there are any, how far the forecast is from them.
        balances: of the forecast, those that the system states.
    """

    fields: dict[str, FieldErrors]
    latent: dict[str, LatentError]
    samples: list[int]
    # Left out where there are none: readers of the scores of most systems know of no such key.
    readings: dict[str, ReadingScore] = Field(default_factory=dict, exclude_if=lambda of: not of)
    balances: dict[str, BalanceScore] = Field(default_factory=dict, exclude_if=lambda of: not of)


def evaluate(
    forecast: xr.Dataset,
    truth: xr.Dataset,
    samples: str | Sequence[int] | None = None,
    *,
    observe: Sequence[AbstractObservation] = (),
    grid: Grid | None = None,
    seen: Seen = UNSEEN,
) -> Scores:
    """Compare a forecast with the data at the times they share.

    Only what was observed counts: a sample of which the data hold nothing but NaN at some time is
    left out of that time's average. A time at which that holds of all samples is left out of the
    field's errors altogether: `FieldErrors.time` lists those that remain, which may be none. The
    state that the forecast began with, where it is the data's own, does not count alone.

    Args:
        forecast: as `predict` gives it; its samples are those of `truth` at `samples`.
        truth: the data, NaN where not known.
        samples: positions in the data, such as "5:10"; all by default.
        observe: instruments whose readings are compared, too.
        grid: of the system, for these.
        seen: what of the data training has seen, for these.

    Raises: InputError if no time is shared, or the samples are not as many as the forecast's.
    """
    check_is_dataset(forecast, "the forecast")
    check_is_dataset(truth, "the truth")
    forecast, truth = without_dates(forecast), without_dates(truth)
    positions = select_samples(truth, samples)
    if len(positions) != forecast.sizes["sample"]:
        raise InputError(
            f"the forecast has {forecast.sizes['sample']} samples, but {len(positions)} of the "
            f"data were selected ({samples!r}): give the same samples to both."
        )
    clock = times_of(forecast)
    ours, theirs = shared_times(clock, times_of(truth))
    fields: dict[str, FieldErrors] = {}
    latent: dict[str, LatentError] = {}
    for name, variable in forecast.data_vars.items():
        if name not in truth.data_vars or is_setting(variable):
            continue
        if "sample" in variable.dims:
            known = truth[name].values[positions][:, theirs]
            found = _field_errors(clock[ours], variable.values[:, ours], known)
            alone = found.time == [clock[0]]
            if alone and begins_with_data(forecast, truth, positions, str(name)):
                found = _NOTHING
            fields[str(name)] = found
            continue
        known = truth_at(variable, truth[name]) if is_table(variable) else truth[name]
        if known is None:
            continue
        values = variable.values
        if not is_table(variable):
            values = values[ours] if "time" in variable.dims else values
            known = known.isel(time=theirs) if "time" in known.dims else known
        found, exact = np.broadcast_arrays(values, known.values)
        error = relative_error(found, exact, 2, exact.ndim)
        latent[str(name)] = LatentError(relative_l2_percent=100 * float(error))
    return Scores(
        fields=fields,
        latent=latent,
        samples=positions,
        readings=score_readings(forecast, truth, positions, observe, grid, seen) if observe else {},
        balances=balances_of(forecast),
    )


def _field_errors(times: np.ndarray, found: np.ndarray, known: np.ndarray) -> FieldErrors:
    """Errors of `(sample, time, *space)` at the times at which there is something to compare."""
    space = tuple(range(2, known.ndim))
    observed = np.any(~np.isnan(known), axis=space)
    kept = observed.any(axis=0)
    errors = [
        100 * relative_error(found[:, kept], known[:, kept], order, len(space)) for order in (1, 2)
    ]
    l1, l2 = (error.mean(axis=0, where=observed[:, kept]).tolist() for error in errors)
    return FieldErrors(time=times[kept].tolist(), relative_l1_percent=l1, relative_l2_percent=l2)
