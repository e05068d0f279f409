"""Forecasts: initial fields carried forward by a trained system."""

from collections.abc import Mapping, Sequence

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import xarray as xr
from jaxtyping import Array

from impindiff._errors import InputError, NumericsError
from impindiff._types import State
from impindiff.data import (
    check_dataset,
    check_grid,
    initial_fields,
    select_samples,
    times_of,
    to_dataset,
)
from impindiff.integrate import AbstractStepper, CrankNicolson
from impindiff.rollout import TimeGrid, Trajectory, simulate
from impindiff.systems import System

# All states are held in memory: beyond this it is the interval that is mistaken.
_MOST_TIMES = 1_000_000


@eqx.filter_jit
def _run(
    system: System, initial: State, stepper: AbstractStepper, time_grid: TimeGrid
) -> Trajectory:
    return jax.vmap(lambda state: simulate(system, state, time_grid, stepper))(initial)


def carry_forward(
    system: System, initial: State, stepper: AbstractStepper, time_grid: TimeGrid
) -> Mapping[str, Array]:
    """States of many samples at the saved times: for each field an array `(sample, time, *grid)`.

    Raises: NumericsError at the first step whose solve failed, or where a state is not finite.
    """
    trajectory = _run(system, initial, stepper, time_grid)
    trajectory.check(time_grid)
    for field, values in trajectory.states.items():
        wild = np.argwhere(~np.isfinite(values))
        if wild.size:
            sample, at = wild[np.argmin(wild[:, 1]), :2]
            raise NumericsError(
                f"{field!r} of sample {sample} is not finite at t = {time_grid.saved[at]:g}, after "
                f"steps of {time_grid.lengths.max():g}. Lower dt, or use an implicit time scheme."
            )
    return trajectory.states


def predict(
    system: System,
    dataset: xr.Dataset,
    *,
    times: Sequence[float] | np.ndarray,
    dt: float,
    stepper: AbstractStepper | None = None,
    samples: str | Sequence[int] = ":",
    dtype: jnp.dtype | type = jnp.float32,
) -> xr.Dataset:
    """Forecast the samples of a dataset from its first time on.

    Args:
        system: the equations, trained.
        dataset: holds the initial fields, at its first time.
        times: where to save; the initial time may be the first of them.
        dt: longest step.
        stepper: advances one step; Crank-Nicolson by default.
        samples: which samples, such as "5:10".
        dtype: precision.

    Returns: a dataset in the documented layout, with the learned coefficients beside the fields.
    Raises: InputError for a dataset of another layout or grid, or times before its first;
        NumericsError where a step fails.
    """
    check_dataset(dataset, fields=system.fields)
    for field in system.fields:
        check_grid(dataset, field, system.data_grid)
    at = select_samples(dataset, samples)
    start = float(times_of(dataset)[0])
    if np.size(times) and np.min(times) < start:
        raise InputError(
            f"a forecast to t = {np.min(times):g} was asked for, but the initial fields are "
            f"those at t = {start:g}."
        )
    time_grid = TimeGrid.build(start, np.asarray(times, np.float64), dt)
    initial = {
        field: jnp.asarray(initial_fields(dataset, field, at), dtype) for field in system.fields
    }
    system.check({field: u[0] for field, u in initial.items()}, start)
    states = carry_forward(system, initial, stepper or CrankNicolson(), time_grid)
    latents = system.latents()
    ids = dataset["sample"].values[at] if "sample" in dataset.coords else at
    names = (*system.fields, *latents, "time", *system.data_grid.names)
    return to_dataset(
        system.data_grid,
        time_grid.saved,
        {field: np.asarray(values) for field, values in states.items()},
        {name: np.asarray(value) for name, value in latents.items()},
        {name: _attributes(dataset, name) for name in names},
        samples=ids,
        attrs={"title": "forecast by impindiff"},
    )


def forecast_times(start: float, until: float, every: float) -> np.ndarray:
    """Times from `start` to `until`, both included, every so often and at the end.

    Raises: InputError for an end that is not after the start, or an interval that is not positive.
    """
    if not (np.isfinite(until) and until > start):
        raise InputError(
            f"the forecast must end after the initial time {start:g}, found until = {until:g}."
        )
    if not (np.isfinite(every) and every > 0):
        raise InputError(
            f"the interval between saved times is {every:g}: it must be positive and finite."
        )
    if (until - start) / every > _MOST_TIMES:
        raise InputError(
            f"from {start:g} to {until:g} every {every:g} are more than {_MOST_TIMES:,} times: "
            "raise the interval."
        )
    count = int(np.floor((until - start) / every * (1 + 1e-9)))
    times = start + every * np.arange(count + 1)
    if until - times[-1] > 1e-6 * every:
        return np.append(times, until)
    return np.append(times[:-1], until)


def _attributes(dataset: xr.Dataset, name: str) -> dict[str, str]:
    known = dataset[name].attrs if name in dataset.variables else {}
    return {
        "units": str(known.get("units", "1")),
        "long_name": str(known.get("long_name", name.replace("_", " "))),
    }
