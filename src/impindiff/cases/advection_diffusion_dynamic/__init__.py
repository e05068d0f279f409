"""Advection-diffusion with an unknown velocity that varies in time (arXiv 2504.02260, sec. 3)."""

import jax
import jax.numpy as jnp
import numpy as np
import xarray as xr

from impindiff.cases._case import Case, check_request
from impindiff.cases._drift import Drift
from impindiff.cases._random_fields import gaussian_process
from impindiff.data import to_dataset
from impindiff.forecast import carry_forward
from impindiff.grid import Grid
from impindiff.integrate import RungeKutta4
from impindiff.rollout import TimeGrid
from impindiff.systems import advection_diffusion

_DIFFUSIVITY = 1e-3
_CORRELATION_LENGTH = 0.12
_MAX_RATE = 1.5
_TIMES = np.linspace(0, 0.4, 41)


def generate(samples: int = 10, seed: int = 0, dt: float = 2e-3) -> xr.Dataset:
    """Make the data of the paper's setting.

    128 x 64 periodic cells, smooth random initial fields; the velocity is a sum of sine waves each
    of which drifts at a rate of its own, at most 1.5 turns in a unit of time. Solved in float64 by
    the classical Runge-Kutta method, the velocity taken at the times of its stages; fields are
    stored in float32.

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
    along = [Drift.draw(grid, count, 3, _MAX_RATE, _TIMES, rng) for count in (30, 15)]
    initial = gaussian_process(grid, samples, _CORRELATION_LENGTH, rng)

    def velocity(t):
        return jnp.stack([drift(t) for drift in along])

    with jax.enable_x64(True):
        system = advection_diffusion(grid, velocity, _DIFFUSIVITY)
        start = {"concentration": jnp.asarray(initial)}
        time_grid = TimeGrid.build(0.0, _TIMES, dt)
        states = carry_forward(system, start, RungeKutta4(), time_grid)
        truth = np.asarray(jax.vmap(velocity)(jnp.asarray(_TIMES)))
    names = {
        "concentration": "transported scalar",
        "advection_x": "advection velocity along x",
        "advection_y": "advection velocity along y",
    }
    return to_dataset(
        grid,
        _TIMES,
        {"concentration": np.asarray(states["concentration"], np.float32)},
        {"advection_x": truth[:, 0], "advection_y": truth[:, 1]},
        {name: {"units": "1", "long_name": text} for name, text in names.items()},
        attrs={
            "title": "advection-diffusion, velocity that drifts",
            "source": f"impindiff, Runge-Kutta 4, dt {dt:g}, float64, seed {seed}",
            "diffusivity": _DIFFUSIVITY,
        },
    )


ADVECTION_DIFFUSION_DYNAMIC = Case(
    name="advection-diffusion-dynamic",
    summary="advection-diffusion with an unknown velocity that varies in time",
    generate=generate,
    folder="advection_diffusion_dynamic",
    changes={"quick": {"training.stages": [{"optimiser": "lbfgs", "epochs": 100}]}},
)
