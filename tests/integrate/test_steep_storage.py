"""A storage whose slope is infinite where nothing is stored yet."""

from typing import Any

import jax.numpy as jnp
import numpy as np
import pytest
from scipy.integrate import solve_ivp

import impindiff as ipd

CELLS, SPEED, SPREAD, UNTIL = 40, 0.5, 0.01, 0.5


def of_amounts() -> float:
    """The mean concentration, by an explicit method for what is stored on the same cells."""
    table = np.concatenate([[0.0], np.geomspace(1e-14, 1.2, 4000)])
    stored = table + 0.5 * table**0.7
    width = 1 / CELLS

    def rate(_, amount):
        c = np.interp(amount, stored, table)
        into = np.concatenate(
            [[SPEED], SPEED * c[:-1] - SPREAD * np.diff(c) / width, [SPEED * c[-1]]]
        )
        return -np.diff(into) / width

    found = solve_ivp(rate, (0, UNTIL), np.zeros(CELLS), method="LSODA", rtol=1e-7, atol=1e-10)
    return float(np.interp(found.y[:, -1], stored, table).mean())


def clean_column(start: float, stepper: ipd.steppers.AbstractStepper, dtype: Any) -> np.ndarray:
    """Freundlich's law, $q = c + c^{0.7}/2$: the concentrations at the end."""
    grid = ipd.Grid.uniform((CELLS,), ((0, 1),))
    terms = [ipd.Advection(np.array([SPEED])), ipd.Diffusion(SPREAD)]
    ends = {"x": (ipd.Inflow(1.0), ipd.Outflow())}
    system = ipd.System(grid, {"c": ipd.Field(terms, ends, storage=lambda c: c + 0.5 * c**0.7)})
    times = ipd.TimeGrid.build(0.0, np.array([UNTIL]), 0.02)
    found = ipd.simulate(system, {"c": jnp.full(CELLS, start, dtype)}, times, stepper)
    return np.asarray(found.states["c"][-1])


@pytest.mark.thorough
@pytest.mark.parametrize("start", [0.0, 1e-6])
def test_sorption_into_a_clean_column_with_nothing_chosen(start):
    """Backward Euler errs by the order of its step."""
    found = clean_column(start, ipd.BackwardEuler(), jnp.float64)
    assert found.mean() == pytest.approx(of_amounts(), rel=1e-2)
    assert found.min() >= 0


@pytest.mark.thorough
@pytest.mark.parametrize("dtype", [jnp.float32, jnp.float64])
def test_two_stages_go_through_cells_that_stay_clean(dtype):
    """Far ahead of the front concentrations are zero to the last digit, in single precision."""
    found = clean_column(0.0, ipd.steppers.SDIRK2(), dtype)
    assert found.mean() == pytest.approx(of_amounts(), rel=1e-3)
    assert found.min() >= 0


@pytest.mark.thorough
@pytest.mark.parametrize("power", [0.7, 0.5])
@pytest.mark.parametrize("make", [ipd.BackwardEuler, ipd.CrankNicolson, ipd.steppers.SDIRK2])
def test_all_that_enters_a_clean_column_is_stored_in_double_precision(make, power: float):
    """Nothing reaches the outlet, so that speed times time is stored, to the solver's tolerance."""
    grid = ipd.Grid.uniform((CELLS,), ((0, 1),))
    terms = [ipd.Advection(np.array([SPEED])), ipd.Diffusion(SPREAD)]
    ends = {"x": (ipd.Inflow(1.0), ipd.Outflow())}
    system = ipd.System(grid, {"c": ipd.Field(terms, ends, storage=lambda c: c + c**power)})
    times = ipd.TimeGrid.build(0.0, np.array([0.2]), 0.02)
    start = {"c": jnp.zeros(CELLS, jnp.float64)}
    found = np.asarray(ipd.simulate(system, start, times, make()).states["c"][-1])
    assert (found + found**power).mean() == pytest.approx(SPEED * 0.2, rel=1e-8)
    assert found.min() >= 0
