"""Advection-diffusion whose steady velocity is unknown (arXiv 2504.02260, section 3.1)."""

import jax
import jax.numpy as jnp
import numpy as np
import xarray as xr

from impindiff.cases._case import Case, check_request
from impindiff.cases._random_fields import gaussian_process, sine_waves
from impindiff.data import to_dataset
from impindiff.forecast import carry_forward
from impindiff.grid import Grid
from impindiff.integrate import RungeKutta4
from impindiff.rollout import TimeGrid
from impindiff.systems import advection_diffusion

_DIFFUSIVITY = 1e-3
_CORRELATION_LENGTH = 0.12
_TIMES = np.linspace(0, 0.2, 21)


def generate(samples: int = 10, seed: int = 0, dt: float = 1e-3) -> xr.Dataset:
    """Make the data of the paper's setting.

    128 x 64 periodic cells, smooth random initial fields, velocities that are sums of sine waves.
    Solved in float64 by the classical Runge-Kutta method; fields are stored in float32.

    Args:
        samples: number of initial fields.
        seed: of the velocity and the initial fields. The first samples are the same for any number
            of them.
        dt: time step.

    Raises: InputError for fewer than one sample or a negative seed.
    """
    check_request(samples, seed)
    grid = Grid.uniform((128, 64), ((-1.0, 1.0), (0.0, 1.0)), periodic=True)
    rng = np.random.default_rng(seed)
    velocity = np.stack([sine_waves(grid, 30, 3, rng), sine_waves(grid, 15, 3, rng)])
    initial = gaussian_process(grid, samples, _CORRELATION_LENGTH, rng)
    with jax.enable_x64(True):
        system = advection_diffusion(grid, jnp.asarray(velocity), _DIFFUSIVITY)
        time_grid = TimeGrid.build(0.0, _TIMES, dt)
        start = {"concentration": jnp.asarray(initial)}
        states = carry_forward(system, start, RungeKutta4(), time_grid)
    names = {
        "concentration": "transported scalar",
        "advection_x": "advection velocity along x",
        "advection_y": "advection velocity along y",
    }
    return to_dataset(
        grid,
        _TIMES,
        {"concentration": np.asarray(states["concentration"], np.float32)},
        {"advection_x": velocity[0], "advection_y": velocity[1]},
        {name: {"units": "1", "long_name": text} for name, text in names.items()},
        attrs={
            "title": "advection-diffusion, steady velocity",
            "source": f"impindiff, Runge-Kutta 4, dt {dt:g}, float64, seed {seed}",
            "diffusivity": _DIFFUSIVITY,
        },
    )


ADVECTION_DIFFUSION_STEADY = Case(
    name="advection-diffusion-steady",
    summary="advection-diffusion with an unknown steady velocity, learned from one snapshot",
    generate=generate,
    folder="advection_diffusion_steady",
    changes={
        "quick": {
            "training.stages": [
                {"optimiser": "adam", "epochs": 100, "learning_rate": 4e-3},
                {"optimiser": "lbfgs", "epochs": 150},
            ],
        }
    },
)
