"""Rollouts warn of a carrying field whose differences float32 hardly resolves."""

import warnings

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import impindiff as ipd


def messages(reference: float, dtype: str = "float32", drop: float = 1.0) -> list[str]:
    """Darcy's law along a row of fifty cells, the pressure counted from below a reference."""
    grid = ipd.Grid.uniform((50,), ((0, 1),))
    held = {"x": (ipd.Dirichlet(reference + drop), ipd.Dirichlet(reference))}
    through = {"x": (ipd.Inflow(1.0), ipd.Outflow())}
    fields = {
        "p": ipd.Field([ipd.Diffusion(1.0)], held, storage=0),
        "c": ipd.Field([ipd.Advection(ipd.FluxOf("p"), "upwind")], through),
    }
    system = ipd.System(grid, fields)
    with warnings.catch_warnings(record=True) as caught, jax.enable_x64(dtype == "float64"):
        warnings.simplefilter("always")
        start = {"p": jnp.full((50,), reference + drop / 2, dtype), "c": jnp.zeros(50, dtype)}
        times = ipd.TimeGrid.build(0.0, np.array([0.1]), 0.02)
        ipd.simulate(system, start, times, ipd.BackwardEuler())
    return [str(one.message) for one in caught if one.category is RuntimeWarning]


@pytest.mark.thorough
def test_a_pressure_with_a_large_reference_is_warned_of_with_the_remedy():
    """Numbers at 1e5 are 2^-7 apart in single precision."""
    (message,) = messages(1e5)
    assert "flux of 'p'" in message and "differ by 0.02" in message and "0.0078 apart" in message
    assert "difference from a reference" in message and "jax_enable_x64" in message


@pytest.mark.thorough
@pytest.mark.parametrize(
    "case",
    [
        pytest.param({"reference": 0.0}, id="difference"),
        pytest.param({"reference": 1e5, "dtype": "float64"}, id="double"),
        pytest.param({"reference": 1e5, "drop": 0.0}, id="at rest"),
        pytest.param({"reference": 1e5, "drop": 1e4}, id="large drop"),
    ],
)
def test_of_others_nothing_is_said(case):
    assert not messages(**case)


@pytest.mark.thorough
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_of_a_field_that_has_come_to_rest_nothing_is_said(dtype):
    """It carried while it varied; what is left between its cells is rounding."""
    with warnings.catch_warnings(record=True) as caught, jax.enable_x64(dtype == "float64"):
        warnings.simplefilter("always")
        grid = ipd.Grid.uniform((20,), ((0, 1),))
        fields = {
            "p": ipd.Field([ipd.Diffusion(1.0)], {"x": ipd.Dirichlet(1.0)}),
            "c": ipd.Field([ipd.Advection(ipd.FluxOf("p"), "upwind")], {"x": ipd.Outflow()}),
        }
        start = {"p": jnp.full((20,), 2.0, dtype), "c": jnp.zeros(20, dtype)}
        times = ipd.TimeGrid.build(0.0, np.array([0.05, 1.0, 4.0]), 0.05)
        ipd.simulate(ipd.System(grid, fields), start, times, ipd.BackwardEuler())
    assert not [one for one in caught if one.category is RuntimeWarning]
