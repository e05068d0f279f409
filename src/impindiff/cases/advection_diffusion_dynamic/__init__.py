"""Advection-diffusion with an unknown velocity that varies in time (arXiv 2504.02260, sec. 3)."""

import jax
import jax.numpy as jnp
import numpy as np
import xarray as xr

from impindiff.cases._case import Case, check_request
from impindiff.cases._drift import Drift
from impindiff.cases._random_fields import gaussian_process
from impindiff.cases._transport import CORRELATION_LENGTH, box, transported

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
    grid = box()
    rng = np.random.default_rng(seed)
    along = [Drift.draw(grid, count, 3, _MAX_RATE, _TIMES, rng) for count in (30, 15)]
    initial = gaussian_process(grid, samples, CORRELATION_LENGTH, rng)

    def velocity(t):
        return jnp.stack([drift(t) for drift in along])

    with jax.enable_x64(True):
        values = np.asarray(jax.vmap(velocity)(jnp.asarray(_TIMES)))
    truth, title = (values[:, 0], values[:, 1]), "advection-diffusion, velocity that drifts"
    return transported(velocity, truth, initial, _TIMES, dt, title, seed)


ADVECTION_DIFFUSION_DYNAMIC = Case(
    name="advection-diffusion-dynamic",
    summary="advection-diffusion with an unknown velocity that varies in time",
    generate=generate,
    folder="advection_diffusion_dynamic",
    changes={"quick": {"training.stages": [{"optimiser": "lbfgs", "epochs": 100}]}},
)
