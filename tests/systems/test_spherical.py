"""Fields that depend on the distance from a centre: closed forms, orders and conservation."""

from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from gradients import taylor_rates

import impindiff as ipd
from impindiff.integrate import AbstractStepper

CRANK = ipd.CrankNicolson()


def shells(cells: int, lower: float = 0.0, upper: float = 1.0, ratio: float = 1.0) -> ipd.Grid:
    return ipd.Grid([ipd.Axis.graded("r", lower, upper, cells, ratio)], "spherical")


def order(error: Callable[[int], float], cells: int) -> float:
    return float(np.log2(error(cells) / error(2 * cells)))


def mean_error(grid: ipd.Grid, found, exact) -> float:
    return float(np.average(np.abs(np.asarray(found) - exact), weights=grid.cell_volumes()))


def last(
    system: ipd.System, initial, until: float, dt: float, stepper: AbstractStepper = CRANK
) -> np.ndarray:
    times = ipd.TimeGrid.build(0.0, [until], dt)
    found = jax.jit(lambda u: ipd.simulate(system, u, times, stepper))(initial)
    found.check(times)
    return np.asarray(next(iter(found.states.values()))[-1])


@pytest.mark.parametrize("ratio", [pytest.param(1.0, marks=pytest.mark.thorough), 4.0])
def test_heat_through_a_shell_falls_with_the_inverse_of_the_radius(ratio: float):
    """$u = a + b/r$, with 290 at $r = 1$ and 390 at $r = 4$."""

    def error(cells: int) -> float:
        grid = shells(cells, 1.0, 4.0, ratio)
        ends = {"r": (ipd.Dirichlet(290.0), ipd.Dirichlet(390.0))}
        system = ipd.System(grid, {"T": ipd.Field([ipd.Diffusion(0.3)], ends)})
        found, r = ipd.steady(system), grid.axes[0].centres
        assert int(found.outcome.steps) == 1  # banded: one direct solve
        return float(np.abs(found.state["T"] - (290 + 400 / 3 * (1 - 1 / r))).max())

    assert order(error, 16) == pytest.approx(2, abs=0.15)


def test_heat_made_in_a_ball_leaves_by_its_surface():
    r"""$u = u_\infty + \frac{q}{3h} + \frac{q}{6 D}(1 - r^2)$: exact at order 2."""
    spread, transfer, made, outside = 0.4, 1.5, 2.0, 300.0

    def error(cells: int) -> float:
        grid = shells(cells)
        terms = [ipd.Diffusion(spread), ipd.Source(made)]
        ends = {"r": ipd.Robin(transfer, outside)}
        found = ipd.steady(ipd.System(grid, {"T": ipd.Field(terms, ends)})).state["T"]
        r = grid.axes[0].centres
        exact = outside + made / (3 * transfer) + made / (6 * spread) * (1 - r**2)
        return mean_error(grid, found, exact)

    assert order(error, 16) == pytest.approx(2, abs=0.15)
    assert error(64) < 1e-3


def cooled(r: np.ndarray, time: float) -> np.ndarray:
    r"""$u = \sum_n \frac{2 (-1)^{n+1}}{n \pi r} \sin(n \pi r)\,e^{-(n\pi)^2 D t}$, from 1 to 0."""
    n = np.arange(1, 60)[:, None]
    decay = np.exp(-((n * np.pi) ** 2) * 0.1 * time)
    return (2 * (-1.0) ** (n + 1) * np.sinc(n * r) * decay).sum(0)


def test_a_ball_whose_surface_is_held_cools_as_its_series_says():
    def error(cells: int) -> float:
        grid = shells(cells)
        system = ipd.System(grid, {"T": ipd.Field([ipd.Diffusion(0.1)], {"r": ipd.Dirichlet(0.0)})})
        start = {"T": jnp.asarray(cooled(grid.axes[0].centres, 0.2))}
        exact = cooled(grid.axes[0].centres, 1.2)
        return mean_error(grid, last(system, start, 1.0, 0.8 / cells), exact)

    assert order(error, 16) == pytest.approx(2, abs=0.15)
    assert error(32) < 1e-3


def eigenvalue(transfer: float) -> float:
    r"""The first $\mu$ with $\mu \cot\mu = 1 - h/D$, by bisection."""
    low, high = 1e-9, np.pi - 1e-9
    for _ in range(200):
        middle = (low + high) / 2
        is_below = middle / np.tan(middle) > 1 - transfer
        low, high = (middle, high) if is_below else (low, middle)
    return low


def test_a_ball_in_moving_air_cools_by_its_slowest_mode():
    r"""$u = \frac{\sin\mu r}{r}\,e^{-\mu^2 D t}$ with $-D\,u' = h\,u$ at the surface."""
    spread, transfer = 0.2, 0.7
    mu = eigenvalue(transfer / spread)

    def error(cells: int) -> float:
        grid = shells(cells)
        ends = {"r": ipd.Robin(transfer, 0.0)}
        system = ipd.System(grid, {"T": ipd.Field([ipd.Diffusion(spread)], ends)})
        r = grid.axes[0].centres
        mode = np.sin(mu * r) / r
        found = last(system, {"T": jnp.asarray(mode)}, 0.5, 0.4 / cells)
        return mean_error(grid, found, mode * np.exp(-(mu**2) * spread * 0.5))

    assert order(error, 16) == pytest.approx(2, abs=0.15)


