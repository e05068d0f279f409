"""From a checked config to the objects it describes."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import PRNGKeyArray

from impindiff._errors import InputError
from impindiff.config._schema import (
    AxisTable,
    Config,
    ParameterTable,
    SineFieldTable,
)
from impindiff.config._training import AdamTable, LBFGSTable
from impindiff.grid import Axis, Grid
from impindiff.implicit import CG, GMRES, AbstractLinearSolver, Affine, BiCGStab, Tridiagonal
from impindiff.integrate import (
    AbstractStepper,
    BackwardEuler,
    CrankNicolson,
    ForwardEuler,
    RungeKutta4,
)
from impindiff.latent import Parameter, SineField
from impindiff.rollout import KeepAll, MemoryBudget, parse_bytes
from impindiff.systems import System, advection_diffusion
from impindiff.terms import fourier, jacobi, multigrid
from impindiff.train import (
    LBFGS,
    AbstractOptimiser,
    Adam,
    Batching,
    EarlyStopping,
    ProgressiveTolerance,
    Rescue,
)


def build_grid(config: Config) -> Grid:
    """The grid that a resolved config names.

    Raises: InputError for an empty axis, or a config that names no grid.
    """
    if config.grid is None:
        raise InputError("the config names no grid; it is taken from the data when a run is made.")
    return Grid([Axis(a.name, a.lower, a.upper, a.cells, a.periodic) for a in config.grid])


def describe_grid(grid: Grid) -> list[AxisTable]:
    """The config tables of a grid.

    Raises: InputError for a grid that they cannot describe.
    """
    if uneven := [axis.name for axis in grid.axes if not axis.is_uniform]:
        raise InputError(
            f"the cells along {uneven[0]!r} are not equal, and a config describes equal cells: "
            "train in Python (impindiff.fit), or interpolate the data to equal cells."
        )
    return [
        AxisTable(name=a.name, lower=a.lower, upper=a.upper, cells=a.num_cells, periodic=a.periodic)
        for a in grid.axes
    ]


def build_system(config: Config, grid: Grid) -> System:
    """The equations, unknown coefficients freshly initialised from the config's seed.

    Raises: InputError for a velocity whose components are not as many as the grid's axes, an
        unknown diffusivity of several components, or an axis that is not periodic.
    """
    if ends := [axis.name for axis in grid.axes if not axis.periodic]:
        raise InputError(
            f"the axis {ends[0]!r} is not periodic, and a config names no boundary conditions: "
            "train in Python, where System takes them."
        )
    keys = jax.random.split(jax.random.key(config.seed), 2)
    table = config.system
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
        grid, velocity, diffusivity, scheme=table.scheme, field=config.data.field
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


_STEPPERS: dict[str, Callable[[Affine, Any], AbstractStepper]] = {
    "crank-nicolson": CrankNicolson,
    "backward-euler": BackwardEuler,
    "forward-euler": lambda solver, preconditioner: ForwardEuler(),
    "runge-kutta-4": lambda solver, preconditioner: RungeKutta4(),
}
_METHODS: dict[str, Callable[..., AbstractLinearSolver]] = {
    "bicgstab": BiCGStab,
    "gmres": GMRES,
    "cg": CG,
    "tridiagonal": Tridiagonal,
}
_PRECONDITIONERS = {
    "none": None,
    "jacobi": jacobi,
    "fourier": fourier,
    "multigrid": multigrid(),
}


def build_stepper(config: Config) -> AbstractStepper:
    """The time stepper with its solver."""
    table = config.solver
    method = _METHODS[table.method]
    solver = Affine(
        method(table.rtol, max_steps=table.max_steps),
        method(table.adjoint_rtol, max_steps=table.adjoint_max_steps),
    )
    return _STEPPERS[config.time.scheme](solver, _PRECONDITIONERS[table.preconditioner])


def build_stages(config: Config) -> list[AbstractOptimiser]:
    """The optimisers, in order."""
    return [_stage(table) for table in config.training.stages]


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
