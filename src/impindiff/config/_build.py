"""From a checked config to the objects it describes."""

from dataclasses import replace
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import PRNGKeyArray

from impindiff._errors import InputError
from impindiff.config._own import own_observations, own_penalties, own_stages, own_system
from impindiff.config._schema import AxisTable, Config
from impindiff.config._systems import (
    AdvectionDiffusionTable,
    OwnSystemTable,
    ParameterTable,
    SineFieldTable,
)
from impindiff.config._training import AdamTable, LBFGSTable
from impindiff.grid import Axis, Grid
from impindiff.integrate import AbstractStepper
from impindiff.latent import Parameter, SineField
from impindiff.observe import AbstractObservation, AbstractPenalty
from impindiff.rollout import KeepAll, MemoryBudget, parse_bytes
from impindiff.systems import System, advection_diffusion
from impindiff.train import (
    LBFGS,
    Adam,
    Batching,
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
            not. Without data such an axis has ends, unless the equation is one that knows no ends.

    Raises: InputError for an empty axis, or a config that names no grid.
    """
    if config.grid is None:
        raise InputError("the config names no grid; it is taken from the data when a run is made.")
    known = {} if data is None else {axis.name: axis.periodic for axis in data.axes}
    otherwise = data is None and isinstance(config.system, AdvectionDiffusionTable)
    return Grid([_axis(table, known.get(table.name, otherwise)) for table in config.grid])


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
        grid: where the fields live; a function of the user's own may bring another.
        learns: whether there must be something to learn.

    Raises: InputError for a velocity whose components are not as many as the grid's axes, an
        unknown diffusivity of several components, an axis that is not periodic, and for a function
        that fails or does not return what it should.
    """
    table = config.system
    if isinstance(table, OwnSystemTable):
        return own_system(config, table, grid, learns)
    if grid is None:
        grid = build_grid(config)
    return _advection_diffusion(config, table, grid)


def _advection_diffusion(config: Config, table: AdvectionDiffusionTable, grid: Grid) -> System:
    if ends := [axis.name for axis in grid.axes if not axis.periodic]:
        raise InputError(
            f"the axis {ends[0]!r} is not periodic, and a config names no boundary conditions: "
            "write the system as a function, and name it by system.build. Where it is a ring, "
            "have the data say so, dataset.attrs['boundary'] = 'periodic', or the config, with "
            "periodic = true in a [[grid]] table for each axis."
        )
    keys = jax.random.split(jax.random.key(config.seed), 2)
    velocity = _coefficient(table.velocity, grid, keys[0])
    components = (
        table.velocity.names if isinstance(table.velocity, SineFieldTable) else table.velocity
    )
    if len(components) != grid.num_axes:
        raise InputError(
            f"system.velocity has {len(components)} component(s), but the grid has "
            f"{grid.num_axes} axes "
            f"({', '.join(grid.names)}): give one for each axis."
        )
    if isinstance(table.diffusivity, SineFieldTable) and len(table.diffusivity.names) != 1:
        raise InputError("system.diffusivity is one field: give it exactly one name.")
    diffusivity = _coefficient(table.diffusivity, grid, keys[1])
    return advection_diffusion(
        grid, velocity, diffusivity, scheme=table.scheme, field=config.data.fields[0]
    )


def _coefficient(table: Any, grid: Grid, key: PRNGKeyArray) -> Any:
    match table:
        case SineFieldTable():
            low, high = table.output_range
            return SineField(
                grid.num_axes,
                tuple(table.names),
                width=table.width,
                depth=table.depth,
                frequency=table.frequency,
                output_range=(low, high),
                key=key,
            )
        case ParameterTable():
            low, high = table.bounds
            return Parameter(table.name, table.initial, (low, high))
        case list():
            return jnp.asarray(table)
        case _:
            return table


def build_stages(config: Config, system: System) -> list[Stage]:
    """The stages, in order; what the whole training freezes is frozen in each.

    Raises: InputError for a function of the user's own that fails, or returns something else.
    """
    stages, freeze = config.training.stages, config.training.freeze
    made = (
        own_stages(config, stages, system) if isinstance(stages, str) else list(map(_stage, stages))
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


def _stage(table: AdamTable | LBFGSTable) -> Stage:
    if isinstance(table, AdamTable):
        batches = Batching(table.batch_samples, table.window)
        adam = Adam(learning_rate=table.learning_rate)
        return Stage(adam, table.epochs, table.dt, batches, table.freeze)
    return Stage(LBFGS(memory=table.memory), table.epochs, table.dt, freeze=table.freeze)
