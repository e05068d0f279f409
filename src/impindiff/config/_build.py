"""From a checked config to the objects it describes."""

from typing import Any

from impindiff._errors import InputError
from impindiff.config._own import own_observations, own_penalties, own_stages, own_system
from impindiff.config._schema import AxisTable, Config
from impindiff.config._training import AdamTable, LBFGSTable
from impindiff.grid import Axis, Grid
from impindiff.observe import AbstractObservation, AbstractPenalty
from impindiff.rollout import KeepAll, MemoryBudget, parse_bytes
from impindiff.systems import System
from impindiff.train import (
    LBFGS,
    AbstractOptimiser,
    Adam,
    Batching,
    EarlyStopping,
    ProgressiveTolerance,
    Rescue,
)


def build_grid(config: Config, data: Grid | None = None) -> Grid:
    """The grid that a config names.

    Args:
        config: names it.
        data: the grid of the data, which say whether an axis is periodic where the config does
            not. Without data such an axis has ends.

    Raises: InputError for an empty axis, or a config that names no grid.
    """
    if config.grid is None:
        raise InputError("the config names no grid; it is taken from the data when a run is made.")
    known = {} if data is None else {axis.name: axis.periodic for axis in data.axes}
    return Grid([_axis(table, known.get(table.name, False)) for table in config.grid])


def _axis(table: AxisTable, otherwise: bool) -> Axis:
    periodic = otherwise if table.periodic is None else table.periodic
    if table.even is None:
        return Axis.from_faces(table.name, table.faces or [], periodic=periodic)
    return Axis(table.name, *table.even, periodic=periodic)


def describe_grid(grid: Grid) -> list[AxisTable]:
    """The config tables of a grid's axes; obstacles and coordinates are the system's."""

    def describe(axis: Axis) -> AxisTable:
        described: dict[str, Any] = {"name": axis.name, "periodic": axis.periodic}
        if not axis.is_uniform:
            return AxisTable(**described, faces=[float(face) for face in axis.faces])
        return AxisTable(**described, lower=axis.lower, upper=axis.upper, cells=axis.num_cells)

    return [describe(axis) for axis in grid.axes]


def known_grid(config: Config) -> Grid | None:
    """The same; None where it names none, as where a system brings its own or has none."""
    return None if config.grid is None else build_grid(config)


def build_system(config: Config, grid: Grid | None = None, *, learns: bool = True) -> System:
    """The equations, unknown coefficients freshly initialised from the config's seed.

    Args:
        config: whose table `[system]` is taken.
        grid: where the fields live; the function may bring another.
        learns: whether there must be something to learn.

    Raises: InputError for a function that fails or does not return what it should.
    """
    return own_system(config, grid, learns)


def build_stages(config: Config, system: System) -> list[AbstractOptimiser]:
    """The optimisers, in order.

    Raises: InputError for a function of the user's own that fails, or returns something else.
    """
    stages = config.training.stages
    return (
        own_stages(config, stages, system) if isinstance(stages, str) else list(map(_stage, stages))
    )


def build_observations(config: Config, system: System) -> list[AbstractObservation] | None:
    """What was measured and how; None where each field was, cell by cell.

    Raises: InputError for a function of the user's own that fails, or returns something else.
    """
    name = config.data.observe
    return None if name is None else own_observations(config, name, system)


def build_penalties(config: Config, system: System) -> list[AbstractPenalty]:
    """What of the learned coefficients is held against them.

    Raises: InputError for a function of the user's own that fails, or returns something else.
    """
    name = config.training.regularise
    return [] if name is None else own_penalties(config, name, system)


def build_rescue(config: Config) -> Rescue | None:
    """What is done where a solve fails; None where training is to end."""
    table = config.training.rescue
    return None if table is None else Rescue(**table.model_dump())


def build_progressive_tolerance(config: Config) -> ProgressiveTolerance | None:
    """The schedule of tolerances; None where there is none."""
    table = config.training.progressive_tolerance
    return None if table is None else ProgressiveTolerance(**table.model_dump())


def build_early_stopping(config: Config) -> EarlyStopping | None:
    """When to end a stage early; None where none is."""
    table = config.training.early_stopping
    return None if table is None else EarlyStopping(table.patience, table.min_improvement)


def build_memory(config: Config) -> KeepAll | MemoryBudget:
    """What a gradient may keep."""
    amount = config.training.memory
    return KeepAll() if amount is None else MemoryBudget(amount)


def with_memory(config: Config, amount: str) -> Config:
    """The config with another amount of memory.

    Raises: InputError for what is no amount.
    """
    parse_bytes(amount)
    training = config.training.model_copy(update={"memory": amount})
    return config.model_copy(update={"training": training})


def _stage(table: AdamTable | LBFGSTable) -> AbstractOptimiser:
    if isinstance(table, AdamTable):
        batching = Batching(table.batch_samples, table.window)
        rate, freeze = table.learning_rate, table.freeze
        return Adam(table.epochs, learning_rate=rate, freeze=freeze, dt=table.dt, batching=batching)
    return LBFGS(table.epochs, memory=table.memory, freeze=table.freeze, dt=table.dt)
