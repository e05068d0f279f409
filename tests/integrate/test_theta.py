"""The theta scheme: exact amplification, behaviour at long steps, and what it refuses."""

import equinox as eqx
import jax.numpy as jnp
import numpy as np
import pytest
from smooth import box, wave

from impindiff._errors import InputError
from impindiff.grid import Grid
from impindiff.implicit import Affine
from impindiff.integrate import (
    SDIRK2,
    BackwardEuler,
    CrankNicolson,
    ForwardEuler,
    RungeKutta4,
    Theta,
)
from impindiff.linear import BiCGStab
from impindiff.systems import System, advection_diffusion
from impindiff.terms import AbstractTerm, Diffusion

TIGHT = Affine(BiCGStab(1e-14), BiCGStab(1e-14))


@eqx.filter_jit
def advance(stepper, system: System, state, dt):
    return stepper.step(system.prepare(jnp.dtype("float64")), jnp.zeros(()), dt, state)


def step(stepper, system: System, state, dt: float):
    return advance(stepper, system, state, jnp.asarray(dt))


@pytest.mark.many
@pytest.mark.parametrize("dt", [1e-3, 0.3, 30.0])
@pytest.mark.parametrize("theta", [0.5, 0.75, 1.0])
@pytest.mark.parametrize("wavenumbers", [(1, 0), (3, 2), (8, 5)])
def test_a_wave_decays_by_the_amplification_factor(wavenumbers, theta: float, dt: float):
    grid = box(16, 10)
    x, y = np.meshgrid(np.arange(16) / 16, np.arange(10) / 10, indexing="ij")
    mode = np.cos(2 * np.pi * (wavenumbers[0] * x + wavenumbers[1] * y))
    symbol = sum(
        -4 * 0.7 / width**2 * np.sin(np.pi * k / n) ** 2
        for k, n, width in zip(wavenumbers, grid.shape, grid.cell_widths, strict=True)
    )
    factor = (1 + (1 - theta) * dt * symbol) / (1 - theta * dt * symbol)
    system = System(grid, {"c": [Diffusion(0.7)]})
    # At the longest step the guess is off by 2e4, and its round-off by 4e-12.
    solver = Affine(BiCGStab(1e-10))
    state, outcome = step(Theta(theta, solver), system, {"c": jnp.asarray(mode)}, dt)
    assert bool(outcome.converged)
    np.testing.assert_allclose(state["c"], factor * mode, atol=1e-9)


@pytest.mark.many
@pytest.mark.parametrize("num_cells", [2, 3, 16])
@pytest.mark.parametrize("dt", [0.01, 1.0])
def test_a_wave_is_carried_by_central_differences_and_keeps_its_height(num_cells: int, dt: float):
    """Crank-Nicolson of a skew-symmetric system turns the phase, and nothing else."""
    grid = Grid.uniform((num_cells,), ((0, 1),), periodic=True)
    phase = 2 * np.pi * np.arange(num_cells) / num_cells
    frequency = -1j * 0.6 * np.sin(2 * np.pi / num_cells) * num_cells
    factor = (1 + dt / 2 * frequency) / (1 - dt / 2 * frequency)
    assert abs(factor) == pytest.approx(1)
    system = advection_diffusion(grid, jnp.array([0.6]), 0.0, scheme="central")
    initial = {"concentration": jnp.cos(phase)}
    state, outcome = step(CrankNicolson(TIGHT), system, initial, dt)
    assert bool(outcome.converged)
    np.testing.assert_allclose(
        state["concentration"], (factor * np.exp(1j * phase)).real, atol=1e-12
    )


def test_long_steps_level_under_l_stable_methods_and_ring_under_crank_nicolson():
    grid = Grid.uniform((8,), ((0, 1),), periodic=True)
    alternating = {"c": jnp.asarray(1 + 0.5 * (-1.0) ** np.arange(8))}
    system = System(grid, {"c": [Diffusion(1.0)]})
    for stepper in (BackwardEuler(TIGHT), SDIRK2(TIGHT)):
        levelled, _ = step(stepper, system, alternating, 1e6)
        np.testing.assert_allclose(levelled["c"], 1, atol=1e-6)
    rung, _ = step(CrankNicolson(TIGHT), system, alternating, 1e6)
    np.testing.assert_allclose(rung["c"], 2 - alternating["c"], atol=1e-6)


def test_upwind_backward_euler_makes_no_new_extremes():
    """At a Courant number of 20."""
    grid = box(20, 6)
    block = jnp.zeros(grid.shape).at[5:9, 2:4].set(1.0)
    system = advection_diffusion(grid, jnp.array([1.0, -0.5]), 0.0)
    state, _ = step(BackwardEuler(TIGHT), system, {"concentration": block}, 1.0)
    assert float(state["concentration"].min()) > -1e-12
    assert float(state["concentration"].max()) < 1


def test_the_named_schemes_are_theta_schemes():
    assert BackwardEuler() == Theta(1.0) and CrankNicolson() == Theta(0.5)


@pytest.mark.parametrize("theta", [-1.0, 0.0, 0.49, 1.01, float("nan")])
def test_schemes_that_are_not_stable_are_refused(theta: float):
    with pytest.raises(ValueError, match=r"must lie in \[0.5, 1\].*ForwardEuler"):
        Theta(theta)


class Quadratic(AbstractTerm):
    """A term that no linear solve can take."""


def test_a_system_that_is_not_affine_is_refused():
    grid = box(4)
    dynamics = System(grid, {"c": [Diffusion(0.1), Quadratic()]})
    prepared = System(grid, {"c": [Diffusion(0.1)]}).prepare(jnp.dtype("float64"))
    for stepper in (Theta(), ForwardEuler(), RungeKutta4()):
        stepper.check(prepared)
    with pytest.raises(InputError, match="Quadratic is neither a two-point flux nor a source"):
        dynamics.prepare(jnp.dtype("float64"))


@pytest.mark.thorough
def test_a_solve_that_fails_says_so():
    grid = box(16, 10)
    system = System(grid, {"c": [Diffusion(1.0)]})
    hasty = CrankNicolson(Affine(BiCGStab(1e-12, max_steps=2)))
    rough = {"c": wave(grid) ** 9}
    _, outcome = step(hasty, system, rough, 1.0)
    assert not bool(outcome.converged) and int(outcome.iterations) == 2
    _, outcome = step(CrankNicolson(), system, {"c": rough["c"].at[3, 3].set(jnp.inf)}, 1.0)
    assert not bool(outcome.converged)
