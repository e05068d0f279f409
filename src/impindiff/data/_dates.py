"""Datasets whose times are dates: computed with in seconds since 1970, given back as dates."""

import xarray as xr

from impindiff._dates import UNITS, as_dates, as_seconds, holds_dates


def has_dates(dataset: xr.Dataset) -> bool:
    """Whether the times are dates."""
    return "time" in dataset.coords and holds_dates(dataset["time"].values)


def without_dates(dataset: xr.Dataset) -> xr.Dataset:
    """The dataset with seconds since 1970 for its dates, if it has any."""
    if not has_dates(dataset):
        return dataset
    attrs = {"long_name": "time", **dataset["time"].attrs, "units": UNITS}
    found = dataset.assign_coords(time=("time", as_seconds(dataset["time"].values), attrs))
    found.encoding = dict(dataset.encoding)
    return found


def with_dates(dataset: xr.Dataset) -> xr.Dataset:
    """The same the other way round."""
    attrs = {name: told for name, told in dataset["time"].attrs.items() if name != "units"}
    return dataset.assign_coords(time=("time", as_dates(dataset["time"].values), attrs))
