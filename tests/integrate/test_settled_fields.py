"""A field that has settled does not hide from a coupled step what it drives."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from impindiff.boundaries import Dirichlet, Inflow, NoFlux, Outflow
from impindiff.grid import Grid
from impindiff.implicit import Newton
from impindiff.integrate import BackwardEuler
from impindiff.linear import BiCGStab
from impindiff.rollout import TimeGrid, simulate
from impindiff.systems import Field, FluxOf, System
from impindiff.terms import Advection, Diffusion

CELLS, LENGTH, DT, STEPS = (10, 8), (1.5, 1.0), 0.05, 6
POROSITY, SPREAD = 0.25, 2e-3


GRID = Grid.uniform(CELLS, ((0.0, LENGTH[0]), (0.0, LENGTH[1])))


def in_cells() -> np.ndarray:
    """The permeability: alike in two cells at each end, so that no rule for the end matters."""
    x, y = map(np.asarray, GRID.centres())
    k = np.exp(0.4 * np.sin(4 * x + 1) * np.cos(3 * y))
    k[0], k[-1] = k[1], k[-2]
    return k


def flow(storage: float) -> System:
    """A tracer in water that flows between two rivers; its pressure settles at once."""
    tracer = [Advection(FluxOf("p"), "upwind"), Diffusion(SPREAD)]
    return System(
        GRID,
        {
            "p": Field(
                [Diffusion(in_cells())],
                {"x": (Dirichlet(1.0), Dirichlet(0.0)), "y": NoFlux()},
                storage=storage,
                initial=lambda x: 1 - x / LENGTH[0],
            ),
            "c": Field(
                tracer,
                {"x": (Inflow(1.0), Outflow()), "y": NoFlux()},
                storage=POROSITY,
                initial=0.0,
            ),
        },
    )


def by_matrices() -> tuple[np.ndarray, np.ndarray]:
    """The settled pressure, and the tracer after the steps, from matrices of our own."""
    (nx, ny), (lx, ly) = CELLS, LENGTH
    dx, dy = lx / nx, ly / ny
    k = np.asarray(in_cells())
    at = np.arange(nx * ny).reshape(nx, ny)
    pairs = [(at[:-1], at[1:], dx), (at[:, :-1], at[:, 1:], dy)]
    pairs = [(a.ravel(), b.ravel(), width) for a, b, width in pairs]
    k, n = k.ravel(), nx * ny

    a, rhs = np.zeros((n, n)), np.zeros(n)
    for one, other, width in pairs:
        through = 2 / (1 / k[one] + 1 / k[other]) / width**2
        np.add.at(a, (one, one), through)
        np.add.at(a, (other, other), through)
        a[one, other] -= through
        a[other, one] -= through
    first, last = at[0], at[-1]
    for end, value in ((first, 1.0), (last, 0.0)):
        a[end, end] += 2 * k[end] / dx**2
        rhs[end] += 2 * k[end] / dx**2 * value
    p = np.linalg.solve(a, rhs)

    m, inflow = np.zeros((n, n)), np.zeros(n)
    for one, other, width in pairs:
        q = 2 / (1 / k[one] + 1 / k[other]) * (p[one] - p[other]) / width
        out, back = np.maximum(q, 0) + SPREAD / width, np.minimum(q, 0) - SPREAD / width
        for cell, sign in ((one, -1.0), (other, 1.0)):
            np.add.at(m, (cell, one), sign * out / width)
            np.add.at(m, (cell, other), sign * back / width)
    entering = 2 * k[first] * (1 - p[first]) / dx
    inflow[first] += entering / dx
    m[last, last] -= 2 * k[last] * p[last] / dx / dx
    c = np.zeros(n)
    step = POROSITY * np.eye(n) - DT * m
    for _ in range(STEPS):
        c = np.linalg.solve(step, POROSITY * c + DT * inflow)
    return p.reshape(CELLS), c.reshape(CELLS)


@pytest.mark.parametrize("storage", [0, pytest.param(1e-12, marks=pytest.mark.thorough)])
@pytest.mark.parametrize(
    "dtype, tolerance",
    [(jnp.float64, 1e-8), pytest.param(jnp.float32, 2e-4, marks=pytest.mark.thorough)],
)
def test_what_a_settled_pressure_carries_is_solved(storage: float, dtype, tolerance: float):
    system = flow(storage)
    p, c = by_matrices()
    start = system.start(0.0, jnp.dtype(dtype))
    stepper = BackwardEuler(Newton(BiCGStab()))
    steps = TimeGrid.build(0.0, np.array([STEPS * DT]), DT)
    found = jax.jit(lambda u: simulate(system, u, steps, stepper))(start)
    found.check(steps)
    np.testing.assert_allclose(found.states["p"][-1], p, atol=tolerance)
    np.testing.assert_allclose(found.states["c"][-1], c, atol=tolerance)
