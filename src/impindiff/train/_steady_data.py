"""Fits to steady states: data without times, as rollouts of one step that ends in balance.

A step of `QuasiSteady` solves for the steady state, whatever its length. So one step from a guess
to "time 1" is all that a fit needs to be one to steady states, batches, gradients and penalties
included.
"""

from collections.abc import Callable
from dataclasses import replace
from functools import wraps
from typing import Any, ParamSpec, TypeVar

import jax.numpy as jnp
import numpy as np
import xarray as xr

from impindiff._errors import InputError
from impindiff.coefficients import coefficients_of
from impindiff.data import sample_parameters_of
from impindiff.integrate import QuasiSteady
from impindiff.observe import AbstractObservation
from impindiff.rollout import uniform_guess
from impindiff.systems import System
from impindiff.train._fit_options import FitOptions

P = ParamSpec("P")
R = TypeVar("R")

_OF_TIME = ("times", "start", "dt")


def takes_steady_data(function: Callable[P, R]) -> Callable[P, R]:
    """The same fit, which takes data without times, too: observed are steady states."""

    @wraps(function)
    def called(*args: Any, **named: Any) -> R:
        taken = dict(zip(("system", "data"), args, strict=False)) | named
        system, data = taken.get("system"), taken.get("data")
        if len(args) > 2 or not isinstance(system, System) or not has_no_times(data):
            return function(*args, **named)  # pyright: ignore[reportCallIssue]
        return function(**_as_rollout(**taken))  # pyright: ignore[reportCallIssue]

    return called


def has_no_times(data: Any) -> bool:
    """Whether data are a dataset of samples of which none was observed at any time."""
    is_dataset = isinstance(data, xr.Dataset) and "sample" in data.dims
    return is_dataset and "time" not in data.dims and "time" not in data.coords


def _as_rollout(system: System, data: xr.Dataset, **named: Any) -> dict[str, Any]:
    """The arguments of `fit` for one step into balance.

    Raises: InputError for what has no meaning without times.
    """
    given = [name for name in _OF_TIME if named.get(name) is not None]
    if (named.get("options") or FitOptions()).control is not None:
        given.append("FitOptions(control=...)")
    given += ["dt of a stage" for stage in named.get("stages") or () if _names_step(stage)]
    if given:
        raise InputError(
            f"{given[0]} is given, but the data have no dimension 'time': they are taken for "
            "steady states. Leave it out, or give the data times, "
            "data.expand_dims(time=[...], axis=1)."
        )
    if changing := [each for each in coefficients_of(system) if not each.is_steady]:
        label = getattr(changing[0], "label", type(changing[0]).__name__)
        raise InputError(
            f"{label} depends on time, but the data have no dimension 'time': nothing says when "
            "the steady states were observed. Give the data their times and use "
            "FitOptions(stepper=ipd.steppers.QuasiSteady()), or leave the time out."
        )
    options = named.get("options") or FitOptions()
    stepper = options.stepper or QuasiSteady()
    if not stepper.ends_in_balance:
        raise InputError(
            f"the stepper is {stepper.name}, but the data have no dimension "
            "'time': they are taken for steady states. Leave the stepper out, or give "
            "ipd.steppers.QuasiSteady(...)."
        )
    options = replace(options, stepper=stepper)
    rest = {name: value for name, value in named.items() if name not in _OF_TIME}
    for each in named.get("observe") or ():
        if isinstance(each, AbstractObservation):
            _check_reads_no_integral(system, each, data)
    timed = _with_times(system, data)
    return rest | {"system": system, "data": timed, "dt": 1.0, "options": options}


def _check_reads_no_integral(
    system: System, observation: AbstractObservation, data: xr.Dataset
) -> None:
    reads = observation.prepare(system.grid, data).reads
    if held := [name for name in reads if name in system.integrals]:
        raise InputError(
            f"{observation.data!r} reads the integral over time {held[0]!r}, but the data have no "
            "dimension 'time': a steady state does not tell since when. Give the data times, or "
            "leave this observation out."
        )


def _names_step(stage: Any) -> bool:
    return getattr(stage, "dt", None) is not None


def _with_times(system: System, data: xr.Dataset) -> xr.Dataset:
    """The data at time 1, and a guess of the fields at time 0: see the module."""
    guess, parameters = _guess(system, data), set(system.sample_parameters)
    found = {}
    for name, variable in data.data_vars.items():
        if "sample" not in variable.dims or name in parameters:
            found[name] = variable
            continue
        now = variable.transpose("sample", ...)
        values = now.values.astype(np.result_type(now.dtype, np.float32))
        first = np.full_like(values, np.nan)
        if name in guess:
            first = np.broadcast_to(_per_sample(guess[str(name)], now.ndim), now.shape)
        dims = "sample", "time", *now.dims[1:]
        both = np.stack([first.astype(values.dtype), values], axis=1)
        found[name] = xr.Variable(dims, both, variable.attrs)
    for field in guess.keys() - found.keys():
        shape = (data.sizes["sample"], *system.grid.shape) if system.grid else ()
        first = np.broadcast_to(_per_sample(guess[field], len(shape)), shape)
        dims = "sample", "time", *(system.grid.names if system.grid else ())
        found[field] = xr.Variable(dims, np.stack([first, np.full(shape, np.nan)], axis=1))
    axes = {axis.name: axis.centres for axis in system.grid.axes} if system.grid else {}
    return xr.Dataset(found, {**axes, **data.coords, "time": [0.0, 1.0]}, data.attrs)


def _per_sample(values: np.ndarray, ndim: int) -> np.ndarray:
    return values.reshape(-1, *(1,) * (ndim - 1))


def _guess(system: System, data: xr.Dataset) -> dict[str, np.ndarray]:
    """Uniform values of the fields that the system does not begin itself, `(sample,)` each.

    The means of what was observed of them; where there is nothing, see `uniform_guess`.
    """
    bounds = {each.name: each for each in system.limits}
    count, found = data.sizes["sample"], {}
    for field in system.fields:
        if field in system.initial:
            continue
        if field not in data.data_vars:
            found[field] = np.full(count, np.nan)
            continue
        values = np.asarray(data[field].transpose("sample", ...).values, float).reshape(count, -1)
        known = np.isfinite(values)
        total = np.where(known, values, 0).sum(1)
        found[field] = np.where(known.any(1), total / np.maximum(known.sum(1), 1), np.nan)
        if field in bounds:
            found[field] = np.clip(found[field], bounds[field].lower, bounds[field].upper)
    if not any(np.isnan(values).any() for values in found.values()):
        return found
    if system.grid is None:
        unknown = [field for field, values in found.items() if np.isnan(values).any()]
        raise InputError(
            f"nothing is known of {', '.join(map(repr, unknown))} in the data of some sample: give "
            "values from which its steady state is looked for, Field(..., initial=...)."
        )
    known = sample_parameters_of(data, system.missing_parameters, [0])
    first = system.with_sample_parameters({name: v[0] for name, v in known.items()})
    usual = uniform_guess(first)
    return {
        field: np.where(np.isnan(values), float(jnp.mean(usual[field])), values)
        for field, values in found.items()
    }
