"""A problem to try a config on that names no data: smooth fields, made up."""

import jax.numpy as jnp
import numpy as np

from impindiff.config import Config, SineFieldTable, build_grid, build_system
from impindiff.grid import Axis, Grid
from impindiff.runs._plan import cast
from impindiff.systems import System
from impindiff.train import Observations

_CELLS = 24


def made_up_problem(
    config: Config, num_samples: int = 1, dtype: jnp.dtype | type = jnp.float64
) -> tuple[System, Observations, str]:
    """The untrained system, samples of made-up observations, and what was made up, in words.

    On the config's grid, or a small one on the unit square or cube.
    """
    if config.grid is not None:
        grid = build_grid(config)
    else:
        velocity = config.system.velocity
        names = velocity.names if isinstance(velocity, SineFieldTable) else velocity
        axes = "xyz"[: len(names)]
        grid = Grid([Axis(name, 0.0, 1.0, _CELLS, periodic=True) for name in axes])
    system = cast(build_system(config, grid), jnp.dtype(dtype))
    field, times = config.data.field, tuple(sorted(config.data.train_times))
    random = np.random.default_rng(config.seed)

    def smooth(*leading: int) -> jnp.ndarray:
        made = [_smooth(grid, random) for _ in range(int(np.prod(leading)))]
        return jnp.asarray(np.stack(made).reshape(*leading, *grid.shape), dtype)

    initial, observed = smooth(num_samples), smooth(num_samples, len(times))
    said = f"fields made up on {' x '.join(map(str, grid.shape))} cells, as no data file is named"
    return system, Observations({field: initial}, {field: observed}, 0.0, times), said


def _smooth(grid: Grid, random: np.random.Generator) -> np.ndarray:
    """A positive sum of a few waves along each axis."""
    total = np.full(grid.shape, 2.0)
    for axis, cells in enumerate(grid.shape):
        angle = 2 * np.pi * (np.arange(cells) + 0.5) / cells
        shape = [-1 if a == axis else 1 for a in range(len(grid.shape))]
        for wave in (1, 2):
            total = total + 0.25 * np.sin(wave * angle + random.uniform(0, 6)).reshape(shape)
    return total
