"""Arrays for computing, taken from a dataset by positions along `sample` and `time`.

An initial field must be known in every cell. What was observed later may have gaps (NaN), but a
sample or a time with nothing observed at all is a mistake: it would count as data and teach
nothing.
"""

from collections.abc import Mapping, Sequence

import numpy as np
import xarray as xr

from impindiff._dates import as_seconds
from impindiff._errors import InputError
from impindiff.data._grids import check_grid
from impindiff.data._layout import check_dataset, check_time, check_values
from impindiff.data._variables import check_numeric, field_of, listed, source_of, variable_of
from impindiff.grid import Grid, round_off


def sample_parameters_of(
    dataset: xr.Dataset, names: Sequence[str], samples: Sequence[int]
) -> dict[str, np.ndarray]:
    """The sample parameters of some samples, in the data's dtype.

    Args:
        dataset: a dataset that holds them.
        names: of the sample parameters.
        samples: positions along `sample`, as from `select_samples`.

    Shapes: returns `(sample,)` for each.
    Raises: InputError for one that is missing, has another dimension, or is not finite.
    """
    source = source_of(dataset)
    if missing := [name for name in names if name not in dataset.variables]:
        raise InputError(
            f"{source}: there is no sample parameter {listed(missing)}, which the system needs; "
            f"it holds {listed(dataset.data_vars)}. Add it: "
            f"dataset.assign({missing[0]}=('sample', [...]))"
        )
    found = {}
    for name in names:
        array = dataset[name]
        if not is_sample_parameter(array):
            raise InputError(
                f"{source}: the sample parameter {name!r} has the dimensions "
                f"({listed(array.dims)}): it must have 'sample' alone, one number for each."
            )
        check_numeric(array, f"{source}: sample parameter {name!r}")
        found[name] = array.values[list(samples)]
        if len(unknown := np.flatnonzero(~np.isfinite(found[name]))):
            raise InputError(
                f"{source}: the sample parameter {name!r} of sample {samples[unknown[0]]} is "
                f"{found[name][unknown[0]]}: it must be known. Give it, or leave the sample out."
            )
    return found


def is_sample_parameter(variable: xr.DataArray) -> bool:
    """Whether a variable is one number for each sample."""
    return variable.dims == ("sample",)


# Of a number that was rounded in float32 there are more in float64, unless it is large.
_FEW_DIGITS = 13


def times_of(dataset: xr.Dataset) -> np.ndarray:
    """The times of the data as they were written before they went through float32, in float64.

    0.05 and not 0.0500000007. Times whose spacing seven digits would change are left as they are,
    and so are those that never were float32: they are exact. Of a single time no spacing is known:
    46000.03125, three quarters of an hour past midnight, is left as it is for its few digits.
    """
    times = as_seconds(dataset["time"].values)
    tidy = np.array([float(f"{time:.7g}") for time in times])
    change = np.abs(tidy - times)
    if times.size == 1 and len(_digits(times[0])) <= _FEW_DIGITS:
        return times
    gaps = np.diff(times)
    if np.any(change > 1e-3 * gaps[gaps != 0].min(initial=np.inf)):
        return times
    is_round_off = change <= 1e-14 * np.abs(times).max(initial=0)
    return tidy if np.all(is_round_off | (times == times.astype(np.float32))) else times


def _digits(time: float) -> str:
    return repr(float(time)).partition("e")[0].replace(".", "").strip("-0")


def time_slack(times: np.ndarray) -> float:
    """How far two numbers may lie apart that are the same instant, one of them being of the data.

    As far as they are rounded in float32, or written with five digits; and never so far that it
    might be another of the data's times. Times that float32 does not hold were never rounded to it:
    of dates, in seconds since 1970, that would be four minutes.
    """
    most = float(np.abs(times).max())
    single = round_off(times)
    if times.size < 2:
        return single
    gaps = np.diff(times)
    if not np.any(gaps > 0):
        return single
    # Readings may be repeated.
    spacing = float(gaps[gaps > 0].min())
    return max(min(1e-5 * most, 1e-2 * spacing), min(single, 0.1 * spacing))


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


def initial_state(
    dataset: xr.Dataset, grid: Grid | None, fields: Sequence[str], samples: Sequence[int]
) -> dict[str, np.ndarray]:
    """All fields of a system at the first time of the data, see `initial_fields`.

    Fields that are never observed again have to begin somewhere, too.

    Raises: InputError for a dataset that is not of the documented layout, lacks a field or lies on
        another grid.
    """
    if not fields:
        check_time(dataset, source_of(dataset))
        return {}
    check_dataset(dataset, fields=fields)
    for field in fields:
        check_grid(dataset, field, grid)
    return {field: initial_fields(dataset, field, samples) for field in fields}


def readings(
    dataset: xr.Dataset, name: str, samples: Sequence[int], times: Sequence[int]
) -> np.ndarray:
    """What was observed at some samples and times, in the data's dtype; NaN where nothing was.

    Args:
        dataset: a dataset that holds the variable.
        name: a variable whose dimensions begin with `sample` and `time`: a field, or the readings
            of an instrument.
        samples: positions along `sample`, as from `select_samples`.
        times: positions along `time`, as from `select_times`.

    Shapes: returns `(sample, time, ...)`.
    Raises: InputError for a variable that there is not, of other dimensions, or with infinite
        values.
    """
    source, array = source_of(dataset), variable_of(dataset, name)
    if array.dims[:2] != ("sample", "time"):
        raise InputError(
            f"{source}: {name!r} has the dimensions ({listed(array.dims)}), but what was observed "
            "has 'sample', 'time', then those of an instrument, as 'sensor', if any: "
            "dataset.expand_dims(...) adds one, dataset.transpose(...) reorders them."
        )
    check_numeric(array, f"{source}: {name!r}")
    check_values(array, source)
    return array.values[np.ix_(samples, times)]


def check_observed(
    dataset: xr.Dataset,
    observed: Mapping[str, np.ndarray],
    samples: Sequence[int],
    times: Sequence[int],
) -> None:
    """Refuse a variable, a sample or a time of which nothing at all was observed.

    Args:
        dataset: where the arrays come from.
        observed: `readings` by name.
        samples: their positions along `sample`.
        times: their positions along `time`.
    """
    source = source_of(dataset)
    for name, values in observed.items():
        if np.isnan(values).all():
            raise InputError(
                f"{source}: {name!r} is NaN (not observed) everywhere in the selected samples at "
                "the selected times. Select others, or leave it out."
            )
    counts = sum(_count(~np.isnan(values), first_axis=2) for values in observed.values())
    found = f"{source}: {listed(observed)} {'is' if len(observed) == 1 else 'are'} NaN (not "
    found += "observed) everywhere in"
    if blank := [s for s, n in zip(samples, np.sum(counts, axis=1), strict=True) if n == 0]:
        raise InputError(
            f"{found} sample {', '.join(map(str, blank))} at the selected times. "
            "Select other samples or times."
        )
    if blank := [t for t, n in zip(times, np.sum(counts, axis=0), strict=True) if n == 0]:
        moments = ", ".join(f"{float(dataset['time'][t]):g}" for t in blank)
        raise InputError(
            f"{found} the selected samples at time {moments}. Select other samples or times."
        )


def _count(cells: np.ndarray, first_axis: int) -> np.ndarray:
    """How many are true, over the axes from `first_axis` on."""
    return cells.sum(axis=tuple(range(first_axis, cells.ndim)))
