"""The noise of observations, as the user states it and as arrays."""

from collections.abc import Mapping, Sequence

import numpy as np
import xarray as xr

from impindiff._errors import InputError
from impindiff.data import readings
from impindiff.observe._operator import AbstractObservation


def deviations_of(
    observations: Sequence[AbstractObservation],
    dataset: xr.Dataset,
    observed: Mapping[str, np.ndarray],
    samples: Sequence[int],
    times: Sequence[int],
) -> dict[str, np.ndarray]:
    """Standard deviations by the name of the data, of all observations or of none.

    A relative misfit has no unit of noise that it could be weighed in against one that has: either
    the noise of everything is known or that of nothing.

    Args:
        observations: with their `noise`.
        dataset: holds the data, and noise that is given by name.
        observed: what was selected of the data, `(sample, time, ...)`.
        samples: the positions selected along `sample`.
        times: the positions selected along `time`.

    Raises: InputError for noise of some observations and not of others, or for noise that is not
        positive and finite where there are data.
    """
    with_noise = [each for each in observations if each.noise is not None]
    if not with_noise:
        return {}
    if len(with_noise) != len(observations):
        known = ", ".join(repr(each.data) for each in with_noise)
        unknown = ", ".join(repr(each.data) for each in observations if each.noise is None)
        raise InputError(
            f"noise is given of {known} and not of {unknown}, so that one cannot be weighed "
            "against the other: give noise= to all observations, or to none."
        )
    return {
        each.data: _deviation(each, dataset, observed[each.data], samples, times)
        for each in observations
    }


def _deviation(
    observation: AbstractObservation,
    dataset: xr.Dataset,
    data: np.ndarray,
    samples: Sequence[int],
    times: Sequence[int],
) -> np.ndarray:
    name, noise = observation.data, observation.noise
    whole = dataset[name].shape
    if isinstance(noise, str):
        if noise in dataset.data_vars and dataset[noise].dims != dataset[name].dims:
            raise InputError(
                f"the noise {noise!r} of {name!r} has the dimensions {dataset[noise].dims}, the "
                f"data {dataset[name].dims}: they must be the same."
            )
        values = readings(dataset, noise, samples, times)
    else:
        given = np.asarray(noise, np.float64)
        try:
            np.broadcast_to(given, whole)
        except ValueError:
            dims = ", ".join(map(str, dataset[name].dims))
            raise InputError(
                f"the noise of {name!r} has shape {given.shape}: it must be one number, or "
                f"broadcast to the data's shape {whole} ({dims})."
            ) from None
        given = given.reshape((1,) * (len(whole) - given.ndim) + given.shape)
        # Batches are taken along the first two axes; the others may stay as short as they are.
        spread = np.broadcast_to(given, (*whole[:2], *given.shape[2:]))
        values = spread[np.ix_(samples, times)]
    matters = np.broadcast_to(~np.isnan(data), data.shape)
    bad = matters & ~((values > 0) & np.isfinite(values))
    if bad.any():
        found = np.broadcast_to(values, data.shape)[bad][0]
        raise InputError(
            f"the noise of {name!r} is {found:g} in {int(bad.sum())} of its {int(matters.sum())} "
            "entries: a standard deviation must be positive and finite wherever there is a datum."
        )
    # Where nothing was observed any number will do, as long as it can be divided by.
    return np.where((values > 0) & np.isfinite(values), values, 1.0)
