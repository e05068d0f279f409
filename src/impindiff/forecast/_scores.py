"""How good a forecast is, where the truth or readings of it are known."""

from collections.abc import Collection, Sequence
from typing import NamedTuple

import numpy as np
import xarray as xr
from pydantic import BaseModel, Field

from impindiff._errors import InputError
from impindiff.data import (
    SPACE_AXES,
    begun_of,
    check_is_dataset,
    check_numeric,
    is_sample_parameter,
    readings,
    select_samples,
    time_slack,
    times_of,
    without_dates,
)
from impindiff.forecast._initial_condition import CUMULATIVE, is_table, truth_at
from impindiff.forecast._ledger import BalanceScore, balances_of
from impindiff.grid import Grid
from impindiff.observe import AbstractObservation, deviations_of, measure, relative_error


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
    Nor is a meter at the start, where every integral over time is 0 by definition.

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
    later = clock[theirs] > _start_of(forecast) + time_slack(clock)
    for each in observe:
        operator = each.prepare(grid, truth)
        if operator.is_cellwise:
            known[each.data] = _in_free_cells(grid, known[each.data])
        if operator.reads and all(_is_cumulative(forecast, name) for name in operator.reads):
            known[each.data] = known[each.data].astype(np.float64)
            known[each.data][:, ~later] = np.nan
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


def _start_of(forecast: xr.Dataset) -> float:
    """When a forecast began, of which the first time that it holds may be later."""
    begun = begun_of(forecast, 0)
    return float(times_of(forecast)[0]) if begun is None else begun


def _is_cumulative(forecast: xr.Dataset, name: str) -> bool:
    """Whether a variable of a forecast is an integral over time."""
    return name in forecast and forecast[name].attrs.items() >= CUMULATIVE.items()


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


class FieldErrors(BaseModel):
    r"""Errors of one field against time, averaged over samples.

    $\sum |p - d| / \sum |d|$, and $\sqrt{\sum (p - d)^2 / \sum d^2}$, over cells, which count alike
    whatever their volumes.
    """

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
        grid: of the system, for these, and for its obstacles: solid cells do not count.
        seen: what of the data training has seen, for the instruments.

    Raises: InputError if no time is shared, the samples are not as many as the forecast's or the
        same in another order, or the cells lie elsewhere.
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
    _check_same_samples(forecast, truth.isel(sample=positions))
    _check_same_cells(forecast, truth)
    clock = times_of(forecast)
    ours, theirs = shared_times(clock, times_of(truth))
    fields: dict[str, FieldErrors] = {}
    latent: dict[str, LatentError] = {}
    for name, variable in forecast.data_vars.items():
        if name not in truth.data_vars or is_sample_parameter(variable):
            continue
        if "sample" in variable.dims:
            _check_same_layout(variable, truth[name])
            known = _in_free_cells(grid, truth[name].values[positions][:, theirs])
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
        check_numeric(known, f"the truth of {name!r}")
        try:
            found, exact = np.broadcast_arrays(values, _in_free_cells(grid, known.values))
        except ValueError:
            raise _unlike(variable, truth[name]) from None
        error = relative_error(found, exact, 2, exact.ndim)
        latent[str(name)] = LatentError(relative_l2_percent=100 * float(error))
    return Scores(
        fields=fields,
        latent=latent,
        samples=positions,
        readings=score_readings(forecast, truth, positions, observe, grid, seen) if observe else {},
        balances=balances_of(forecast),
    )


def _in_free_cells(grid: Grid | None, truth: np.ndarray) -> np.ndarray:
    """The truth with NaN, not known, in solid cells: what stands there stands for nothing."""
    solid = None if grid is None else grid.solid
    if solid is None or truth.shape[-solid.ndim :] != solid.shape:
        return truth
    return np.where(solid, np.nan, truth)


def _check_same_samples(forecast: xr.Dataset, truth: xr.Dataset) -> None:
    """Refuse the same samples in another order, as far as both say which they are."""
    if not all("sample" in each.coords for each in (forecast, truth)):
        return
    ours, theirs = (each["sample"].values.tolist() for each in (forecast, truth))
    # Other ids are no other samples: a file of test samples counts its own from 0.
    if ours != theirs and set(ours) == set(theirs):
        raise InputError(
            f"the samples of the forecast are {str(ours):.60}, those of the data "
            f"{str(theirs):.60}: the same in another order. Put them in one order: "
            "truth.sel(sample=forecast['sample'])."
        )


def _check_same_cells(forecast: xr.Dataset, truth: xr.Dataset) -> None:
    """Refuse cells that lie elsewhere, as far as both say where theirs do."""
    for name in SPACE_AXES:
        if not all(name in each.coords and each[name].ndim == 1 for each in (forecast, truth)):
            continue
        check_numeric(truth[name], f"the truth's coordinate {name!r}")
        ours, theirs = (np.asarray(each[name].values, float) for each in (forecast, truth))
        if ours.shape != theirs.shape or ours.size < 2:
            continue
        # Coordinates are rounded: a thousandth of a cell is agreement.
        distance = np.abs(ours - theirs)
        if not distance.max() < 1e-3 * np.abs(np.diff(ours)).min():
            at = int(np.argmax(distance))
            raise InputError(
                f"the cells of the forecast and of the data lie apart: along {name!r} cell {at} is "
                f"at {ours[at]:.10g} in the forecast, and at {theirs[at]:.10g} in the data. Give "
                "the truth on the grid of the forecast and in its units, or interpolate it."
            )


def _check_same_layout(found: xr.DataArray, known: xr.DataArray) -> None:
    check_numeric(known, f"the truth of {known.name!r}")
    if found.dims != known.dims or found.shape[2:] != known.shape[2:]:
        raise _unlike(found, known)


def _unlike(found: xr.DataArray, known: xr.DataArray) -> InputError:
    return InputError(
        f"{known.name!r} has the sizes {dict(known.sizes)} in the data and {dict(found.sizes)} in "
        "the forecast: nothing can be compared. Give the truth on the grid of the forecast, its "
        "dimensions in the same order, or leave it out."
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
