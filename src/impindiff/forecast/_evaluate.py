"""How good a forecast is, where the truth is known."""

from collections.abc import Sequence

import numpy as np
import xarray as xr
from pydantic import BaseModel

from impindiff._errors import InputError
from impindiff.data import select_samples
from impindiff.observe import relative_error
from impindiff.rollout import tidy_time


class FieldErrors(BaseModel):
    """Errors of one field against time, averaged over samples."""

    time: list[float]
    relative_l1_percent: list[float]
    relative_l2_percent: list[float]


class LatentError(BaseModel):
    """Error of one learned coefficient."""

    relative_l2_percent: float


class Scores(BaseModel):
    """What `evaluate` returns.

    Attributes:
        fields: for each field, relative errors $|p - d|/|d|$ in percent at each time.
        latent: for each learned coefficient whose truth the data carries, its error.
        samples: the samples' positions in the data.
    """

    fields: dict[str, FieldErrors]
    latent: dict[str, LatentError]
    samples: list[int]


def evaluate(forecast: xr.Dataset, truth: xr.Dataset, samples: str | Sequence[int]) -> Scores:
    """Compare a forecast with the data at the times they share.

    Args:
        forecast: as `predict` gives it; its samples are those of `truth` at `samples`.
        truth: the data, NaN where not known.
        samples: positions in the data, such as "5:10".

    Raises: InputError if no time is shared.
    """
    positions = select_samples(truth, samples)
    num_axes = len(forecast.sizes) - 2
    ours, theirs = (np.asarray(d["time"], np.float64) for d in (forecast, truth))
    pairs = np.argwhere(np.isclose(ours[:, None], theirs[None, :], rtol=1e-5, atol=1e-9))
    if not len(pairs):
        raise InputError(
            f"the forecast ({ours[0]:g} to {ours[-1]:g}) and the data ({theirs[0]:g} to "
            f"{theirs[-1]:g}) share no "
            "time to be compared at."
        )
    fields: dict[str, FieldErrors] = {}
    latent: dict[str, LatentError] = {}
    for name, variable in forecast.data_vars.items():
        if name not in truth.data_vars:
            continue
        found = variable.values
        if "sample" in variable.dims:
            known = truth[name].values[positions][:, pairs[:, 1]]
            errors = [
                100 * relative_error(found[:, pairs[:, 0]], known, order, num_axes).mean(axis=0)
                for order in (1, 2)
            ]
            fields[str(name)] = FieldErrors(
                time=[tidy_time(t) for t in ours[pairs[:, 0]]],
                relative_l1_percent=errors[0].tolist(),
                relative_l2_percent=errors[1].tolist(),
            )
        else:
            known = truth[name].values
            found = np.broadcast_to(found, known.shape)
            error = relative_error(found, known, 2, known.ndim)
            latent[str(name)] = LatentError(relative_l2_percent=100 * float(error))
    return Scores(fields=fields, latent=latent, samples=positions)
