"""Nonlinear and coupled systems against closed forms."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from smooth import box, wave

from impindiff.grid import Grid
from impindiff.implicit import Newton
from impindiff.integrate import SDIRK2, BackwardEuler, CrankNicolson
from impindiff.linear import BiCGStab, Tridiagonal
from impindiff.rollout import TimeGrid, simulate
from impindiff.systems import Reaction, System
from impindiff.terms import Advection, Diffusion

LINE = Newton(Tridiagonal(), Tridiagonal(), rtol=1e-8)


def run(system: System, initial, times: TimeGrid, stepper=None) -> dict:
    rollout = jax.jit(lambda u: simulate(system, u, times, stepper or CrankNicolson()))
    found = rollout(initial)
    found.check(times)
    return {field: np.asarray(u) for field, u in found.states.items()}


@pytest.mark.thorough
def test_barenblatt_spreads_at_its_order():
    """u_t = (u^2)_xx from a compact start: of second order but for the kink at its front."""

    def exact(x: np.ndarray, time: float) -> np.ndarray:
        return time ** (-1 / 3) * np.maximum(1 - x**2 / (12 * time ** (2 / 3)), 0)

    def errors(num_cells: int) -> np.ndarray:
        grid = Grid.uniform((num_cells,), ((-8, 8),), periodic=True)
        x = grid.axes[0].centres
        system = System(grid, {"u": [Diffusion(lambda u: 2 * u, "arithmetic")]})
        times = TimeGrid.build(1.0, [2.0], 8 / num_cells)
        found = run(system, {"u": jnp.asarray(exact(x, 1.0))}, times, SDIRK2(LINE))["u"][-1]
        assert found.sum() == pytest.approx(exact(x, 1.0).sum(), rel=1e-12)
        # The front has gone from 3.46 to 4.36; beyond it there is nothing.
        assert np.abs(found[np.abs(x) > 5]).max() < 1e-6
        error = np.abs(found - exact(x, 2.0)) * 16 / num_cells
        return np.array([error.sum(), error[np.abs(x) < 3].sum()])

    coarse, middle, fine = errors(80), errors(160), errors(320)
    assert fine[0] < 5e-4
    orders = np.log2([coarse / middle, middle / fine])
    np.testing.assert_allclose(orders[:, 1], 2, atol=0.1)
    assert orders[:, 0].mean() > 1.5


@pytest.mark.thorough
def test_a_fisher_front_runs_at_its_speed():
    """u_t = u_xx + u (1 - u): Ablowitz and Zeppetella's exact front, of speed 5 / sqrt 6."""
    grid = Grid.uniform((400,), ((-40, 40),), periodic=True)
    x = grid.axes[0].centres

    def front(time: float) -> np.ndarray:
        # Out from the middle to both sides, so that the ends match.
        ahead = np.abs(x) - 10 - 5 / 6**0.5 * time
        return (1 + np.exp(ahead / 6**0.5)) ** -2

    system = System(grid, {"u": [Diffusion(1.0), Reaction(lambda u: u * (1 - u))]})
    times = TimeGrid.build(0.0, [4.0, 8.0], 0.05)
    found = run(system, {"u": jnp.asarray(front(0.0))}, times, CrankNicolson(LINE))["u"]

    def position(u: np.ndarray) -> float:
        at = int(np.argmax((u < 0.25) & (x > 0)))
        return x[at - 1] + (u[at - 1] - 0.25) / (u[at - 1] - u[at]) * 0.2

    speed = (position(found[1]) - position(found[0])) / 4
    assert speed == pytest.approx(5 / 6**0.5, rel=2e-3)
    assert np.abs(found[1] - front(8.0)).max() < 5e-3


