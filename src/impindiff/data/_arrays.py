"""Arrays for computing, taken from a dataset by positions along `sample` and `time`.

An initial field must be known in every cell. Later snapshots may have gaps (NaN), but a sample or a
time with nothing observed at all is a mistake: it would count as data and teach nothing.
"""

from collections.abc import Sequence

import numpy as np
import xarray as xr

from impindiff._errors import InputError
from impindiff.data._variables import field_of, source_of


def times_of(dataset: xr.Dataset) -> np.ndarray:
    """The times of the data as they were written before they went through float32, in float64.

    0.05 and not 0.0500000007. Times whose spacing seven digits would change are left as they are,
    and so are those that never were float32: they are exact.
    """
    times = np.asarray(dataset["time"].values, np.float64)
    tidy = np.array([float(f"{time:.7g}") for time in times])
    change = np.abs(tidy - times)
    if np.any(change > 1e-3 * np.diff(times).min(initial=np.inf)):
        return times
    is_round_off = change <= 1e-14 * np.abs(times).max(initial=0)
    return tidy if np.all(is_round_off | (times == times.astype(np.float32))) else times


def initial_fields(dataset: xr.Dataset, field: str, samples: Sequence[int]) -> np.ndarray:
    """The field at the first time of the data, in the data's dtype.

    Args:
        dataset: a dataset that holds the field.
        field: the variable's name.
        samples: positions along `sample`, as from `select_samples`.

    Shapes: returns `(sample, *space)`.
    Raises: InputError if a cell is NaN or infinite.
    """
    values = field_of(dataset, field).values[list(samples), 0]
    unknown = _count(~np.isfinite(values), first_axis=1)
    if unknown.any():
        counts = [f"{s} ({n} cells)" for s, n in zip(samples, unknown, strict=True) if n]
        raise InputError(
            f"{source_of(dataset)}: {field!r} at time {float(dataset['time'][0]):g}, where "
            "simulations start, must be known in every cell, but is NaN or infinite in sample "
            f"{', '.join(counts)}, of {values[0].size} cells each. Fill the gaps, or leave these "
            "samples out."
        )
    return values


def snapshots(
    dataset: xr.Dataset, field: str, samples: Sequence[int], times: Sequence[int]
) -> np.ndarray:
    """The field at some samples and times, in the data's dtype; NaN where it was not observed.

    Args:
        dataset: a dataset that holds the field.
        field: the variable's name.
        samples: positions along `sample`, as from `select_samples`.
        times: positions along `time`, as from `select_times`.

    Shapes: returns `(sample, time, *space)`.
    Raises: InputError if a sample or a time has no observed cell.
    """
    values = field_of(dataset, field).values[np.ix_(samples, times)]
    observed = _count(~np.isnan(values), first_axis=2)
    found = f"{source_of(dataset)}: {field!r} is NaN (not observed) everywhere in"
    if blank := [s for s, n in zip(samples, observed.sum(axis=1), strict=True) if n == 0]:
        raise InputError(
            f"{found} sample {', '.join(map(str, blank))} at the selected times. "
            "Select other samples or times."
        )
    if blank := [t for t, n in zip(times, observed.sum(axis=0), strict=True) if n == 0]:
        moments = ", ".join(f"{float(dataset['time'][t]):g}" for t in blank)
        raise InputError(
            f"{found} the selected samples at time {moments}. Select other samples or times."
        )
    return values


def _count(cells: np.ndarray, first_axis: int) -> np.ndarray:
    """How many are true, over the axes from `first_axis` on."""
    return cells.sum(axis=tuple(range(first_axis, cells.ndim)))
