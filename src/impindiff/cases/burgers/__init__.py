"""Burgers' equation whose diffusivity is unknown (arXiv 2504.02260, section 3)."""

from collections.abc import Callable
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import xarray as xr

from impindiff.cases._case import Case, check_request
from impindiff.cases._drift import Drift
from impindiff.cases._random_fields import gaussian_process, sine_waves
from impindiff.data import to_dataset
from impindiff.forecast import carry_forward
from impindiff.grid import Grid
from impindiff.integrate import RungeKutta4
from impindiff.rollout import TimeGrid
from impindiff.systems import System
from impindiff.terms import Advection, Diffusion

_LEAST, _MOST = 1e-3, 1e-2
_CORRELATION_LENGTH = 0.12
_MAX_RATE = 0.1
_TIMES = np.linspace(0, 1, 21)
_NAMES = {
    "velocity": "velocity along each axis",
    "velocity_x": "velocity along x",
    "velocity_y": "velocity along y",
    "diffusivity": "diffusivity",
}
_SCALAR = Advection(lambda velocity: (velocity / 2, velocity / 2), "central")
_VECTOR = Advection(
    lambda velocity_x, velocity_y: (velocity_x, velocity_y), "central", form="advective"
)


def generate(samples: int = 10, seed: int = 0, dt: float = 2.5e-3) -> xr.Dataset:
    """Make the data of the paper's setting with a steady diffusivity.

    128 x 64 periodic cells, smooth random initial fields; the diffusivity is a sum of sine waves,
    scaled to [1e-3, 1e-2]. Solved in float64 by the classical Runge-Kutta method; fields are stored
    in float32.

    Args:
        samples: number of initial fields.
        seed: of the diffusivity and the initial fields. The first samples are the same for any
            number of them.
        dt: time step.

    Raises: InputError for fewer than one sample or a negative seed.
    """
    check_request(samples, seed)
    grid, rng = _grid(), np.random.default_rng(seed)
    diffusivity = _scaled(sine_waves(grid, 20, 3, rng))
    initial = {"velocity": gaussian_process(grid, samples, _CORRELATION_LENGTH, rng)}
    return _solved(grid, initial, _SCALAR, diffusivity, diffusivity, seed, dt)


def generate_varying(samples: int = 10, seed: int = 0, dt: float = 2.5e-3) -> xr.Dataset:
    """The same with a diffusivity that varies in time; see `generate`.

    Each of its waves drifts at a rate of its own, at most 0.1 turns in a unit of time.
    """
    check_request(samples, seed)
    grid, rng = _grid(), np.random.default_rng(seed)
    drift = Drift.draw(grid, 20, 3, _MAX_RATE, _TIMES, rng)
    with jax.enable_x64(True):
        truth = np.stack([_scaled(np.asarray(drift(time))) for time in _TIMES])
    initial = {"velocity": gaussian_process(grid, samples, _CORRELATION_LENGTH, rng)}
    return _solved(grid, initial, _SCALAR, lambda t: _scaled(drift(t)), truth, seed, dt)


def generate_vector(samples: int = 10, seed: int = 0, dt: float = 2.5e-3) -> xr.Dataset:
    """The same for a velocity of two components, each from an initial field of its own."""
    check_request(samples, seed)
    grid, rng = _grid(), np.random.default_rng(seed)
    diffusivity = _scaled(sine_waves(grid, 20, 3, rng))
    # A pair for each sample in turn: the first samples are the same for any number of them.
    fields = gaussian_process(grid, 2 * samples, _CORRELATION_LENGTH, rng)
    initial = {"velocity_x": fields[::2], "velocity_y": fields[1::2]}
    return _solved(grid, initial, _VECTOR, diffusivity, diffusivity, seed, dt)


def _grid() -> Grid:
    return Grid.uniform((128, 64), ((-1.0, 1.0), (0.0, 1.0)), periodic=True)


def _scaled(unit: Any) -> Any:
    return _LEAST + (_MOST - _LEAST) * unit


def _solved(
    grid: Grid,
    initial: dict[str, np.ndarray],
    carry: Advection,
    diffusivity: np.ndarray | Callable[..., Any],
    truth: np.ndarray,
    seed: int,
    dt: float,
) -> xr.Dataset:
    with jax.enable_x64(True):
        system = System(grid, dict.fromkeys(initial, [carry, Diffusion(diffusivity)]))
        start = {field: jnp.asarray(value) for field, value in initial.items()}
        time_grid = TimeGrid.build(0.0, _TIMES, dt)
        states = carry_forward(system, start, RungeKutta4(), time_grid)
    return to_dataset(
        grid,
        _TIMES,
        {field: np.asarray(value, np.float32) for field, value in states.items()},
        {"diffusivity": truth},
        {name: {"units": "1", "long_name": _NAMES[name]} for name in (*initial, "diffusivity")},
        attrs={
            "title": "Burgers' equation",
            "source": f"impindiff, Runge-Kutta 4, dt {dt:g}, float64, seed {seed}",
        },
    )


_case = partial(
    Case,
    folder="burgers",
    changes={"quick": {"training.stages": [{"optimiser": "lbfgs", "epochs": 40}]}},
)

BURGERS_STEADY = _case(
    name="burgers-steady",
    summary="Burgers' equation with an unknown diffusivity",
    generate=generate,
    config_file="steady.toml",
)

BURGERS_DYNAMIC = _case(
    name="burgers-dynamic",
    summary="Burgers' equation with an unknown diffusivity that varies in time",
    generate=generate_varying,
    config_file="dynamic.toml",
)

BURGERS_VECTOR = _case(
    name="burgers-vector",
    summary="Burgers' equation of two velocity components with an unknown diffusivity",
    generate=generate_vector,
    config_file="vector.toml",
)
