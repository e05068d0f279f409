"""Infiltrations whose truth is known: porosity maps of interrupted runs, on furnace settings."""

from collections.abc import Sequence

import jax
import numpy as np
import xarray as xr

import impindiff as ipd
from impindiff.cases.vapour_infiltration import system as slab_of

TITLES = {
    "gas": ("mol/m3", "precursor in the pores"),
    "porosity": ("1", "share of pores by volume"),
    "temperature": ("K", "temperature"),
    "T_gas": ("K", "temperature at the gas side"),
}


def generate(
    T_gas: Sequence[float] = (1273.0, 1173.0, 1223.0, 1323.0, 1143.0),
    days: Sequence[float] = (0.0, 1.0, 2.0, 4.0, 6.0),
    cells: tuple[int, ...] = (100,),
    porosity_range: tuple[float, float] | None = None,
    noise: float = 0.0,
    temperature_noise: float = 0.0,
    seed: int = 0,
    dt: float = 5400.0,
) -> xr.Dataset:
    """Make the data: the first three settings to learn from, the others to forecast.

    Solved in float64 by SDIRK-2, steps halved where they fail; Deutschmann's law is the truth. Maps
    of the first time, before anything happened, have no noise.

    Args:
        T_gas: temperature at the gas side [K], a sample each.
        days: when runs were interrupted, increasing; the first is the start.
        cells: of the slab, `(depth,)` or `(depth, width)`.
        porosity_range: lowest and highest initial porosity of a smooth random field, the same in
            all samples; uniform at 0.88 without.
        noise: standard deviation of measured porosities, as a share of their value.
        temperature_noise: standard deviation of measured temperatures [K].
        seed: of the noise and of the initial porosity.
        dt: longest time step [s].

    Returns: `porosity`, `gas` and `temperature` in the documented layout, times in seconds, and the
        settings as `T_gas(sample)`.
    Raises: InputError for noise or temperatures that are negative, days that do not increase, or a
        porosity outside (0, 1).
    """
    times = np.asarray(days, float) * slab_of.DAY
    _check(T_gas, times, porosity_range, noise, temperature_noise)
    grid, rng = slab_of.slab(*cells), np.random.default_rng(seed)
    porosity = np.full(grid.shape, slab_of.INITIAL_POROSITY)
    if porosity_range is not None:
        porosity = smooth_porosity(grid, porosity_range, rng)
    with jax.enable_x64(True):
        steps = ipd.TimeGrid.build(times[0], times, dt)
        stepper = slab_of.stepper(grid)

        # Built once, so that one compiled program serves all settings.
        furnace = slab_of.build(grid, known=True)
        states: dict[str, list[np.ndarray]] = {}
        for setting in T_gas:
            system = furnace.with_sample_parameters({"T_gas": jax.numpy.asarray(setting, float)})
            found = ipd.steppers.simulate_with_rescue(
                system, slab_of.start(system, porosity), steps, stepper
            )
            for field, values in found.trajectory.states.items():
                states.setdefault(field, []).append(np.asarray(values))
    fields = {field: np.stack(values) for field, values in states.items()}
    fields["porosity"][:, 1:] *= 1 + noise * rng.standard_normal(fields["porosity"][:, 1:].shape)
    errors = rng.standard_normal(fields["temperature"][:, 1:].shape)
    fields["temperature"][:, 1:] += temperature_noise * errors
    described = {name: {"units": unit, "long_name": text} for name, (unit, text) in TITLES.items()}
    described |= {"time": {"units": "s"}} | {axis: {"units": "m"} for axis in grid.names}
    dataset = ipd.to_dataset(
        grid,
        times,
        fields,
        attributes=described,
        attrs={
            "title": "chemical vapour infiltration of a slab",
            # When the initial values of gas and temperature hold, which are the system's.
            "begun": float(times[0]),
            "source": f"impindiff, SDIRK-2, dt {dt:g} s, float64, seed {seed}, noise {noise:g}",
        },
    )
    settings = xr.DataArray(np.asarray(T_gas, float), dims="sample", attrs=described["T_gas"])
    return dataset.assign(T_gas=settings)


def smooth_porosity(
    grid: ipd.Grid, porosity_range: tuple[float, float], rng: np.random.Generator
) -> np.ndarray:
    """A random field of cosines, which pass nothing at the sides, between two values."""
    total = np.zeros(grid.shape)
    for waves in np.ndindex(*(3,) * grid.num_axes):
        amplitude = rng.standard_normal() / (1 + sum(waves))
        for axis, count, at in zip(grid.axes, waves, grid.centres(), strict=True):
            amplitude = amplitude * np.cos(np.pi * count * (at - axis.lower) / axis.length)
        total += amplitude
    low, high = porosity_range
    return low + (high - low) * (total - total.min()) / (total.max() - total.min())


def _check(
    T_gas: Sequence[float],
    times: np.ndarray,
    porosity_range: tuple[float, float] | None,
    noise: float,
    temperature_noise: float,
) -> None:
    if min(noise, temperature_noise) < 0:
        raise ipd.InputError(
            f"noise is {noise} and temperature_noise {temperature_noise}: neither may be negative."
        )
    if not len(T_gas) or not all(0 < setting < np.inf for setting in T_gas):
        raise ipd.InputError(f"T_gas is {tuple(T_gas)}: give at least one temperature above 0 K.")
    if times.size < 2 or not np.all(np.diff(times) > 0):
        raise ipd.InputError(
            f"days are {tuple(times / slab_of.DAY)}: they must increase, the start first."
        )
    if porosity_range is not None and not 0 < porosity_range[0] <= porosity_range[1] < 1:
        raise ipd.InputError(
            f"porosity_range is {porosity_range}: it must be (low, high) within (0, 1)."
        )