@pytest.mark.thorough
@pytest.mark.parametrize("scheme, wanted", [("central", 2), ("limited", 2)])
def test_a_shell_is_carried_outwards(scheme, wanted: float):
    r"""By $v = q/r^2$, without divergence: what is at $r_0$ comes to $(r_0^3 + 3 q t)^{1/3}$."""
    strength, until = 2.0, 1.0

    def profile(r: np.ndarray) -> np.ndarray:
        return np.exp(-(((r - 1.8) / 0.25) ** 2))

    def error(cells: int) -> float:
        grid = shells(cells, 1.0, 4.0)
        flow = ipd.latents.FaceVelocity(strength / grid.axes[0].faces ** 2)
        ends = {"r": (ipd.Inflow(0.0), ipd.Outflow())}
        system = ipd.System(grid, {"c": ipd.Field([ipd.Advection(flow, scheme)], ends)})
        r = grid.axes[0].centres
        start = {"c": jnp.asarray(profile(r))}
        found = last(system, start, until, 1.0 / cells, ipd.steppers.RungeKutta4())
        return mean_error(grid, found, profile(np.cbrt(r**3 - 3 * strength * until)))

    assert order(error, 160) == pytest.approx(wanted, abs=0.25)


@pytest.mark.thorough
@pytest.mark.parametrize("stepper", [ipd.BackwardEuler(), CRANK], ids=["euler", "crank"])
def test_what_a_ball_holds_is_what_it_took_up(stepper):
    grid = shells(20, ratio=3.0)
    ends = {"r": ipd.Robin(0.8, 2.0)}
    system = ipd.System(
        grid,
        {"c": ipd.Field([ipd.Diffusion(lambda c: 0.1 + c)], ends)},
        integrals={"supplied": [ipd.systems.Supply(ipd.systems.FluxOf("c"))]},
        balances={"mass": {"inside": lambda c: c, "supplied": lambda supplied: -supplied}},
    )
    times = ipd.TimeGrid.build(0.0, [0.0, 0.3], 0.05)
    found = ipd.simulate(system, {"c": jnp.zeros(20), "supplied": jnp.zeros(20)}, times, stepper)
    found.check(times)
    (balance,) = ipd.balances(system, found.states, times.saved).values()
    assert balance.changes["inside"][-1] > 0.3 and balance.worst < 1e-13
    closed = ipd.System(grid, {"c": ipd.Field([ipd.Diffusion(0.3)], {"r": ipd.NoFlux()})})
    start = np.random.default_rng(0).uniform(size=20)
    end = last(closed, {"c": jnp.asarray(start)}, 0.2, 0.02, stepper)
    volumes = grid.cell_volumes()
    assert np.ptp(end) < 0.5 * np.ptp(start)
    np.testing.assert_allclose(volumes @ end, volumes @ start, rtol=2e-15)


@pytest.mark.thorough
def test_gradients_through_a_ball_leave_a_second_order_remainder():
    grid = shells(12, ratio=2.0)
    times = ipd.TimeGrid.build(0.0, [0.2], 0.05)

    def loss(parts):
        ends = {"r": ipd.Robin(parts["transfer"], parts["outside"])}
        terms = [ipd.Diffusion(parts["spread"])]
        system = ipd.System(grid, {"c": ipd.Field(terms, ends)})
        found = ipd.simulate(system, {"c": jnp.cos(grid.centres()[0])}, times, CRANK)
        return jnp.sum(grid.cell_volumes() * found.states["c"][-1] ** 2)

    parts = {
        "spread": jnp.full(12, 0.4),
        "transfer": jnp.array(0.6),
        "outside": jnp.array(0.3),
    }
    for name, rate in taylor_rates(loss, parts).items():
        assert rate == pytest.approx(2, abs=0.1), name


@pytest.mark.thorough
@pytest.mark.parametrize(
    "preconditioner",
    [ipd.preconditioners.Jacobi(), ipd.preconditioners.Multigrid(), ipd.preconditioners.Fourier()],
    ids=["jacobi", "multigrid", "fourier"],
)
def test_every_solver_finds_what_the_banded_one_does(preconditioner):
    grid = shells(32, ratio=2.0)
    system = ipd.System(grid, {"c": ipd.Field([ipd.Diffusion(0.5)], {"r": ipd.Dirichlet(1.0)})})
    start = {"c": jnp.zeros(32)}
    krylov = ipd.CrankNicolson(ipd.solvers.Newton(ipd.solvers.BiCGStab(rtol=1e-11)), preconditioner)
    banded = last(system, start, 0.1, 0.02)
    np.testing.assert_allclose(last(system, start, 0.1, 0.02, krylov), banded, atol=1e-9)


def test_instruments_weigh_shells_by_their_volume():
    grid = shells(200)
    r = jnp.asarray(grid.axes[0].centres)
    mean = ipd.observations.VolumeAverage("c", "total").prepare(grid)({"c": r})
    assert float(mean) == pytest.approx(0.75, rel=1e-4)
    ray = ipd.observations.LineAverage("c", "ray", start=[0.0], end=[1.0]).prepare(grid)({"c": r})
    assert float(ray) == pytest.approx(0.5, rel=1e-12)
    sensors = ipd.observations.Sensors("c", "probe", positions=[[0.31]]).prepare(grid)
    assert float(sensors({"c": r})[0]) == pytest.approx(0.31, rel=1e-12)


def test_a_forecast_of_a_ball_lies_along_r():
    grid = shells(8)
    system = ipd.System(grid, {"c": ipd.Field([ipd.Diffusion(0.5)], {"r": ipd.Dirichlet(1.0)})})
    data = ipd.to_dataset(grid, [0.0, 0.1], {"c": np.zeros((1, 2, 8))})
    assert data["c"].dims == ("sample", "time", "r")
    found = ipd.predict(system, data, times=[0.0, 0.1], dt=0.05)
    np.testing.assert_allclose(found["c"][0, -1], last(system, {"c": jnp.zeros(8)}, 0.1, 0.05))
