"""Preconditioners where axes end, cells differ and obstacles stand."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from impindiff.grid import Axis, Grid
from impindiff.implicit import Affine
from impindiff.integrate import BackwardEuler
from impindiff.linear import BiCGStab
from impindiff.precondition import Fourier, Line, Multigrid
from impindiff.rollout import TimeGrid, simulate
from impindiff.systems import Field, System
from impindiff.terms import Advection, Diffusion, Dirichlet, Inflow, Neumann, NoFlux, Outflow, Robin

STEP = TimeGrid.build(0.0, np.array([1.0]), 1.0)
ENDS = {"x": (Dirichlet(1.0), Robin(3.0, 0.5)), "y": (Neumann(0.2), Outflow())}


def solve(grid: Grid, terms, ends, preconditioner, rtol: float = 1e-10) -> tuple[np.ndarray, int]:
    """One long step of backward Euler, and how many iterations it took."""
    initial = {"c": jnp.asarray(np.random.default_rng(0).uniform(size=grid.shape))}
    system = System(grid, {"c": Field(terms, ends)})
    stepper = BackwardEuler(Affine(BiCGStab(rtol, max_steps=2000)), preconditioner)
    trajectory = jax.jit(lambda u: simulate(system, u, STEP, stepper))(initial)
    trajectory.check(STEP)
    return np.asarray(trajectory.states["c"][-1]), int(trajectory.outcome.iterations.max())


def with_obstacle(cells: int) -> Grid:
    solid = np.zeros((cells, cells), bool)
    solid[cells // 4 : cells // 2, cells // 4 : 3 * cells // 4] = True
    return Grid([Axis("x", 0, 1, cells), Axis("y", 0, 1, cells)], solid=solid)


GRIDS = {
    "even": lambda n: Grid.uniform((n, n), ((0, 1), (0, 1))),
    "stretched": lambda n: Grid([Axis.graded("x", 0, 1, n, 4.0), Axis.graded("y", 0, 1, n, 0.25)]),
    "ring": lambda n: Grid([Axis.graded("x", 0.1, 1, n, 3.0), Axis("y", 0, 1, n)], "cylindrical"),
    "obstacle": with_obstacle,
}


@pytest.mark.thorough
@pytest.mark.parametrize("name", ["stretched", "ring", "obstacle"])
def test_the_state_does_not_depend_on_the_preconditioner(name: str):
    grid = GRIDS[name](8)
    terms = [Diffusion(0.5), Advection(jnp.array([0.5, -0.2]))]
    plain, _ = solve(grid, terms, ENDS, None, 1e-12)
    for preconditioner in (Fourier(), Line(0), Multigrid()):
        found, _ = solve(grid, terms, ENDS, preconditioner, 1e-12)
        np.testing.assert_allclose(found, plain, rtol=1e-7)


@pytest.mark.thorough
@pytest.mark.parametrize(
    "name, moving",
    [
        pytest.param("even", False, marks=pytest.mark.slow),
        pytest.param("stretched", True, marks=pytest.mark.slow),
        pytest.param("ring", False, marks=pytest.mark.slow),
        ("obstacle", True),
    ],
)
def test_with_multigrid_the_iterations_do_not_grow_with_the_grid(name: str, moving: bool):
    terms = [Diffusion(1.0)]
    if moving:
        terms = [Diffusion(0.02), Advection(jnp.array([1.0, 0.5]))]
    counts = [solve(GRIDS[name](cells), terms, ENDS, Multigrid())[1] for cells in (10, 40)]
    assert counts[1] <= counts[0] + 3 and counts[1] <= 12, counts


@pytest.mark.thorough
@pytest.mark.parametrize(
    "ends",
    [
        {"x": Dirichlet(1.0), "y": NoFlux()},
        {"x": (Neumann(0.3), Dirichlet(0.0)), "y": (Dirichlet(1.0), Outflow())},
        {"x": (Dirichlet(0.0), NoFlux())},
    ],
)
def test_fourier_takes_the_modes_of_the_conditions(ends):
    """Constant coefficients are inverted at once, beside a periodic axis, too."""
    periodic = tuple(name not in ends for name in "xy")
    grid = Grid.uniform((9, 8), ((0, 1), (0, 2)), periodic=periodic)
    assert solve(grid, [Diffusion(3.0)], ends, Fourier())[1] <= 1


@pytest.mark.thorough
def test_fourier_serves_flow_along_a_ring_between_two_ends():
    grid = Grid.uniform((32, 24), ((0, 1), (0, 2)), periodic=(True, False))
    terms = [Diffusion(1.0), Advection(jnp.array([8.0, 0.0]), "central")]
    assert solve(grid, terms, {"y": Dirichlet(0.0)}, Fourier())[1] <= 1
    leaning = [Diffusion(1.0), Advection(jnp.array([8.0, 0.5]))]
    ends = {"y": (Inflow(1.0), Outflow())}
    helped, alone = (solve(grid, leaning, ends, made)[1] for made in (Fourier(), None))
    assert helped * 4 <= alone


@pytest.mark.thorough
@pytest.mark.parametrize("shape", [(40,), (1, 40)])
def test_line_solves_between_two_ends_at_once(shape: tuple[int, ...]):
    grid = Grid.uniform(shape, ((0, 1),) * len(shape))
    ends = {name: (Inflow(1.0), Outflow()) for name in grid.names}
    terms = [Diffusion(0.3), Advection(jnp.full(len(shape), 0.2))]
    assert solve(grid, terms, ends, Line(len(shape) - 1))[1] <= 1
