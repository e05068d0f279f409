"""Advection and diffusion against closed forms, and the recovery of what moved a field."""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from impindiff.grid import Grid
from impindiff.integrate import CrankNicolson
from impindiff.latent import Parameter
from impindiff.rollout import TimeGrid, simulate
from impindiff.systems import advection_diffusion


def run(grid: Grid, velocity, diffusivity, initial, until: float, dt: float):
    system = advection_diffusion(grid, jnp.asarray(velocity), diffusivity, scheme="central")
    times = TimeGrid.build(0.0, np.array([until]), dt)
    rollout = jax.jit(lambda u: simulate(system, {"concentration": u}, times, CrankNicolson()))
    trajectory = rollout(jnp.asarray(initial))
    trajectory.check(times)
    return np.asarray(trajectory.states["concentration"][-1])


def relative(found: np.ndarray, exact: np.ndarray) -> float:
    return float(np.linalg.norm(found - exact) / np.linalg.norm(exact))


def gaussian(grid: Grid, centre, width: float) -> np.ndarray:
    """On the periodic box of sides 1: the sum over its images."""
    profiles = []
    for axis, middle in zip(grid.axes, centre, strict=True):
        distance = axis.centres[:, None] - middle - np.arange(-3, 4)
        profiles.append(np.exp(-(distance**2) / (2 * width**2)).sum(axis=1))
    return profiles[0] if len(profiles) == 1 else np.multiply.outer(*profiles)


@pytest.mark.thorough
@pytest.mark.parametrize("velocity", [(0.7, -0.4), (-1.0, 0.0)])
def test_a_gaussian_is_carried_by_a_uniform_wind(velocity):
    """At the halved cell width and step, a quarter of the error is left."""

    def error(num_cells: int) -> float:
        grid = Grid.uniform((num_cells, num_cells), ((0, 1), (0, 1)), periodic=True)
        before = gaussian(grid, (0.4, 0.6), 0.12)
        after = gaussian(grid, np.array([0.4, 0.6]) + 0.5 * np.array(velocity), 0.12)
        return relative(run(grid, velocity, 0.0, before, 0.5, 0.8 / num_cells), after)

    coarse, fine = error(48), error(96)
    assert fine < 0.05
    assert np.log2(coarse / fine) == pytest.approx(2, abs=0.15)


@pytest.mark.thorough
def test_a_gaussian_spreads_as_the_heat_kernel():
    r"""Its variance grows by $2 D t$ and its height falls with it."""

    def error(num_cells: int) -> float:
        grid = Grid.uniform((num_cells,), ((0, 1),), periodic=True)
        width = np.sqrt(0.05**2 + 2 * 0.02 * 0.3)
        exact = gaussian(grid, (0.5,), width) * 0.05 / width
        found = run(grid, [0.0], 0.02, gaussian(grid, (0.5,), 0.05), 0.3, 0.4 / num_cells)
        return relative(found, exact)

    coarse, fine = error(64), error(128)
    assert fine < 1e-3
    assert np.log2(coarse / fine) == pytest.approx(2, abs=0.15)


@pytest.mark.thorough
def test_a_wave_is_carried_and_decays():
    """In three dimensions, obliquely to the axes."""
    grid = Grid.uniform((24, 20, 16), ((0, 1),) * 3, periodic=True)
    x, y, z = grid.centres()
    velocity, diffusivity, until = np.array([0.5, -0.3, 0.2]), 0.01, 0.25
    wavevector = 2 * np.pi * np.array([1, 1, 1])

    def wave(time: float) -> np.ndarray:
        phase = wavevector @ np.stack([x, y, z]).reshape(3, -1) - wavevector @ velocity * time
        decay = np.exp(-diffusivity * wavevector @ wavevector * time)
        return 1 + decay * np.cos(phase).reshape(grid.shape)

    found = run(grid, velocity, diffusivity, wave(0.0), until, 0.01)
    assert relative(found, wave(until)) < 5e-3


@pytest.mark.thorough
def test_a_diffusivity_is_recovered_by_its_gradient():
    """From one later snapshot of a decaying wave."""
    grid = Grid.uniform((16,), ((0, 1),), periodic=True)
    initial = jnp.asarray(1 + 0.5 * np.cos(2 * np.pi * grid.axes[0].centres))
    times = TimeGrid.build(0.0, np.array([0.2]), 0.02)

    def final(diffusivity):
        system = advection_diffusion(grid, jnp.array([0.3]), diffusivity)
        trajectory = simulate(system, {"concentration": initial}, times, CrankNicolson())
        return trajectory.states["concentration"][-1]

    observed = final(0.03)
    unknown = Parameter("diffusivity", 0.4, (0.0, 0.5))
    optimiser = optax.adam(0.3)

    @jax.jit
    def step(unknown, state):
        gradient = jax.grad(lambda p: jnp.sum((final(p) - observed) ** 2))(unknown)
        update, state = optimiser.update(gradient, state)
        return eqx.apply_updates(unknown, update), state

    state = optimiser.init(eqx.filter(unknown, eqx.is_array))
    for _ in range(150):
        unknown, state = step(unknown, state)
    assert float(unknown.evaluate(grid)) == pytest.approx(0.03, rel=1e-2)
