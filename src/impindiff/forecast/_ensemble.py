"""The forecast of an ensemble: the mean of its members', and how far they lie apart."""

from collections.abc import Sequence

import numpy as np
import xarray as xr
from jaxtyping import DTypeLike

from impindiff._errors import NumericsError
from impindiff.data import Start, is_setting
from impindiff.forecast._balances import ATTRIBUTE
from impindiff.forecast._predict import HALVED, predict
from impindiff.integrate import AbstractStepper
from impindiff.systems import Ensemble


def predict_ensemble(
    ensemble: Ensemble,
    dataset: xr.Dataset,
    *,
    times: Sequence[float] | np.ndarray,
    dt: float,
    start: Start | None = None,
    stepper: AbstractStepper | None = None,
    samples: str | Sequence[int] | None = None,
    dtype: DTypeLike | None = None,
) -> xr.Dataset:
    """Forecast the samples of a dataset by every member, one after the other.

    The arguments are those of `predict`.

    Returns: a dataset in the documented layout: of each field and learned coefficient the mean over
        members, and as NAME_std their standard deviation.
    Raises: InputError as `predict` does; NumericsError where a step of a member fails, which is
        named by its seed.
    """
    forecasts = []
    for seed, member in zip(ensemble.seeds, ensemble.members, strict=True):
        try:
            forecast = predict(
                member,
                dataset,
                times=times,
                dt=dt,
                start=start,
                stepper=stepper,
                samples=samples,
                dtype=dtype,
            )
        except NumericsError as error:
            raise NumericsError(f"member of seed {seed}: {error}") from None
        forecasts.append(forecast)
    found = forecasts[0].copy()
    found.attrs.pop(ATTRIBUTE, None)  # of one member
    found.attrs.pop(HALVED, None)
    notes = zip(ensemble.seeds, forecasts, strict=True)
    halved = [f"seed {seed}: {each.attrs[HALVED]}" for seed, each in notes if HALVED in each.attrs]
    if halved:
        found.attrs[HALVED] = "; ".join(halved)
    for name, variable in forecasts[0].data_vars.items():
        if is_setting(variable):
            continue
        values = np.stack([forecast[name].values for forecast in forecasts]).astype(np.float64)
        described = {**variable.attrs, "long_name": f"{variable.attrs['long_name']}, spread"}
        for suffix, over_members, attrs in (
            ("", values.mean(axis=0), variable.attrs),
            ("_std", values.std(axis=0, ddof=1), described),
        ):
            found[f"{name}{suffix}"] = (variable.dims, over_members.astype(variable.dtype), attrs)
    return found
