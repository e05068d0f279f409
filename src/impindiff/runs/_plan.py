"""Config and data put together and checked, before anything is computed or written."""

from dataclasses import dataclass
from pathlib import Path
from typing import Self, final

import jax
import jax.numpy as jnp
import numpy as np
import xarray as xr

from impindiff._errors import InputError
from impindiff._types import State
from impindiff.config import (
    Config,
    build_grid,
    build_stages,
    build_stepper,
    build_system,
    describe_grid,
)
from impindiff.data import (
    check_dataset,
    check_grid,
    grid_of,
    initial_fields,
    open_dataset,
    select_samples,
    snapshots,
)
from impindiff.forecast import carry_forward
from impindiff.grid import Grid
from impindiff.integrate import AbstractStepper
from impindiff.observe import relative_error
from impindiff.rollout import TimeGrid, tidy_time
from impindiff.systems import System
from impindiff.train import AbstractOptimiser, Observations


@final
@dataclass(frozen=True)
class RunPlan:
    """All that a run needs, checked.

    Attributes:
        config: as resolved: with the grid and the place of the data.
        data_file: the data.
        dataset: its content.
        grid: of the data.
        system: untrained.
        stepper: advances one step.
        stages: the optimisers.
        observations: what to fit.
        test_samples: positions of the samples held back.
        forecast_times: the data's times up to `until`, and `until` itself.
    """

    config: Config
    data_file: Path
    dataset: xr.Dataset
    grid: Grid
    system: System
    stepper: AbstractStepper
    stages: list[AbstractOptimiser]
    observations: Observations
    test_samples: list[int]
    forecast_times: np.ndarray

    @classmethod
    def make(cls, config: Config, data_file: Path, folder: Path) -> Self:
        """Check a config against its data and build what it describes.

        Args:
            config: as loaded.
            data_file: absolute path of the data.
            folder: absolute path of the run; data inside it are named relative to it, so that it
                can be moved.

        Raises: InputError for whatever does not fit; nothing is written.
        """
        use_precision(config)
        dtype = precision(config)
        dataset = open_dataset(data_file)
        field = config.data.field
        check_dataset(dataset, fields=[field])
        grid = grid_of(dataset, field)
        if config.grid is not None:
            check_grid(dataset, field, build_grid(config))
        else:
            config = config.model_copy(update={"grid": describe_grid(grid)})
        inside = data_file.is_relative_to(folder)
        place = data_file.relative_to(folder) if inside else data_file
        stored = config.data.model_copy(update={"file": str(place)})
        config = config.model_copy(update={"data": stored})
        system = cast(build_system(config, grid), dtype)
        system.prepare(dtype)
        samples, times = config.data.train_samples, config.data.train_times
        observations = Observations.from_dataset(dataset, grid, [field], samples, times, dtype)
        test_samples = select_samples(dataset, config.data.test_samples)
        initial_fields(dataset, field, test_samples)
        return cls(
            config=config,
            data_file=data_file,
            dataset=dataset,
            grid=grid,
            system=system,
            stepper=build_stepper(config),
            stages=build_stages(config),
            observations=observations,
            test_samples=test_samples,
            forecast_times=_times_up_to(dataset, config.time.until),
        )

    def validator(self) -> "Validator":
        """The forecast error of the test samples, as a function of the system."""
        field, dtype = self.config.data.field, precision(self.config)
        clock = np.asarray(self.dataset["time"], np.float64)
        last = int(np.flatnonzero(clock <= self.forecast_times[-1] * (1 + 1e-6))[-1])
        start = self.observations.start
        return Validator(
            {field: jnp.asarray(initial_fields(self.dataset, field, self.test_samples), dtype)},
            snapshots(self.dataset, field, self.test_samples, [last])[:, 0],
            TimeGrid.build(start, np.array([tidy_time(clock[last])]), self.config.time.dt),
            self.stepper,
        )


@final
@dataclass(frozen=True)
class Validator:
    """Mean relative L1 error [%] of a forecast, at one time."""

    initial: State
    truth: np.ndarray
    time_grid: TimeGrid
    stepper: AbstractStepper

    def __call__(self, system: System) -> float:
        """The error of a system's forecast."""
        states = carry_forward(system, self.initial, self.stepper, self.time_grid)
        (found,) = states.values()
        errors = relative_error(np.asarray(found)[:, -1], self.truth, 1, self.truth.ndim - 1)
        return float(100 * errors.mean())


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


def _times_up_to(dataset: xr.Dataset, until: float) -> np.ndarray:
    clock = np.array([tidy_time(t) for t in np.asarray(dataset["time"], np.float64)])
    if until <= clock[0]:
        raise InputError(
            f"time.until is {until:g}, but the data starts at {clock[0]:g}: the forecast must "
            f"end later."
        )
    times = clock[clock <= until * (1 + 1e-6)]
    return times if np.isclose(times[-1], until, rtol=1e-6) else np.append(times, until)
