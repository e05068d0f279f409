"""What a finished run can do: forecast and be scored, from its folder alone."""

import math
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path

import equinox as eqx
import numpy as np
import xarray as xr

from impindiff._errors import InputError, warn_caller
from impindiff.config import Config, build_observations, build_stepper, build_system, known_grid
from impindiff.data import (
    Start,
    check_dataset,
    check_values,
    check_writable,
    locked,
    open_dataset,
    save_dataset,
    select_samples,
    times_of,
)
from impindiff.forecast import (
    HALVED,
    UNSEEN,
    Scores,
    Stored,
    balances_of,
    check_truths,
    check_zarr,
    continue_forecast,
    evaluate,
    forecast_start,
    forecast_times,
    forecast_to,
    predict,
)
from impindiff.latent import latents_of, learned
from impindiff.observe import AbstractObservation
from impindiff.rollout import format_bytes
from impindiff.runs._folder import RunFolder
from impindiff.runs._run_plan import cast, precision, use_precision
from impindiff.runs._seen import seen_by
from impindiff.runs._user_code import warn_of_edits
from impindiff.systems import System

# Such a file is encoded in memory, which takes three times as much: HDF5 files cannot be added to
# without risking what they hold.
_MOST_NETCDF_BYTES = 2**30
# Times that a forecast saves where neither an interval nor a step says it.
_NUM_TIMES = 100


def trained_system(folder: RunFolder) -> System:
    """The system of a run with what was learned.

    Raises: InputError if the folder holds no run, or nothing was learned yet.
    """
    config = folder.config()
    use_precision(config)
    config.code.check_kept()
    # Of a run of what is known (`simulate_run`) nothing was learned.
    system = cast(build_system(config, known_grid(config), learns=False), precision(config))
    warn_of_edits(config, folder)
    template, frozen = eqx.partition(system, learned(system))
    _check_known(folder)
    _check_last(folder)
    return eqx.combine(folder.checkpoints.restore_learned(template), frozen)


def _check_known(folder: RunFolder) -> None:
    """Warn where nothing tells whose the checkpoints are."""
    if folder.identity is None:
        warn_caller(
            f"{folder.path / 'provenance.json'} does not tell which run this is: that the "
            "checkpoints are its own is not checked.",
        )


def _check_last(folder: RunFolder) -> None:
    """Warn where the last checkpoint is gone, and what was learned is older than the summary."""
    with suppress(InputError):  # a training that goes on has none
        trained = folder.read_json("summary.json").get("epochs")
        progress = folder.checkpoints.progress()
        if progress and isinstance(trained, int) and progress.epoch < trained:
            warn_caller(
                f"{folder.path}: the last checkpoint that is left is of epoch {progress.epoch}, "
                f"and {trained} epochs were trained. Train again with --resume to get the rest.",
            )


def forecast_run(
    folder: RunFolder,
    initial: Path,
    until: float,
    every: float | None = None,
    start: Start | None = None,
) -> xr.Dataset:
    """Forecast every sample of a data file from one of its times on.

    Args:
        folder: the run.
        initial: data file that holds the initial fields.
        until: last time.
        every: interval between saved times; by default the run's time step, or a hundredth of the
            span where steps follow their error.
        start: the initial time: "first" or "last" of the file's, or the time itself. By default the
            first, or that of the run where its system gives initial values; see `predict`.

    Raises: InputError for data of another layout or grid, or an end before the start.
    """
    system = trained_system(folder)
    dataset, times = _initial_condition(folder, system, initial, until, every, start)
    return _predict(folder, system, dataset, times, ":", float(times[0]))


def forecast_run_to(
    folder: RunFolder,
    initial: Path,
    out: Path,
    until: float,
    every: float | None = None,
    start: Start | None = None,
    watch: Callable[[float], None] | None = None,
) -> Stored:
    """Write the forecast of `forecast_run` to a file.

    A zarr store is written in pieces and may be of any length. Where it is the initial file itself,
    and `start` its last time, the forecast is added to it.

    Args:
        folder: the run.
        initial: data file that holds the initial fields.
        out: where to, `.nc` or `.zarr`.
        until: last time.
        every: interval between saved times; by default the run's time step, or a hundredth of the
            span where steps follow their error.
        start: the initial time.
        watch: called with each time that a zarr store has reached.

    Raises: InputError as `forecast_run` and `check_writable` do, for a store that another process
        is writing, and for more than a netCDF file is written of.
    """
    is_same = out.exists() and out.resolve() == initial.resolve()
    if is_same and start != "last":
        raise InputError(
            f"{out}: is the initial file itself. To add to it, go on from its last time (--from "
            "last); for another forecast choose another --out."
        )
    if is_same:
        check_zarr(out)
        with locked(out):  # before its end is read, from which the times follow
            return _continue(folder, out, until, every, watch)
    check_writable(out)
    config, system = folder.config(), trained_system(folder)
    dataset, times = _initial_condition(folder, system, initial, until, every, start)
    dt, stepper = config.time.dt, build_stepper(config, system)
    if out.suffix.lower() == ".zarr":
        return forecast_to(
            out,
            system,
            dataset,
            times=times,
            dt=dt,
            start=float(times[0]),
            stepper=stepper,
            dtype=precision(config),
            watch=watch,
            control=config.time.control,
        )
    _check(system, dataset)
    cells = 1 if system.grid is None else math.prod(system.grid.shape)
    values = cells * dataset.sizes["sample"] * (len(system.fields) + len(system.integrals))
    needed = values * precision(config).itemsize * len(times)
    if needed > _MOST_NETCDF_BYTES:
        raise InputError(
            f"{out}: {len(times)} times take {format_bytes(needed)}, but a netCDF file is written "
            f"all at once, of {format_bytes(_MOST_NETCDF_BYTES)} at most. Write a .zarr store, "
            "whose length is not limited, or save fewer times (--every)."
        )
    forecast = _predict(folder, system, dataset, times, ":", float(times[0]))
    save_dataset(forecast, out)
    halved = forecast.attrs.get(HALVED, "")
    return Stored(dataset.sizes["sample"], times, halved, balances_of(forecast))


