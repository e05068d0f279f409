"""Dates as numbers: seconds since 1970, in double precision."""

import datetime
from typing import Any

import numpy as np

from impindiff._errors import InputError

EPOCH = np.datetime64("1970-01-01T00:00:00", "ns")
UNITS = "seconds since 1970-01-01"
"""What files say of such numbers, by the CF conventions: xarray makes dates of them again."""


def holds_dates(times: Any) -> bool:
    """Whether times are dates, of NumPy, pandas or the standard library."""
    found = np.asarray(times)
    return found.dtype.kind == "M" or (found.dtype.kind == "O" and _is_dates(found))


def _is_dates(times: np.ndarray) -> bool:
    return bool(times.size) and all(isinstance(time, datetime.date) for time in times.flat)


def as_seconds(times: Any) -> np.ndarray:
    """Times as numbers; dates (`datetime64`) as seconds since 1970, which are exact to 2e-7.

    Raises: InputError for spans of time where times are wanted, and for what is no number.
    """
    try:
        found = np.asarray(times)
        if found.dtype.kind == "O" and _is_dates(found):
            found = found.astype("datetime64[ns]")
        if found.dtype.kind == "M":
            missing = np.isnat(found)
            found = (found.astype("datetime64[ns]") - EPOCH) / np.timedelta64(1, "s")
            return np.where(missing, np.nan, found)
        if found.dtype.kind == "m":
            raise TypeError("spans of time, timedelta64")
        return found.astype(np.float64)
    except (TypeError, ValueError) as error:
        raise InputError(
            f"times must be numbers or dates, datetime64; found {times!r:.80} ({error}). Spans of "
            "time become numbers by spans / np.timedelta64(1, 's')."
        ) from error


def as_dates(seconds: np.ndarray) -> np.ndarray:
    """The dates of such numbers, to a microsecond."""
    return np.round(seconds * 1e6).astype("datetime64[us]").astype("datetime64[ns]")
