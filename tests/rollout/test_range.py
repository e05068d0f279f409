"""Fields of numbers that are as small, or as large, as their precision hardly holds."""

import jax.numpy as jnp
import numpy as np
import pytest

from impindiff._errors import NumericsError
from impindiff.data import to_dataset
from impindiff.forecast import predict
from impindiff.grid import Grid
from impindiff.integrate import BackwardEuler, RungeKutta4
from impindiff.rollout import TimeGrid, simulate, simulate_with_rescue
from impindiff.systems import Field, Reaction, System
from impindiff.terms import Diffusion, NoFlux

GRID = Grid.uniform((8,), ((0, 1),))
TIMES = TimeGrid.build(0.0, [0.2], 0.1)
START = 1 + np.cos(2 * GRID.centres()[0])


def begun(unit: float, dtype="float32") -> dict:
    return {"c": jnp.asarray(START * unit, dtype)}


def nonlinear(unit: float) -> System:
    spread = Diffusion(lambda c: 0.05 * (1 + 0.3 * (c / unit) ** 2))
    return System(GRID, {"c": Field([spread], {"x": NoFlux()})})


@pytest.mark.thorough
def test_a_failure_of_numbers_whose_squares_are_lost_says_so():
    for run in (simulate, simulate_with_rescue):
        with pytest.raises(NumericsError, match="of 'c' are as small as .*e-30, and float32"):
            run(nonlinear(1e-30), begun(1e-30), TIMES, BackwardEuler())
    expected = simulate(nonlinear(1.0), begun(1.0), TIMES, BackwardEuler()).states["c"]
    for unit, dtype in ((1e-15, "float32"), (1e-30, "float64")):
        found = simulate(nonlinear(unit), begun(unit, dtype), TIMES, BackwardEuler()).states["c"]
        np.testing.assert_allclose(found / unit, expected, rtol=1e-5)


DECAYING = System(GRID, {"c": [Reaction(lambda c: -c)]})


@pytest.mark.thorough
def test_fields_that_have_hardly_a_digit_are_warned_of():
    with pytest.warns(RuntimeWarning, match="'c' are .*e-36 at most, and in float32 what is below"):
        simulate(DECAYING, begun(1e-36), TIMES, RungeKutta4())
    data = to_dataset(GRID, [0.0], {"c": (START * 1e-36)[None, None].astype(np.float32)})
    with pytest.warns(RuntimeWarning, match="'c' are .*e-36 at most"):
        predict(DECAYING, data, times=[0.2], dt=0.1, stepper=RungeKutta4())


def test_nothing_is_said_where_the_largest_is_large_enough(recwarn):
    for start in (begun(1e-36, "float64"), begun(1e-30), {"c": begun(1e-36)["c"].at[0].set(1)}):
        simulate(DECAYING, start, TIMES, RungeKutta4())
    simulate(DECAYING, {"c": jnp.zeros(8, "float32")}, TIMES, BackwardEuler())
    assert not recwarn.list


@pytest.mark.thorough
@pytest.mark.parametrize("half", [jnp.float16, jnp.bfloat16])
def test_half_precision_is_treated_as_whole_numbers_are(half):
    found = simulate(DECAYING, {"c": jnp.ones(8, half)}, TIMES, BackwardEuler()).states["c"]
    whole = simulate(DECAYING, {"c": jnp.ones(8, int)}, TIMES, BackwardEuler()).states["c"]
    assert found.dtype == whole.dtype
    np.testing.assert_array_equal(found, whole)
