"""Config and data put together and checked, before anything is computed or written."""

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Self, final

import jax
import jax.numpy as jnp
import numpy as np
import xarray as xr

from impindiff._errors import InputError
from impindiff.coefficients import check_spans
from impindiff.config import (
    Config,
    build_grid,
    build_observations,
    build_penalties,
    build_stages,
    build_stepper,
    build_system,
    describe_grid,
)
from impindiff.data import (
    check_dataset,
    check_grid,
    check_storable,
    check_values,
    grid_of,
    open_dataset,
    select_samples,
    select_times,
    times_of,
)
from impindiff.forecast import check_truths
from impindiff.grid import Grid
from impindiff.integrate import AbstractStepper
from impindiff.latent import latents_of
from impindiff.rollout import TimeGrid
from impindiff.runs._validator import Validator
from impindiff.systems import InitialTime, Samples, System, initial_time
from impindiff.train import Observations, Stage, check_expected


@final
@dataclass(frozen=True)
class RunPlan:
    """All that a run needs, checked.

    Attributes:
        config: as resolved: with the grid and the place of the data.
        data_file: the data.
        dataset: its content.
        system: untrained.
        stepper: advances one step.
        stages: of the training.
        observations: what to fit.
        train_samples: positions of the samples trained on.
        test: the samples held back, at their start.
        validation: those whose forecast is followed in training: the test samples for the record
            only, or others, held back for early stopping.
        forecast_times: the data's times up to `until`, and `until` itself.
    """

    config: Config
    data_file: Path
    dataset: xr.Dataset
    system: System
    stepper: AbstractStepper
    stages: list[Stage]
    observations: Observations
    train_samples: list[int]
    test: Samples
    validation: Samples
    forecast_times: np.ndarray

    @classmethod
    def make(cls, config: Config, data_file: Path, folder: Path, *, learns: bool = True) -> Self:
        """Check a config against its data and build what it describes.

        Args:
            config: as loaded.
            data_file: path of the data.
            folder: path of the run; data inside it are named relative to it, so that it
                can be moved.
            learns: whether there must be something to learn.

        Raises: InputError for whatever does not fit; nothing is written.
        """
        # Not resolved: a link's target need not have a data file's suffix.
        data_file, folder = (Path(os.path.abspath(path)) for path in (data_file, folder))
        use_precision(config)
        dtype = precision(config)
        dataset = open_dataset(data_file)
        fields = config.data.fields
        check_dataset(dataset, fields=fields)
        grid = grid_of(dataset, fields[0]) if dataset[fields[0]].ndim > 2 else None
        if config.grid is not None:
            named = build_grid(config, grid)
            with _about("grid"):
                check_grid(dataset, fields[0], named)
            # The data's own but for rounding; whether axes are periodic they may leave out.
            if grid is None or any(
                a.periodic != b.periodic for a, b in zip(grid.axes, named.axes, strict=True)
            ):
                grid = named
        _check_lengths(grid, dtype, data_file)
        inside = data_file.is_relative_to(folder)
        place = data_file.relative_to(folder) if inside else data_file
        _check_is_text(place)
        data = config.data.model_copy(update={"file": str(place)})
        config = config.model_copy(update={"data": data})
        system = cast(build_system(config, grid, learns=learns), dtype)
        with _about("system"):
            check_grid(dataset, fields[0], system.grid)
        axes = None if system.grid is None else describe_grid(system.grid)
        config = config.model_copy(update={"grid": axes})
        stepper = build_stepper(config, system)
        check_dataset(dataset, fields=fields, latents=tuple(system.latents(0.0)))
        check_truths(system, dataset)
        for field in fields:
            check_values(dataset[field], str(data_file), dtype)
        with _about("system"):
            latents = (name for latent in latents_of(system) for name in latent.names)
            names = [*system.fields, *system.integrals, *latents, *system.missing_parameters]
            check_storable(
                [*names, *(f"{name}_truth" for name in names)],
                [str(dim) for dim in dataset[fields[0]].dims],
            )
        with _about("data.train_samples"):
            train_samples = select_samples(dataset, data.train_samples)
        with _about("data.train_times"):
            select_times(dataset, data.train_times)
        with _about("time.start"):
            begin = _begin(system, dataset, config.time.start)
        with _about("data.test_samples"):
            validation = test = Samples.of(system, dataset, data.test_samples, begin, dtype)
        if (stopping := config.training.early_stopping) is not None:
            with _about("training.early_stopping.samples"):
                validation = Samples.of(system, dataset, stopping.samples, begin, dtype)
                _check_apart(validation.positions, train_samples, test.positions)
        start = begin.time
        forecast_times = _times_up_to(times_of(dataset), config.time.until)
        stages = build_stages(config, system)
        for dt in (config.time.dt, *(stage.dt for stage in stages)):
            if dt is not None:
                TimeGrid.build(start, forecast_times, dt)
        observations = Observations.of(
            system,
            dataset,
            train_samples,
            data.train_times,
            dtype,
            build_observations(config, system),
            build_penalties(config, system),
            start,
        )
        check_expected(system, observations)
        # Known now, and not only when all is trained.
        with _about("time.until"):
            check_spans(system, start, float(forecast_times[-1]), "the forecast")
        return cls(
            config=config,
            data_file=data_file,
            dataset=dataset,
            system=system,
            stepper=stepper,
            stages=stages,
            observations=observations,
            train_samples=train_samples,
            test=test,
            validation=validation,
            forecast_times=forecast_times,
        )

    @property
    def start(self) -> float:
        """When simulations begin."""
        return self.test.time

    @property
    def known_times(self) -> int:
        """How many of the forecast's times, from the first, are times of the data."""
        return int(np.isin(self.forecast_times, times_of(self.dataset)).sum())

    def validator(self) -> Validator | None:
        """The forecast error of the validation samples, see `Validator.of`."""
        fields, time = self.config.data.fields, self.config.time
        how = time.dt, self.stepper, time.control
        return Validator.of(self.validation, fields, self.forecast_times, *how)


