"""From a checked config to the objects it describes."""

from dataclasses import replace
from typing import Any

from impindiff._errors import InputError
from impindiff.config._own import (
    own_observations,
    own_penalties,
    own_stages,
    own_system,
    own_transformation,
)
from impindiff.config._schema import AxisTable, Config
from impindiff.config._training import BatchedTable, StageTable
from impindiff.grid import Axis, Grid
from impindiff.integrate import AbstractStepper
from impindiff.observe import AbstractObservation, AbstractPenalty
from impindiff.rollout import KeepAll, MemoryBudget, parse_bytes
from impindiff.systems import System
from impindiff.train import (
    EarlyStopping,
    FitOptions,
    ProgressiveTolerance,
    Rescue,
    Stage,
    Validation,
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


def build_stages(config: Config, system: System) -> list[Stage]:
    """The stages, in order; what the whole training freezes is frozen in each.

    Raises: InputError for a function of the user's own that fails, or returns something else.
    """
    stages, freeze = config.training.stages, config.training.freeze
    made = (
        own_stages(config, stages, system)
        if isinstance(stages, str)
        else [_stage(config, number, table) for number, table in enumerate(stages)]
    )
    return [replace(stage, freeze=(*freeze, *stage.freeze)) for stage in made]


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


def build_options(config: Config, stepper: AbstractStepper) -> FitOptions:
    """How to train; what is validated, watched and saved is the caller's to say."""
    training = config.training
    rescue, tolerance = training.rescue, training.progressive_tolerance
    stopping = training.early_stopping
    return FitOptions(
        stepper=stepper,
        memory=KeepAll() if training.memory is None else MemoryBudget(training.memory),
        samples_at_once=training.samples_at_once,
        rescue=None if rescue is None else Rescue(**rescue.model_dump()),
        progressive_tolerance=None
        if tolerance is None
        else ProgressiveTolerance(**tolerance.model_dump()),
        dtype=config.precision,
        control=config.time.control,
        seed=config.seed,
        validation=Validation(
            every=training.validate_every,
            early_stopping=None
            if stopping is None
            else EarlyStopping(stopping.patience, stopping.min_improvement),
        ),
    )


def with_memory(config: Config, amount: str) -> Config:
    """The config with another amount of memory.

    Raises: InputError for what is no amount.
    """
    parse_bytes(amount)
    training = config.training.model_copy(update={"memory": amount})
    return config.model_copy(update={"training": training})


def _stage(config: Config, number: int, table: StageTable) -> Stage:
    # The keys that not every stage has are the arguments in Python.
    own = type(table).model_fields.keys() - BatchedTable.model_fields.keys() - {"optimiser"}
    arguments = {name: getattr(table, name) for name in own}
    for name, function in table.functions.items():
        key = f"training.stages.{number}.{name}"
        arguments[name] = own_transformation(config, key, function)
    optimiser = type(table).python(**arguments)
    return Stage(optimiser, table.epochs, table.dt, table.batches, table.freeze)