def _continue(
    folder: RunFolder,
    store: Path,
    until: float,
    every: float | None,
    watch: Callable[[float], None] | None,
) -> Stored:
    config, system = folder.config(), trained_system(folder)
    dt, control = config.time.dt, config.time.control
    _, times = _initial_condition(folder, system, store, until, every, "last", is_same=True)
    stepper = build_stepper(config, system)
    return continue_forecast(
        store, system, times=times, dt=dt, stepper=stepper, watch=watch, control=control
    )


def _check(system: System, dataset: xr.Dataset, latents: tuple[str, ...] = ()) -> None:
    """Refuse data of another layout, as far as they hold anything of the system.

    Of fields that begin as the system says they need not: there may be sample parameters alone.
    """
    held = [f for f in system.fields if f not in system.initial or f in dataset.data_vars]
    if held:
        check_dataset(dataset, fields=held, latents=latents)
    else:
        select_samples(dataset, ":")


def _initial_condition(
    folder: RunFolder,
    system: System,
    initial: Path,
    until: float,
    every: float | None,
    start: Start | None,
    *,
    is_same: bool = False,
) -> tuple[xr.Dataset, np.ndarray]:
    """One time of a file, and the times of a forecast from there, or from where the system says.

    Where it is added to the same file, they are those of one forecast from the file's first time.
    """
    config = folder.config()
    start = _or_that_of_the_run(config, system, start)
    try:
        dataset = open_dataset(initial, time="first" if start is None else start)
    except InputError:
        if any(field not in system.initial for field in system.fields):
            raise
        # The initial time need not be one of the file's, which holds sample parameters alone.
        dataset = open_dataset(initial, time="first")
    begin = forecast_start(system, dataset, start)
    if every is None:
        every = config.time.dt or max(until - begin, 0.0) / _NUM_TIMES or 1.0
    origin = float(open_dataset(initial, time="first")["time"][0]) if is_same else None
    return dataset, forecast_times(begin, until, every, origin)


def _or_that_of_the_run(config: Config, system: System, start: Start | None) -> Start | None:
    return config.time.start if start is None and system.initial else start


def evaluate_run(folder: RunFolder, data: Path, samples: str = ":") -> Scores:
    """Forecast samples of a data file to all its times, and compare.

    Raises: InputError as for `forecast_run`, and for samples that the data does not have.
    """
    system = trained_system(folder)
    dataset = open_dataset(data)
    _check(system, dataset, tuple(system.latents(0.0)))
    check_truths(system, dataset)
    for field in (field for field in system.fields if field in dataset.data_vars):
        check_values(dataset[field], str(data), precision(folder.config()))
    at = select_samples(dataset, samples)
    config = folder.config()
    start = _or_that_of_the_run(config, system, None)
    forecast = _predict(folder, system, dataset, np.unique(times_of(dataset)), at, start)
    instruments = _instruments(config, system, dataset)
    is_trained = instruments and latents_of(system)  # what was seen tells readings apart
    return evaluate(
        forecast,
        dataset,
        at,
        observe=instruments,
        grid=system.grid,
        seen=seen_by(folder, config, data, dataset) if is_trained else UNSEEN,
    )


def _instruments(config: Config, system: System, dataset: xr.Dataset) -> list[AbstractObservation]:
    """Those of the run of which the data hold readings."""
    listed = build_observations(config, system) or []
    return [each for each in listed if each.data in dataset.data_vars]


def _predict(
    folder: RunFolder,
    system: System,
    dataset: xr.Dataset,
    times: np.ndarray,
    samples: str | Sequence[int],
    start: Start | None,
) -> xr.Dataset:
    config = folder.config()
    return predict(
        system,
        dataset,
        times=times,
        dt=config.time.dt,
        start=start,
        stepper=build_stepper(config, system),
        samples=samples,
        dtype=precision(config),
        control=config.time.control,
    )
