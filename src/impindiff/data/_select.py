"""Which samples and which times: what the user wrote becomes positions in the dataset.

Positions, not labels, count from 0. A range that reaches past the data is refused where Python
would shorten it: half a training set is not what was asked for.
"""

import operator
import re
from collections import Counter
from collections.abc import Iterable
from typing import SupportsIndex

import numpy as np
import xarray as xr
from numpy.typing import ArrayLike

from impindiff._dates import as_seconds
from impindiff._errors import InputError
from impindiff.data._arrays import time_slack, times_of
from impindiff.data._layout import check_time
from impindiff.data._variables import coordinate_of, listed, source_of

Start = float | str | np.datetime64
"""Where a forecast begins: "first" or "last" of the data's times, or one of them, be it a date."""

_RANGE = re.compile(r"(?P<start>[0-9]*):(?P<stop>[0-9]*)")
_FORMS = "Write for example '0:5' (the end is left out), '5:', '7' or '0,2,4:6'."


def select_samples(dataset: xr.Dataset, samples: str | Iterable[SupportsIndex] | None) -> list[int]:
    """Positions along `sample`, in the order given.

    Args:
        dataset: a dataset with the dimension `sample`.
        samples: positions, or text such as "0:5", "5:", "7" or "0,2,4:6"; all where None.

    Raises: InputError for text of another form, an empty selection, a position that is
        negative, beyond the data or given twice; for samples whose names are not along `sample`.
    """
    source = source_of(dataset)
    samples = ":" if samples is None else samples
    if "sample" not in dataset.sizes:
        raise InputError(f"{source}: there is no dimension 'sample' to select from.")
    if "sample" in dataset.variables and dataset["sample"].dims != ("sample",):
        raise InputError(
            f"{source}: the variable 'sample' has the dimensions ({listed(dataset['sample'].dims)})"
            ": it names the samples, one for each, along 'sample'. Rename it, or leave it out."
        )
    num_samples = dataset.sizes["sample"]
    subject = f"{source}: samples {samples!r}"
    held = f"the data has {num_samples} samples, 0 to {num_samples - 1}. {_FORMS}"
    if not isinstance(samples, Iterable):
        raise InputError(f"{subject}: must be text or a list of positions; {held}")
    parts = samples.split(",") if isinstance(samples, str) and samples.strip() else samples
    positions: list[int] = []
    for part in parts:
        span = _span(part, num_samples, subject)
        if span.stop > num_samples or span.start < 0:
            raise InputError(f"{subject}: {str(part).strip()} lies outside: {held}")
        positions.extend(span)
    if not positions:
        raise InputError(f"{subject}: select nothing; {held}")
    if twice := _repeated(positions):
        raise InputError(f"{subject}: {twice[0]} is selected more than once.")
    return positions


def select_times(dataset: xr.Dataset, times: ArrayLike) -> list[int]:
    """Positions along `time` of the times asked for.

    Args:
        dataset: a dataset with the coordinate `time`, increasing.
        times: the times asked for, increasing, in the data's unit, or dates. 0.05 finds
            0.0500000007, which it is in float32: see `time_slack`.

    Raises: InputError for no times, times that do not increase, lie outside the data, or fall
        between its times.
    """
    source = source_of(dataset)
    there = coordinate_of(dataset, "time", source).astype(np.float64)
    wanted = np.atleast_1d(as_seconds(times))
    held = f"the data has {there.size} times from {there[0]:.7g} to {there[-1]:.7g}"
    if wanted.size == 0:
        raise InputError(f"{source}: no times were given; {held}. Name at least one.")
    if not np.all(np.isfinite(wanted)):
        raise InputError(f"{source}: times {wanted.tolist()} must be finite numbers.")
    if np.any(np.diff(wanted) <= 0):
        at = int(np.argmax(np.diff(wanted) <= 0)) + 1
        raise InputError(
            f"{source}: times must increase, without repetition; found {wanted[at]:.7g} after "
            f"{wanted[at - 1]:.7g}."
        )
    slack = time_slack(there)
    positions = np.abs(there[:, None] - wanted).argmin(axis=0)
    for time, position in zip(wanted, positions, strict=True):
        if abs(there[position] - time) <= slack:
            continue
        if not there[0] <= time <= there[-1]:
            raise InputError(f"{source}: time {time:.7g} lies outside the data; {held}.")
        after = int(np.searchsorted(there, time))
        raise InputError(
            f"{source}: time {time:.7g} is not in the data; the nearest are {there[after - 1]:.7g} "
            f"and {there[after]:.7g}."
        )
    if twice := _repeated(positions.tolist()):
        raise InputError(f"{source}: two of the times fall on {there[twice[0]]:.7g} in the data.")
    return positions.tolist()


def start_of(dataset: xr.Dataset, start: Start = "first") -> tuple[int, float]:
    """Which of the data's times a forecast begins at: its position, and the time.

    Args:
        dataset: a dataset with the coordinate `time`.
        start: "first", "last", or the time itself.

    Raises: InputError for a time that is not in the data, or times that do not increase.
    """
    check_time(dataset, source_of(dataset))
    if isinstance(start, str) and start in ("first", "last"):
        position = 0 if start == "first" else dataset.sizes["time"] - 1
        return position, float(times_of(dataset)[position])
    time = instant(start)
    return select_times(dataset, time)[0], time


def instant(start: Start) -> float:
    """The number of a start that is given as a time or a date.

    Raises: InputError for anything else.
    """
    try:
        return float(as_seconds(start))
    except (InputError, TypeError, ValueError):
        raise InputError(
            f"a forecast begins at the 'first' or the 'last' time of the data, or at one given as "
            f"a number or a date, datetime64; found {start!r}."
        ) from None


def _span(part: str | SupportsIndex, num_samples: int, subject: str) -> range:
    """The positions that one part of a selection names; an open end reaches to the last sample."""
    try:
        if isinstance(part, bool):
            raise TypeError("a mask is no list of positions")
        if not isinstance(part, str):
            return _single(operator.index(part))
        if match := _RANGE.fullmatch(part.strip()):
            return range(int(match["start"] or 0), int(match["stop"] or num_samples))
        return _single(int(part))
    except (TypeError, ValueError):
        raise InputError(
            f"{subject}: cannot read {str(part).strip()!r} as a position or a range. {_FORMS}"
        ) from None


def _single(position: int) -> range:
    return range(position, position + 1)


def _repeated(positions: list[int]) -> list[int]:
    return [position for position, count in Counter(positions).items() if count > 1]
