"""Data of advection and diffusion by a velocity that is known to whoever makes them."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import xarray as xr

from impindiff.data import to_dataset
from impindiff.forecast import carry_forward
from impindiff.grid import Grid
from impindiff.integrate import RungeKutta4
from impindiff.rollout import TimeGrid
from impindiff.systems import advection_diffusion

CORRELATION_LENGTH = 0.12
_DIFFUSIVITY = 1e-3
_NAMES = {
    "concentration": "transported scalar",
    "advection_x": "advection velocity along x",
    "advection_y": "advection velocity along y",
}


def box() -> Grid:
    """128 x 64 periodic cells, as in the paper."""
    return Grid.uniform((128, 64), ((-1.0, 1.0), (0.0, 1.0)), periodic=True)


def transported(
    velocity: Any,
    truth: tuple[np.ndarray, np.ndarray],
    initial: np.ndarray,
    times: np.ndarray,
    dt: float,
    title: str,
    seed: int,
) -> xr.Dataset:
    """Solve in float64 by the classical Runge-Kutta method; fields are stored in float32.

    Args:
        velocity: as `Advection` takes it.
        truth: its components as the data hold them.
        initial: initial fields, `(sample, *grid)`.
        times: to save, from the initial one.
        dt: time step.
        title: of the dataset.
        seed: that all was drawn from.
    """
    grid = box()
    with jax.enable_x64(True):
        system = advection_diffusion(grid, velocity, _DIFFUSIVITY)
        start = {"concentration": jnp.asarray(initial)}
        time_grid = TimeGrid.build(0.0, times, dt)
        states = carry_forward(system, start, RungeKutta4(), time_grid)
    return to_dataset(
        grid,
        times,
        {"concentration": np.asarray(states["concentration"], np.float32)},
        {"advection_x": truth[0], "advection_y": truth[1]},
        {name: {"units": "1", "long_name": text} for name, text in _NAMES.items()},
        attrs={
            "title": title,
            "source": f"impindiff, Runge-Kutta 4, dt {dt:g}, float64, seed {seed}",
            "diffusivity": _DIFFUSIVITY,
        },
    )