@pytest.mark.thorough
def test_burgers_by_an_advection_with_half_the_field():
    """u_t + (u^2 / 2)_x = nu u_xx: a travelling wave that keeps its shape."""
    grid = Grid.uniform((256,), ((-8, 8),), periodic=True)
    x = grid.axes[0].centres
    viscosity = 0.4

    def shock(time: float, at: float, sign: float) -> np.ndarray:
        return -np.tanh(sign * (x - at - time) / (2 * viscosity))

    # Up at -4 and down at 4 would be no solution together; only the shock is looked at.
    start = 1 + np.where(x > -4, shock(0.0, 0.0, 1.0), np.tanh((x + 8 - 0.25) / 0.8))
    system = System(grid, {"u": [Advection(lambda u: u / 2, "central"), Diffusion(viscosity)]})
    times = TimeGrid.build(0.0, [1.0], 0.02)
    found = run(system, {"u": jnp.asarray(start)}, times, CrankNicolson(LINE))["u"][-1]
    near = (x > -1.5) & (x < 5)
    np.testing.assert_allclose(found[near], 1 + shock(1.0, 0.0, 1.0)[near], atol=5e-3)


def test_exchange_between_fields_has_its_closed_form():
    """u' = -a u + b v = -v' while both spread alike: the sum diffuses, the difference decays."""
    grid = box(8)
    mode = np.cos(2 * np.pi * np.arange(8) / 8)
    system = System(
        grid,
        {
            "u": [Diffusion(0.05), Reaction(lambda exchange: -exchange)],
            "v": [Diffusion(0.05), Reaction(lambda exchange: exchange)],
        },
        coefficients={"exchange": lambda u, v: 2.0 * u - 1.0 * v},
    )
    decay = 4 * 0.05 / grid.cell_widths[0] ** 2 * np.sin(np.pi / 8) ** 2
    times = TimeGrid.build(0.0, [0.5], 0.01)
    solver = Newton(BiCGStab(1e-8), rtol=1e-8)
    start = {"u": jnp.asarray(1 + 0.5 * mode), "v": jnp.zeros(8)}
    found = run(system, start, times, CrankNicolson(solver))
    total = 1 + 0.5 * mode * np.exp(-decay * 0.5)
    # exchange' = -3 exchange, from 2 u.
    exchange = 2 * np.exp(-1.5) * total
    np.testing.assert_allclose(found["u"][-1], (total + exchange) / 3, atol=1e-4)
    np.testing.assert_allclose(found["u"][-1] + found["v"][-1], total, atol=1e-5)


@pytest.mark.thorough
def test_gray_scott_without_its_autocatalyst_is_linear():
    """v stays zero where it is zero, u relaxes to 1; v alone decays where u is used up."""
    grid = box(6, 5)
    system = System(
        grid,
        {
            "u": [Diffusion(2e-2), Reaction(lambda u, v, feed: -u * v**2 + feed * (1 - u))],
            "v": [Diffusion(1e-2), Reaction(lambda u, v, feed, kill: u * v**2 - (feed + kill) * v)],
        },
        coefficients={"feed": 0.4, "kill": 0.6},
    )
    times = TimeGrid.build(0.0, [1.0], 0.02)
    found = run(system, {"u": jnp.full(grid.shape, 0.3), "v": jnp.zeros(grid.shape)}, times)
    np.testing.assert_array_equal(found["v"][-1], 0)
    np.testing.assert_allclose(found["u"][-1], 1 - 0.7 * np.exp(-0.4), rtol=1e-5)
    # The autocatalyst once: what u loses by it, v gains.
    start = {"u": wave(grid), "v": 0.5 * wave(grid, 1.0)}
    closed = System(
        grid,
        {
            "u": [Diffusion(2e-2), Reaction(lambda u, v: -u * v**2)],
            "v": [Diffusion(1e-2), Reaction(lambda u, v: u * v**2)],
        },
    )
    for stepper in (BackwardEuler(), CrankNicolson()):
        found = run(closed, start, times, stepper)
        total = found["u"][-1].sum() + found["v"][-1].sum()
        assert total == pytest.approx(float(start["u"].sum() + start["v"].sum()), rel=1e-6)
        assert abs(float(found["u"][-1].sum() - start["u"].sum())) > 1
