"""Arrays of too few axes are refused, also on a grid of as many cells along each axis."""

from typing import Any

import jax.numpy as jnp
import numpy as np
import pytest

from impindiff._errors import InputError
from impindiff.grid import Grid
from impindiff.integrate import CrankNicolson
from impindiff.rollout import TimeGrid, simulate
from impindiff.systems import Field, Reaction, System
from impindiff.terms import Advection, Diffusion, Dirichlet, NoFlux

GRID = Grid.uniform((4, 4), ((0, 1), (0, 1)))
TIMES = TimeGrid.build(0.0, [0.1], 0.1)
ROW = np.arange(4.0) + 1
WALLS = {"x": NoFlux(), "y": NoFlux()}


def run(system: System) -> np.ndarray:
    start = {"c": jnp.ones(GRID.shape)}
    return np.asarray(simulate(system, start, TIMES, CrankNicolson()).states["c"][-1])


@pytest.mark.parametrize("said", ["storage", "capacity", "initial"])
@pytest.mark.parametrize("make", [np.asarray, jnp.asarray, list])
def test_what_is_said_of_a_field_has_a_value_for_each_cell(said, make):
    terms = [Reaction(lambda c: -c)]
    with pytest.raises(InputError, match=r"'c': the array has the shape \(4,\).*lambda x") as told:
        System(GRID, {"c": Field(terms, **{said: make(ROW)})})
    assert "np.broadcast_to(array[:, None], grid.shape)" in str(told.value)
    fine: Any
    for fine in (2.0, np.broadcast_to(ROW[:, None], GRID.shape), lambda x: 1 + x):
        System(GRID, {"c": Field(terms, **{said: fine})})


def reacting(function, **coefficients) -> System:
    return System(GRID, {"c": [Reaction(function)]}, coefficients=coefficients)


@pytest.mark.parametrize("make", [np.asarray, jnp.asarray, list])
def test_a_function_does_not_spread_a_coefficient_over_the_cells(make):
    with pytest.raises(InputError, match=r"<lambda>\(c, q\) in the equation of 'c' spreads the "):
        reacting(lambda c, q: -q * c, q=make(ROW))
    with pytest.raises(InputError, match="in the coefficient 'k' spreads the coefficient 'q'"):
        reacting(lambda c, k: -k * c, q=make(ROW), k=lambda x, q: x * q)


@pytest.mark.thorough
def test_tables_and_named_axes_and_components_stay():
    start = np.ones(GRID.shape)
    whole = run(reacting(lambda c, q: -q * c, q=np.broadcast_to(ROW[:, None], GRID.shape)))
    np.testing.assert_array_equal(run(reacting(lambda c, q: -q[:, None] * c, q=ROW)), whole)
    np.testing.assert_array_equal(run(reacting(lambda c, q: -q[None] * c, q=ROW)), whole.T)
    table = run(reacting(lambda c, q, p: -jnp.interp(c, q, p), q=ROW, p=2 * ROW))
    np.testing.assert_allclose(table, start - 0.2, rtol=1e-12)
    number = run(reacting(lambda c, q: -q[1] + 0 * c, q=ROW))
    np.testing.assert_allclose(number, start - 0.2, rtol=1e-12)
    small = Grid.uniform((2, 2), ((0, 1), (0, 1)))
    carried = Field([Advection(lambda v: v)], WALLS)
    System(small, {"c": carried}, coefficients={"v": np.array([1.0, 2.0])})


@pytest.mark.thorough
def test_a_coefficient_may_have_the_shape_of_a_boundary():
    ends = {"x": (Dirichlet(lambda y, q: q * y), NoFlux()), "y": NoFlux()}
    system = System(GRID, {"c": Field([Diffusion(1.0)], ends)}, coefficients={"q": ROW})
    found = run(system)
    assert np.all(np.diff(found[0]) > 0)
