"""What a finished run can do: forecast and be scored, from its folder alone."""

from collections.abc import Sequence
from pathlib import Path

import equinox as eqx
import numpy as np
import xarray as xr

from impindiff.config import build_grid, build_stepper, build_system
from impindiff.data import check_dataset, open_dataset, select_samples, times_of
from impindiff.forecast import Scores, evaluate, forecast_times, predict
from impindiff.latent import learned
from impindiff.runs._folder import RunFolder
from impindiff.runs._plan import cast, precision, use_precision
from impindiff.systems import System


def trained_system(folder: RunFolder) -> System:
    """The system of a run with what was learned.

    Raises: InputError if the folder holds no run, or nothing was learned yet.
    """
    config = folder.config()
    use_precision(config)
    system = cast(build_system(config, build_grid(config)), precision(config))
    template, frozen = eqx.partition(system, learned(system))
    return eqx.combine(folder.checkpoints.restore_learned(template), frozen)


def forecast_run(
    folder: RunFolder, initial: Path, until: float, every: float | None = None
) -> xr.Dataset:
    """Forecast every sample of a data file from its first time on.

    Args:
        folder: the run.
        initial: data file whose first time holds the initial fields.
        until: last time.
        every: interval between saved times; the run's time step by default.

    Raises: InputError for data of another layout or grid, or an end before the start.
    """
    config = folder.config()
    system = trained_system(folder)
    dataset = open_dataset(initial)
    check_dataset(dataset, fields=system.fields)
    start = float(times_of(dataset)[0])
    times = forecast_times(start, until, config.time.dt if every is None else every)
    return _predict(folder, system, dataset, times, ":")


def evaluate_run(folder: RunFolder, data: Path, samples: str = ":") -> Scores:
    """Forecast samples of a data file to all its times, and compare.

    Raises: InputError as for `forecast_run`, and for samples that the data does not have.
    """
    system = trained_system(folder)
    dataset = open_dataset(data)
    check_dataset(dataset, fields=system.fields, latents=tuple(system.latents()))
    at = select_samples(dataset, samples)
    return evaluate(_predict(folder, system, dataset, times_of(dataset), at), dataset, at)


def _predict(
    folder: RunFolder,
    system: System,
    dataset: xr.Dataset,
    times: np.ndarray,
    samples: str | Sequence[int],
) -> xr.Dataset:
    config = folder.config()
    return predict(
        system,
        dataset,
        times=times,
        dt=config.time.dt,
        stepper=build_stepper(config),
        samples=samples,
        dtype=precision(config),
    )
