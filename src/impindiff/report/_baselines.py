"""What the error of a forecast is held against: how much the data change, and how much they vary.

A relative error alone depends on where a quantity has its zero. Of temperatures near 290 K that
vary by 0.01 K, any forecast at all is 0.01 % off.
"""

import math
from collections.abc import Mapping

import numpy as np
import xarray as xr

from impindiff.observe import relative_error
from impindiff.report._frames import Variable, variables_of


def of_no_change(field: Variable, time: float) -> float:
    """Relative L1 error [%] at a time of a forecast that keeps the first data, over all samples."""
    at, errors = _index(field, time), []
    for _, truth in _pairs(field):
        if at > 0 and np.isfinite(truth[at]).any():
            last = np.where(np.isfinite(truth[0]), truth[at], np.nan)
            errors.append(relative_error(np.nan_to_num(truth[0]), last, 1, last.ndim))
    return _mean(errors)


def errors_of_no_change(forecast: xr.Dataset, times: Mapping[str, float]) -> dict[str, float]:
    """Relative L1 errors [%] of keeping the first data, of those fields for which there is one.

    Args:
        forecast: of a run, with the truth beside it.
        times: by the name of a field the time to compare at.
    """
    fields = {field.name: field for field in variables_of(forecast)[0]}
    found = {n: of_no_change(fields[n], time) for n, time in times.items() if n in fields}
    return {name: error for name, error in found.items() if math.isfinite(error)}


def of_variation(field: Variable, time: float) -> float:
    """Mean error at a time [%] of how far the data are from their median, over all samples."""
    at, errors = _index(field, time), []
    for forecast, truth in _pairs(field):
        error = np.abs(forecast[at] - truth[at])
        error, known = error[np.isfinite(truth[at])], truth[np.isfinite(truth)]
        if error.size and (deviation := np.abs(known - np.median(known)).mean()) > 0:
            errors.append(error.mean() / deviation)
    return _mean(errors)


def is_of_zero(field: Variable, time: float) -> bool:
    """Whether an error at a time has no value only because some sample's data are zero there."""
    at, pairs = _index(field, time), _pairs(field)
    known = [(f[at][np.isfinite(t[at])], t[at][np.isfinite(t[at])]) for f, t in pairs]
    is_zero = any(truth.size and not truth.any() for _, truth in known)
    return is_zero and all(np.isfinite(forecast).all() for forecast, _ in known)


def _index(field: Variable, time: float) -> int:
    if "time" not in field.forecast.coords:
        return 0
    return int(np.abs(field.forecast["time"].to_numpy().astype(np.float64) - time).argmin())


def _pairs(field: Variable) -> list[tuple[np.ndarray, np.ndarray]]:
    """Forecast and data of each sample, (time, cell); none where the data hold nothing."""
    truth, order = field.truth, ("sample", "time", ...)
    if truth is None or "time" not in truth.dims or set(truth.dims) != set(field.forecast.dims):
        return []
    both = (each.transpose(*order).to_numpy() for each in (field.forecast, truth))
    flat = (each.astype(np.float64).reshape(*each.shape[:2], -1) for each in both)
    return list(zip(*flat, strict=True))


def _mean(errors: list) -> float:
    with np.errstate(over="ignore", invalid="ignore"):
        return float(100 * np.mean(errors)) if errors else math.nan
