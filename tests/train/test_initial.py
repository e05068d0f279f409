"""Initial values that the system gives: known ones, learned ones, and data in other units."""

import jax.numpy as jnp
import numpy as np
import pytest
import xarray as xr

import impindiff as ipd
from impindiff._errors import InputError
from impindiff.rollout import TimeGrid, simulate

GRID = ipd.Grid.uniform((12,), ((0, 1),))
TIMES = np.array([0.0, 0.05, 0.1])
ENDS = {"x": ipd.NoFlux()}
(X,) = GRID.centres()


def heap(x, height):
    return height * jnp.exp(-20 * (x - 0.3) ** 2)


def system(height, unit=None) -> ipd.System:
    terms = [ipd.Diffusion(0.5), ipd.Source(0.2)]
    field = ipd.Field(terms, ENDS, initial=heap, unit=unit)
    return ipd.System(GRID, {"c": field}, coefficients={"height": height})


def readings(**attrs) -> xr.Dataset:
    """Nothing but two sensors, of one sample."""
    start = {"c": heap(jnp.asarray(X), 1.7)}
    steps = TimeGrid.build(0.0, TIMES, 0.0125)
    states = simulate(system(1.7), start, steps, ipd.CrankNicolson()).states["c"]
    found = states[:, 4:6][None].at[:, 0].set(jnp.nan)
    return xr.Dataset(
        {"wells": (("sample", "time", "sensor"), np.asarray(found), attrs)},
        {"time": TIMES, "sensor_x": ("sensor", X[4:6])},
    )


SENSORS = ipd.Sensors("c", data="wells")
HOW = {"samples": ":", "dt": 0.0125, "options": ipd.FitOptions(dtype=jnp.float64)}


@pytest.mark.slow
def test_an_initial_field_is_learned_from_what_comes_of_it():
    unknown = system(ipd.Parameter("height", 1.0, (0.0, jnp.inf)))
    stages = [ipd.Stage(ipd.LevenbergMarquardt(), 8)]
    fitted = ipd.fit(unknown, readings(), observe=[SENSORS], stages=stages, **HOW)
    assert float(fitted.latents()["height"][0]) == pytest.approx(1.7, rel=1e-6)
    forecast = ipd.predict(fitted, readings(), times=TIMES, dt=0.0125, dtype=jnp.float64)
    np.testing.assert_allclose(forecast["c"][0, 0], heap(X, 1.7), rtol=1e-6)
    measured = ipd.observations.measure(forecast, GRID, [SENSORS], readings())
    np.testing.assert_allclose(measured["wells"][0, 1:], readings()["wells"][0, 1:], rtol=1e-6)


@pytest.mark.thorough
def test_later_than_its_first_time_the_data_say_where_the_fields_are():
    fields = xr.Dataset(
        {"c": (("sample", "time", "x"), np.ones((1, 2, 12)))}, {"time": [0.0, 0.1], "x": X}
    )
    made = {
        start: ipd.predict(system(2.0), fields, times=[0.1], start=start, dt=0.1)["c"][0, 0]
        for start in ("first", "last")
    }
    np.testing.assert_allclose(made["last"], 1.0)
    assert np.abs(made["first"] - 1.0).max() > 0.1


@pytest.mark.thorough
def test_windows_cannot_begin_at_what_only_the_system_knows():
    unknown = system(ipd.Parameter("height", 1.0, (0.0, 5.0)))
    stages = [ipd.Stage(ipd.Adam(), 1, batches=ipd.optimisers.Batching(window=1))]
    with pytest.raises(InputError, match="gives initial values of c, and windows begin"):
        ipd.fit(unknown, readings(), observe=[SENSORS], stages=stages, **HOW)


def test_initial_values_do_not_depend_on_fields():
    with pytest.raises(InputError, match="the initial values of 'c' asks for 'c'"):
        ipd.System(GRID, {"c": ipd.Field([ipd.Diffusion(1.0)], ENDS, initial=lambda c: c)})


def test_initial_values_have_one_for_each_cell():
    field = ipd.Field([ipd.Diffusion(1.0)], ENDS, initial=np.ones(5))
    with pytest.raises(InputError, match=r"initial values of 'c': .* shape \(5,\).*\(12,\)"):
        ipd.System(GRID, {"c": field})


@pytest.mark.thorough
def test_data_in_other_units_are_refused():
    fields = xr.Dataset(
        {"c": (("sample", "time", "x"), np.ones((1, 2, 12)), {"units": "g/l"})},
        {"time": [0.0, 0.1], "x": X},
    )
    unknown = system(ipd.Parameter("height", 1.0, (0.0, 5.0)), unit="mol/m3")
    with pytest.raises(InputError, match="'c' is in 'g/l', in the system it is in 'mol/m3'"):
        ipd.fit(unknown, fields, **HOW)
    with pytest.raises(InputError, match="Convert the data"):
        ipd.predict(unknown, fields, times=[0.1], dt=0.1)
    del fields["c"].attrs["units"]
    assert ipd.predict(unknown, fields, times=[0.1], dt=0.1)["c"].attrs["units"] == "mol/m3"


@pytest.mark.thorough
def test_a_forecast_that_is_continued_does_not_begin_again(tmp_path):
    store, known = tmp_path / "long.zarr", system(2.0)
    fields = ipd.to_dataset(GRID, [0.0], {"c": np.ones((1, 1, 12))})
    how = {"dt": 0.05, "stepper": ipd.CrankNicolson()}
    ipd.forecast_to(store, known, fields, times=[0.0, 0.1], dtype=jnp.float64, **how)
    ipd.continue_forecast(store, known, times=[0.2], **how)
    found = ipd.open_dataset(store)["c"][0]
    once = ipd.predict(known, fields, times=[0.0, 0.1, 0.2], dtype=jnp.float64, **how)["c"][0]
    np.testing.assert_allclose(found, once, rtol=1e-10)
    later = ipd.predict(known, ipd.open_dataset(store, time=0.1), times=[0.2], start="first", **how)
    np.testing.assert_allclose(later["c"][0, 0], once[2], rtol=1e-5)
