"""A field carried by the flux of another."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from impindiff._errors import InputError
from impindiff.grid import Axis, Grid
from impindiff.implicit import Newton
from impindiff.integrate import BackwardEuler
from impindiff.latent import Parameter
from impindiff.linear import DenseLU
from impindiff.rollout import TimeGrid, consistent, simulate
from impindiff.systems import Field, FluxOf, Reaction, System
from impindiff.terms import Advection, Diffusion, Dirichlet, Inflow, NoFlux, Outflow, Source

DOUBLE = jnp.dtype("float64")
NOW = jnp.zeros(())
DIRECT = Newton(DenseLU(), DenseLU(), rtol=1e-13)
SOLID = np.zeros((6, 5), bool)
SOLID[2:4, 2] = True
UNEVEN = [Axis.graded("x", 0.5, 2, 6, 3.0), Axis.from_faces("y", [0, 0.4, 1, 1.5, 1.7, 2])]
GRIDS = {
    "even": Grid.uniform((6, 5), ((0, 1), (0, 1))),
    "obstacle": Grid(UNEVEN, solid=SOLID),
    "ring": Grid(UNEVEN, "cylindrical"),
    "channel": Grid.uniform((6, 5), ((0, 1), (0, 1)), periodic=(False, True)),
}


def flow(grid: Grid, scheme: Any) -> System:
    permeability = np.random.default_rng(0).uniform(0.5, 2.0, grid.shape)
    walls = {} if grid.axes[1].periodic else {"y": NoFlux()}
    held, through = (Dirichlet(1.0), Dirichlet(0.0)), (Inflow(1.0), Outflow())
    carried = [Advection(FluxOf("p"), scheme), Source(0.0)]
    return System(
        grid,
        {
            "p": Field([Diffusion(permeability)], {"x": held, **walls}, storage=0),
            "c": Field(carried, {"x": through, **walls}),
        },
    )


@pytest.mark.thorough
@pytest.mark.parametrize(
    "scheme", ["upwind", pytest.param("central", marks=pytest.mark.slow), "limited"]
)
@pytest.mark.parametrize("grid", GRIDS.values(), ids=GRIDS)
def test_what_is_carried_evenly_stays_even(grid: Grid, scheme):
    """The flux of a quasi-steady pressure has no divergence, to the solver's round-off."""
    system = flow(grid, scheme)
    state = {"p": jnp.zeros(grid.shape), "c": jnp.ones(grid.shape)}
    state, outcome = consistent(system, state, solver=DIRECT)
    assert bool(outcome.converged)
    rates = system.prepare(DOUBLE).at(NOW)(state)
    assert np.abs(rates["c"]).max() < 1e-11
    uneven = state | {"c": jnp.asarray(np.random.default_rng(1).uniform(size=grid.shape))}
    assert np.abs(system.prepare(DOUBLE).at(NOW)(uneven)["c"]).max() > 0.1


@pytest.mark.thorough
def test_a_row_of_layers_lets_pass_what_their_resistances_say():
    r"""In one dimension the flux is $1 / \sum \Delta x / k$, and a front moves at that speed."""
    grid = Grid.uniform((4,), ((0, 1),))
    layers = np.array([1.0, 4.0, 0.5, 2.0])
    system = System(
        grid,
        {
            "p": Field([Diffusion(layers)], {"x": (Dirichlet(1.0), Dirichlet(0.0))}, storage=0),
            "c": Field([Advection(FluxOf("p"))], {"x": (Inflow(0.0), Outflow())}),
        },
    )
    state = {"p": jnp.zeros(4), "c": jnp.array([1.0, 0.0, 0.0, 0.0])}
    state, _ = consistent(system, state, solver=DIRECT)
    rate = system.prepare(DOUBLE).at(NOW)(state)["c"]
    # At outer faces what the two cells before them lead to, at most twice and at least half.
    ends = np.array([0.5, 2.0 + 0.75])
    resistance = 0.125 / ends
    inner = [0.125 / a + 0.125 / b for a, b in zip(layers, layers[1:], strict=False)]
    speed = 1 / (sum(inner) + resistance.sum())
    np.testing.assert_allclose(rate, [-4 * speed, 4 * speed, 0, 0], rtol=1e-9, atol=1e-11)


@pytest.mark.slow
def test_it_is_learned_like_anything_else():
    """The permeability moves the front: its gradient is that of differences."""
    grid = Grid.uniform((8,), ((0, 1),))
    times = TimeGrid.build(0.0, [0.2], 0.05)

    def last(log_k):
        system = System(
            grid,
            {
                "p": Field(
                    [Diffusion(lambda c, k: k * (1 + c))],
                    {"x": (Dirichlet(1.0), Dirichlet(0.0))},
                    storage=0,
                ),
                "c": Field([Advection(FluxOf("p"))], {"x": (Inflow(1.0), Outflow())}),
            },
            coefficients={"k": jnp.exp(log_k)},
        )
        state = {"p": jnp.linspace(1, 0, 8), "c": jnp.zeros(8)}
        return simulate(system, state, times, BackwardEuler(DIRECT)).states["c"][-1].sum()

    slope = jax.grad(last)(jnp.array(0.3))
    difference = (last(jnp.array(0.3 + 1e-4)) - last(jnp.array(0.3 - 1e-4))) / 2e-4
    assert float(slope) == pytest.approx(float(difference), rel=1e-6) and abs(slope) > 0.1


def test_a_field_that_moves_nothing_has_no_flux():
    grid = Grid.uniform((8,), ((0, 1),))
    k = Parameter("k", 1.0, (0.0, 2.0))
    with pytest.raises(InputError, match="FluxOf.'p'. in the equation of 'c': nothing moves 'p'"):
        System(
            grid,
            {
                "p": [Reaction(lambda p, k: k * p, k=k)],
                "c": Field([Advection(FluxOf("p"))], {"x": NoFlux()}),
            },
        )
