"""How far a forecast is from what instruments read."""

from collections.abc import Collection, Sequence
from typing import NamedTuple

import numpy as np
import xarray as xr
from pydantic import BaseModel

from impindiff._errors import InputError
from impindiff.data import readings, time_slack, times_of, without_dates
from impindiff.grid import Grid
from impindiff.observe import AbstractObservation, deviations_of, measure


class ReadingError(BaseModel):
    """Of some readings of one instrument.

    Attributes:
        rmse: root mean square of prediction less reading, in the reading's units.
        chi2_per_reading: mean square of that over the stated noise, near 1 for a model that is
            right; null where no noise is stated.
        count: how many readings there are.
    """

    rmse: float
    chi2_per_reading: float | None
    count: int


class ReadingScore(ReadingError):
    """Of all readings of one instrument, and of its two parts.

    Attributes:
        trained: of the readings that training has seen.
        held_back: of the others.
    """

    trained: ReadingError | None
    held_back: ReadingError | None


class Seen(NamedTuple):
    """What of the data training has seen: positions of samples, and times."""

    samples: Collection[int]
    times: Collection[float]


UNSEEN = Seen((), ())


def score_readings(
    forecast: xr.Dataset,
    truth: xr.Dataset,
    samples: Sequence[int],
    observe: Sequence[AbstractObservation],
    grid: Grid | None,
    seen: Seen,
) -> dict[str, ReadingScore]:
    """Compare a forecast with readings at the times they share.

    The state that a forecast began with, where it is the data's own, is not compared with itself.

    Args:
        forecast: as `predict` gives it; its samples are those of `truth` at `samples`.
        truth: the data, NaN where nothing was read.
        samples: positions in the data.
        observe: the instruments.
        grid: of the system, where there is one.
        seen: by training.

    Returns: by the name of the readings, for instruments with any reading to compare with.
    Raises: InputError as `measure`, where no time is shared, or for noise that is none.
    """
    forecast, truth = without_dates(forecast), without_dates(truth)
    clock = times_of(truth)
    ours, theirs = shared_times(times_of(forecast), clock)
    if begins_with_data(forecast, truth, samples):
        later = clock[theirs] > float(times_of(forecast)[0]) + time_slack(clock)
        ours, theirs = ours[later], theirs[later]
    if not theirs.size:
        return {}
    at = [int(k) for k in theirs]
    predicted = measure(forecast, grid, observe, truth)
    known = {each.data: readings(truth, each.data, samples, at) for each in observe}
    deviations = deviations_of(observe, truth, known, samples, at)
    trained = np.isin(samples, list(seen.samples))[:, None] & _among(clock[theirs], seen.times)
    scores = {}
    for name, values in known.items():
        error = predicted[name].values[:, ours] - values
        spread = deviations.get(name)
        in_noise = None if spread is None else error / spread
        is_trained = np.broadcast_to(
            trained.reshape(*trained.shape, *[1] * (error.ndim - 2)), error.shape
        )
        whole = _error(error, in_noise, np.full(error.shape, True))
        if whole is not None:
            parts = (_error(error, in_noise, part) for part in (is_trained, ~is_trained))
            scores[name] = ReadingScore(
                **whole.model_dump(), **dict(zip(("trained", "held_back"), parts, strict=True))
            )
    return scores


def shared_times(ours: np.ndarray, theirs: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Positions of the same instants in two lists of times.

    Raises: InputError if there are none.
    """
    # Each of theirs, which may be repeated readings.
    nearest = np.abs(theirs[:, None] - ours).argmin(axis=1)
    positions = np.flatnonzero(np.abs(theirs - ours[nearest]) <= time_slack(theirs))
    if not positions.size:
        raise InputError(
            f"the forecast ({ours[0]:.10g} to {ours[-1]:.10g}) and the data ({theirs[0]:.10g} to "
            f"{theirs[-1]:.10g}) share no time to be compared at."
        )
    return nearest[positions], positions


def begins_with_data(
    forecast: xr.Dataset, truth: xr.Dataset, samples: Sequence[int], field: str | None = None
) -> bool:
    """Whether the first state of a forecast is the data's own, so that it agrees with itself.

    Args:
        forecast: as `predict` gives it.
        truth: the data.
        samples: positions in the data.
        field: which; any of them by default.
    """
    clock, first = times_of(truth), float(times_of(forecast)[0])
    at = int(np.abs(clock - first).argmin())
    if abs(clock[at] - first) > time_slack(clock):
        return False

    def is_own(name: str) -> bool:
        ours, theirs = forecast[name], truth[name]
        if ours.dims[:2] != ("sample", "time") or ours.dims != theirs.dims:
            return False
        start = theirs.values[samples, at].astype(ours.dtype)
        return bool(np.array_equal(ours.values[:, 0], start))

    named = forecast.data_vars if field is None else (field,)
    return any(is_own(str(name)) for name in named if name in truth.data_vars)


def _among(times: np.ndarray, others: Collection[float]) -> np.ndarray:
    slack, others = time_slack(times), np.array(sorted(others))
    near = np.abs(times[:, None] - others[None, :]) <= slack
    return np.any(near, axis=1)[None, :]


def _error(error: np.ndarray, in_noise: np.ndarray | None, part: np.ndarray) -> ReadingError | None:
    there = part & ~np.isnan(error)
    if not there.any():
        return None
    chi2 = None if in_noise is None else float(np.mean(in_noise[there] ** 2))
    return ReadingError(
        rmse=float(np.sqrt(np.mean(error[there] ** 2))),
        chi2_per_reading=chi2,
        count=int(there.sum()),
    )
