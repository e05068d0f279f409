"""A problem to try a config on that names no data: smooth fields, made up."""

import itertools
from contextlib import suppress

import jax.numpy as jnp
import numpy as np

from impindiff._errors import InputError
from impindiff.config import (
    Config,
    asks_for_grid,
    build_grid,
    build_penalties,
    build_system,
)
from impindiff.grid import Axis, Grid
from impindiff.runs._run_plan import cast
from impindiff.systems import System
from impindiff.train import Observations

_CELLS = 24


def made_up_problem(
    config: Config, num_samples: int = 1, dtype: jnp.dtype | type = jnp.float64
) -> tuple[System, Observations, str]:
    """The untrained system, samples of made-up observations, and what was made up, in words.

    On the grid of the config or of its own system; else a small one on the unit square or cube.
    Each field is of the order of its scale, and observed cell by cell.

    Raises: InputError for a system with sample parameters: what they may be nothing tells.
    """
    system = cast(build_system(config, _grid(config)), jnp.dtype(dtype))
    if system.missing_parameters:
        raise InputError(
            f"the system has the sample parameters {', '.join(system.missing_parameters)}, and "
            "they cannot be made up as fields can: give data that hold them, "
            "--data FILE, or data.file in the config."
        )
    shape, times = _shape(system), tuple(sorted(config.data.train_times))
    random, scales = np.random.default_rng(config.seed), dict(system.scales)

    def smooth(field: str, *leading: int) -> jnp.ndarray:
        made = [_smooth(shape, random) for _ in range(int(np.prod(leading)))]
        size = scales.get(field, 1.0)
        return jnp.asarray(size * np.stack(made).reshape(*leading, *shape), dtype)

    initial = {field: smooth(field, num_samples) for field in system.fields}
    observed = {field: smooth(field, num_samples, len(times)) for field in system.fields}
    penalties = tuple(build_penalties(config, system))
    observations = Observations(initial, observed, 0.0, times, penalties=penalties)
    cells = f" on {' x '.join(map(str, shape))} cells" if shape else ""
    return system, observations, f"fields made up{cells}, as no data file is named"


def _grid(config: Config) -> Grid | None:
    if config.grid is not None:
        return build_grid(config)
    if not asks_for_grid(config):
        return None
    # How many axes a system has, and whether they have ends, only its function knows.
    for periodic, count in itertools.product((True, False), (2, 1, 3)):
        names = "xyz"[:count]
        grid = Grid([Axis(name, 0.0, 1.0, _CELLS, periodic=periodic) for name in names])
        with suppress(InputError):
            build_system(config, grid)
            return grid
    return None


def _shape(system: System) -> tuple[int, ...]:
    return () if system.grid is None else system.grid.shape


def _smooth(shape: tuple[int, ...], random: np.random.Generator) -> np.ndarray:
    """A positive sum of a few waves along each axis."""
    total = np.full(shape, 2.0)
    for axis, cells in enumerate(shape):
        angle = 2 * np.pi * (np.arange(cells) + 0.5) / cells
        place = [-1 if a == axis else 1 for a in range(len(shape))]
        for wave in (1, 2):
            total = total + 0.25 * np.sin(wave * angle + random.uniform(0, 6)).reshape(place)
    return total
