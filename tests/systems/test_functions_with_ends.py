"""Functions of the state on grids with ends, rings, stretched cells and obstacles."""

import jax.numpy as jnp
import numpy as np
import pytest
from gradients import taylor_rates

from impindiff._errors import InputError
from impindiff.grid import Axis, Grid
from impindiff.implicit import Newton
from impindiff.integrate import BackwardEuler
from impindiff.latent import Parameter
from impindiff.linear import DenseLU
from impindiff.rollout import TimeGrid, consistent, simulate
from impindiff.systems import CorrectedTendency, Field, Reaction, System
from impindiff.terms import (
    Advection,
    Diffusion,
    Dirichlet,
    Flux,
    Neumann,
    NoFlux,
    Outflow,
    Robin,
    Source,
)

DOUBLE = jnp.dtype("float64")
NOW = jnp.array(0.7)
SOLID = np.zeros((5, 4), bool)
SOLID[2, 1:3] = SOLID[4, 0] = True
UNEVEN = [Axis.graded("x", 0.5, 2, 5, 3.0), Axis.from_faces("y", [0, 0.4, 1, 1.5, 1.7])]
GRIDS = {
    "stretched": Grid(UNEVEN),
    "ring": Grid(UNEVEN, "cylindrical"),
    "obstacles": Grid(UNEVEN, solid=SOLID),
}
DIRECT = Newton(DenseLU(), DenseLU(), rtol=1e-12)


def bumps(grid: Grid, seed: int) -> np.ndarray:
    return np.random.default_rng(seed).uniform(0.5, 1.5, grid.shape)


@pytest.mark.thorough
@pytest.mark.parametrize("scheme", ["upwind", "limited"])
@pytest.mark.parametrize("grid", GRIDS.values(), ids=GRIDS)
def test_a_function_of_the_state_is_what_its_values_would_be(grid: Grid, scheme):
    """Conditions included: where none gives a value, a field has that of the cell at the face."""
    u, v = bumps(grid, 0), bumps(grid, 1)
    _, y = grid.centres()
    wind = [Advection(jnp.array([0.4, -0.3]), scheme)]
    functions = System(
        grid,
        {
            "u": Field(
                [Diffusion(lambda u, v: 0.1 + u * v), *wind, Reaction(lambda u, v: v - u**2)],
                {"x": (Neumann(lambda t, y: t + y), Outflow()), "y": Flux(lambda v: v**2)},
            ),
            "v": Field(
                [Diffusion(lambda k, v: k + v, mean="arithmetic")],
                {"x": (Flux(lambda x: x), Flux(lambda v, k: v**3 * k)), "y": NoFlux()},
            ),
        },
        coefficients={"k": Parameter("k", 0.3, (0.0, 1.0))},
    )
    values = System(
        grid,
        {
            "u": Field(
                [Diffusion(0.1 + u * v, mean="arithmetic"), *wind, Source(v - u**2)],
                {
                    "x": (Neumann(0.7 + y[0]), Outflow()),
                    "y": (Flux(v[:, 0] ** 2), Flux(v[:, -1] ** 2)),
                },
            ),
            "v": Field(
                [Diffusion(0.3 + v, mean="arithmetic")],
                {"x": (Flux(0.5), Flux(0.3 * v[-1] ** 3)), "y": NoFlux()},
            ),
        },
    )
    state = {"u": jnp.asarray(u), "v": jnp.asarray(v)}
    assert isinstance(values.prepare(DOUBLE).at(NOW), CorrectedTendency) == (scheme == "limited")
    expected = values.prepare(DOUBLE).at(NOW)(state)
    for field, found in functions.prepare(DOUBLE).at(NOW)(state).items():
        np.testing.assert_allclose(found, expected[field], rtol=1e-6, atol=1e-6)


@pytest.mark.slow
def test_a_pressure_flows_around_an_obstacle_and_leaves_it_alone():
    """Quasi-steady, with no equation in solid cells: what the start says there, it stays."""
    grid = GRIDS["obstacles"]
    system = System(
        grid,
        {
            "p": Field(
                [Diffusion(lambda c: 1 + c)],
                {"x": (Dirichlet(1.0), Dirichlet(0.0)), "y": NoFlux()},
                storage=0,
            ),
            "c": [Reaction(lambda c, p: -0.1 * c * p)],
        },
    )
    state = {"p": jnp.full(grid.shape, 0.25), "c": jnp.asarray(bumps(grid, 2))}
    start, outcome = consistent(system, state, solver=DIRECT)
    assert bool(outcome.converged)
    times = TimeGrid.build(0.0, [1.0], 0.25)
    found = simulate(system, start, times, BackwardEuler(DIRECT))
    found.check(times)
    for fields in (start, {name: values[-1] for name, values in found.states.items()}):
        np.testing.assert_allclose(np.asarray(fields["p"])[SOLID], 0.25, rtol=1e-12)
        rates = system.prepare(DOUBLE).at(jnp.zeros(()))(fields)
        assert np.abs(rates["p"]).max() < 1e-9
    free = np.asarray(start["p"])[~SOLID]
    assert 0 < free.min() < 0.2 and 0.8 < free.max() < 1
    np.testing.assert_array_equal(np.asarray(found.states["c"][-1])[SOLID], state["c"][SOLID])


@pytest.mark.slow
def test_gradients_pass_through_conditions_that_depend_on_the_state():
    grid = Grid.uniform((6,), ((0, 1),))
    hot = {"T": jnp.linspace(1.0, 2.0, 6)}
    times = TimeGrid.build(0.0, [0.5], 0.1)

    def loss(coefficients):
        system = System(
            grid,
            {
                "T": Field(
                    [Diffusion(lambda T, k: k * T)],
                    {"x": (Robin(lambda T, h: h * T**3, 0.2), NoFlux())},
                )
            },
            coefficients=coefficients,
        )
        last = simulate(system, hot, times, BackwardEuler(DIRECT)).states["T"][-1]
        return jnp.sum(last**2)

    orders = taylor_rates(loss, {"k": jnp.array(0.3), "h": jnp.array(0.8)})
    np.testing.assert_allclose(list(orders.values()), 2, atol=0.1)


def test_a_function_in_a_condition_must_be_of_what_there_is():
    grid = Grid.uniform((4,), ((0, 1),))
    with pytest.raises(InputError, match="the boundary conditions of 'c' asks for 'q'"):
        System(grid, {"c": Field([Diffusion(1.0)], {"x": Dirichlet(lambda q: q)})})
    with pytest.raises(InputError, match="a system without a grid has none"):
        System(None, {"c": Field([Source(1.0)], {"x": NoFlux()})})