def precision(config: Config) -> jnp.dtype:
    """The precision that a config asks for."""
    return jnp.dtype(config.precision)


def use_precision(config: Config) -> None:
    """Allow float64 in this process, if the config asks for it."""
    if config.precision == "float64":
        jax.config.update("jax_enable_x64", True)


def cast(system: System, dtype: jnp.dtype) -> System:
    """The system with its real arrays in a precision."""

    def to_dtype(leaf):
        real = isinstance(leaf, jax.Array) and jnp.issubdtype(leaf.dtype, jnp.floating)
        return leaf.astype(dtype) if real else leaf

    return jax.tree.map(to_dtype, system)


def _check_lengths(grid: Grid | None, dtype: jnp.dtype, source: Path) -> None:
    """Refuse axes whose faces or widths a precision does not hold."""
    held = np.finfo(dtype)
    least, most = float(held.tiny), float(held.max)
    for axis in () if grid is None else grid.axes:
        widths, far = np.diff(np.asarray(axis.faces, np.float64)), np.abs(axis.faces).max()
        if not (least <= widths.min() and far <= most):
            raise InputError(
                f"{source}: coordinate {axis.name!r} reaches to {far:g}, in cells down to "
                f"{widths.min():g}, but {dtype} holds magnitudes from {least:.2g} to {most:.2g}: "
                "give it in another unit, or set precision = 'float64'."
            )


def _check_is_text(place: Path) -> None:
    """Refuse a path that a config cannot name: TOML is UTF-8."""
    try:
        str(place).encode()
    except UnicodeEncodeError:
        raise InputError(
            f"{place}: its name is no text in {sys.getfilesystemencoding()}, and the run's config "
            "could not name it. Rename it, or, if it is UTF-8, set LC_ALL=C.UTF-8."
        ) from None


def _begin(system: System, dataset: xr.Dataset, start: float | None) -> InitialTime:
    """When simulations begin, which is no later than the data do."""
    begin = initial_time(system, dataset, start)
    if begin.position:
        raise InputError(
            f"is {begin.time:g}, but the data begin earlier, at {times_of(dataset)[0]:g}: leave "
            f"what is before it out of the data, dataset.sel(time=slice({begin.time:g}, None))."
        )
    return begin


def _times_up_to(clock: np.ndarray, until: float) -> np.ndarray:
    if until <= clock[0]:
        raise InputError(
            f"time.until is {until:g}, but the data starts at {clock[0]:g}: the forecast must "
            "end later."
        )
    slack = 1e-6 * (until - clock[0])
    times = np.unique(clock[clock <= until + slack])
    return times if until - times[-1] <= slack else np.append(times, until)


def _check_apart(validation: list[int], train: list[int], test: list[int]) -> None:
    """What decides when training ends is neither trained on nor unseen."""
    for what, samples in (("trained on", train), ("tested on", test)):
        if shared := sorted(set(validation) & set(samples)):
            raise InputError(
                f"sample {shared[0]} is also {what}: hold back others to decide when training ends."
            )


@contextmanager
def _about(key: str) -> Iterator[None]:
    """Name the config's key in what is wrong with the data it selects."""
    try:
        yield
    except InputError as error:
        raise InputError(f"{key}: {error}") from None
