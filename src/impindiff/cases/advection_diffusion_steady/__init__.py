"""Advection-diffusion whose steady velocity is unknown (arXiv 2504.02260, section 3.1)."""

import numpy as np
import xarray as xr

from impindiff.cases._case import Case, check_request
from impindiff.cases._random_fields import gaussian_process, sine_waves
from impindiff.cases._transport import CORRELATION_LENGTH, box, transported

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
    grid = box()
    rng = np.random.default_rng(seed)
    velocity = np.stack([sine_waves(grid, 30, 3, rng), sine_waves(grid, 15, 3, rng)])
    initial = gaussian_process(grid, samples, CORRELATION_LENGTH, rng)
    truth, title = (velocity[0], velocity[1]), "advection-diffusion, steady velocity"
    return transported(velocity, truth, initial, _TIMES, dt, title, seed)


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
