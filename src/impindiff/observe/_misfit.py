"""The misfit of readings, relative or weighed by their noise.

NaN in observations means "not observed": such cells count neither as error nor as data.
"""

from collections.abc import Mapping, Sequence

import jax.numpy as jnp
import numpy as np
import xarray as xr
from jaxtyping import Array, Float, Shaped

from impindiff._errors import InputError
from impindiff._types import Scalar, State, without_mask
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
        given = np.asarray(without_mask(noise), np.float64)
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


def squared_misfit(
    predicted: State,
    observed: State,
    scale: dict[str, Scalar] | None = None,
    deviations: State | None = None,
) -> Scalar:
    r"""How far predictions are from observations: one number, zero where they agree.

    Where the noise is not known it is relative, $\frac1F \sum_f \sum_o (p_o - d_o)^2 / \sum_o
    d_o^2$ over the observed entries $o$ of each of $F$ fields or instruments $f$; one observed as
    zero everywhere is not scaled. Where it is known, $\frac1N \sum_f \sum_o (p_o - d_o)^2 /
    \sigma_o^2$ over all $N$ observed entries: $\chi^2$ per datum, near 1 for a fit as good as the
    noise lets it be.

    Args:
        predicted: for each field an array; may hold fields that are not observed.
        observed: arrays of the same shapes, NaN where not observed.
        scale: `misfit_scale` of all observations, where these are a part of them: the misfits of
            the parts then add up to that of all.
        deviations: $\sigma$, for all of the observed or for none: arrays that broadcast to theirs.

    Raises: InputError where no field is observed, or one is not predicted in its observations'
        shape.
    """
    errors = _errors(predicted, observed, deviations)
    scale = misfit_scale(observed, deviations) if scale is None else scale
    total = jnp.zeros((), jnp.result_type(*observed.values()))
    for field, error in errors.items():
        # Divided before it is squared: the square of 1e-20 is 0 in single precision.
        total += jnp.sum((error / scale[field]) ** 2)
    return total / len(observed)


def misfit_residuals(
    predicted: State,
    observed: State,
    scale: dict[str, Scalar],
    deviations: State | None = None,
) -> Float[Array, " entries"]:
    """The vector whose squares add up to `squared_misfit`, zero where nothing was observed."""
    errors = _errors(predicted, observed, deviations)
    scaled = [(error / scale[field]).ravel() for field, error in errors.items()]
    return jnp.concatenate(scaled) / len(observed) ** 0.5


def _errors(predicted: State, observed: State, deviations: State | None) -> State:
    """Predictions less observations, in units of the noise where that is known."""
    if not observed:
        raise InputError("there is no observed field to compare predictions with.")
    for field, data in observed.items():
        if field not in predicted or predicted[field].shape != data.shape:
            found = {name: values.shape for name, values in predicted.items()}
            raise InputError(
                f"the observations of {field!r} have shape {data.shape}, the predictions {found}: "
                "observe what is predicted, in the same shape."
            )
    errors = {}
    for field, data in observed.items():
        seen = ~jnp.isnan(data)
        known = jnp.where(seen, data, 0)
        # The difference is masked before it is squared: the gradient of a masked NaN would be NaN.
        error = jnp.where(seen, predicted[field] - known, 0)
        errors[field] = error / deviations[field] if deviations else error
    return errors


def misfit_scale(
    observed: State, deviations: State | None = None, repeats: np.ndarray | None = None
) -> dict[str, Scalar]:
    r"""What errors of each field are divided by, before the squares and the mean over fields.

    $\sqrt{\sum_o d_o^2}$ over the observed entries, or 1 where that is zero; with known noise the
    root of the number of observed entries of all fields over that of fields, which makes the mean
    one over entries.

    Args:
        observed: see `squared_misfit`.
        deviations: see there.
        repeats: how often each time counts, along the second axis; once each where None.
    """

    def often(data: Array) -> np.ndarray:
        """How often entries count, to be multiplied with them."""
        times = np.ones(1) if repeats is None else repeats
        return times.reshape(-1, *(1,) * max(data.ndim - 2, 0))

    if deviations:
        count = sum(jnp.sum(~jnp.isnan(data) * often(data)) for data in observed.values())
        dtype = jnp.result_type(*observed.values())
        share = jnp.asarray(jnp.maximum(count, 1), dtype) / len(observed)
        return dict.fromkeys(observed, jnp.sqrt(share))

    def scale(data: Array) -> Scalar:
        known = jnp.where(jnp.isnan(data), 0, data) * np.sqrt(often(data)).astype(data.dtype)
        # In units of the largest, so that no unit of the data is too small or too large to square.
        largest = jnp.max(jnp.abs(known), initial=0)
        unit = jnp.where(largest == 0, 1, largest)
        norm = unit * jnp.sqrt(jnp.sum((known / unit) ** 2))
        return jnp.where(norm == 0, 1, norm)

    return {field: scale(data) for field, data in observed.items()}


def relative_error(
    predicted: Shaped[np.ndarray, "..."] | Array,
    truth: Shaped[np.ndarray, "..."] | Array,
    order: int,
    num_axes: int,
) -> Float[np.ndarray, "..."]:
    r"""$\lVert p - d \rVert_q / \lVert d \rVert_q$ over the last `num_axes` axes, in float64.

    Args:
        predicted: predicted values, numbers of any type.
        truth: true values of the same shape, NaN where not known.
        order: $q$, 1 or 2.
        num_axes: how many trailing axes are the space axes.

    Where the truth is zero everywhere the error is infinite, or zero if the prediction is zero too.
    """
    truth = np.asarray(truth, np.float64)
    seen = ~np.isnan(truth)
    known = np.where(seen, truth, 0)
    axes = tuple(range(-num_axes, 0))
    # In units of the truth, powers of two: the square of 1e200 is infinite.
    _, exponent = np.frexp(np.abs(known).max(axes, keepdims=True, initial=0))
    unit = np.ldexp(1.0, exponent - 1)
    known = known / unit
    error = np.where(seen, np.asarray(predicted, np.float64) / unit - known, 0)
    above = (np.abs(error) ** order).sum(axes) ** (1 / order)
    below = (np.abs(known) ** order).sum(axes) ** (1 / order)
    unscaled = np.where(above == 0, 0.0, np.inf)
    return np.where(below == 0, unscaled, above / np.where(below == 0, 1, below))
