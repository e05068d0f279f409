"""A field on twelve cells, whose unknown velocity is learned from two samples."""

import jax
import jax.numpy as jnp
import pytest
from small_problem import DIFFUSIVITY, make_dataset

from impindiff.data import grid_of
from impindiff.latent import SineField
from impindiff.systems import System, advection_diffusion
from impindiff.train import Observations


@pytest.fixture
def dataset():
    return make_dataset((12,))


@pytest.fixture
def system(dataset) -> System:
    grid = grid_of(dataset, "concentration")
    velocity = SineField(1, ("advection_x",), width=4, depth=1, key=jax.random.key(0))
    return advection_diffusion(grid, velocity, DIFFUSIVITY)


@pytest.fixture
def observations(dataset, system: System) -> Observations:
    return Observations.of(system, dataset, "0:2", [0.1], jnp.float32)
