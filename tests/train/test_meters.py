"""Instruments that read what has accumulated: fits to closed forms, gradients, and starts."""

import jax.numpy as jnp
import numpy as np
import pytest
import xarray as xr
from gradients import taylor_rate

import impindiff as ipd
from impindiff import InputError
from impindiff.train import Observations

METER = ipd.observations.Measured(lambda lost: lost, "meter", noise=1e-3)
TIMES = [0.0, 0.4, 1.0, 1.7]


def decay(rate) -> ipd.System:
    return ipd.System(
        None,
        {"u": [ipd.Reaction(lambda u, k: -k * u)]},
        coefficients={"k": rate},
        integrals={"lost": [ipd.Reaction(lambda u, k: k * u)], "other": [ipd.Source(1.0)]},
    )


def read_of_decay(rate: float, scale: float = 1.0) -> xr.Dataset:
    r"""Two samples from $u = 1$ and 3, read at times of their own: $u_0\,(1 - e^{-k t})$."""
    start = np.array([[1.0], [3.0]])
    data = ipd.to_dataset(
        None, TIMES, {"u": np.where(np.arange(4) == 0, start, np.nan) * np.ones((2, 4))}
    )
    meter = start * (1 - np.exp(-rate * np.array(TIMES) / scale))
    meter[0, [0, 1]] = meter[1, [0, 3]] = np.nan
    data["meter"] = ("sample", "time"), meter
    return data


def fitted(system: ipd.System, data: xr.Dataset, observe, dt: float) -> ipd.System:
    stages = [ipd.Stage(ipd.LevenbergMarquardt(), 12)]
    options = ipd.FitOptions(stepper=ipd.steppers.ESDIRK4())
    return ipd.fit(system, data, dt=dt, observe=observe, stages=stages, options=options)


def unknown(name: str, guess: float) -> ipd.Parameter:
    return ipd.Parameter(name, guess, (0.0, jnp.inf))


@pytest.mark.thorough
def test_a_rate_is_found_by_what_was_lost():
    found = fitted(decay(unknown("rate", 0.3)), read_of_decay(0.8), [METER], 0.1)
    assert float(found.latents()["rate"]) == pytest.approx(0.8, rel=1e-6)


@pytest.mark.thorough
def test_times_may_be_dates():
    """A rate is then one for each second."""
    hour = 3600.0
    data = read_of_decay(0.8)
    begin = np.datetime64("2026-03-01T00:00", "ns")
    steps = (np.array(TIMES) * hour * 1e9).astype("timedelta64[ns]")
    data = data.assign_coords(time=begin + steps)
    found = fitted(decay(unknown("rate", 1e-4)), data, [METER], 0.1 * hour)
    assert float(found.latents()["rate"]) == pytest.approx(0.8 / hour, rel=1e-6)


def slab(diffusivity, cells: int = 40) -> ipd.System:
    ends = {"x": (ipd.NoFlux(), ipd.Dirichlet(0.0))}
    return ipd.System(
        ipd.Grid([ipd.Axis.graded("x", 0.0, 1.0, cells, 0.1)]),
        {"c": ipd.Field([ipd.Diffusion(diffusivity)], ends, initial=2.0)},
        integrals={"supplied": [ipd.Supply(ipd.FluxOf("c"))]},
    )


def collected(diffusivity: float, times) -> np.ndarray:
    r"""$2\,(1 - \sum_n \frac{8}{(2n+1)^2 \pi^2} e^{-(2n+1)^2 \pi^2 D t / 4})$ from a slab."""
    odd = 2 * np.arange(400)[:, None] + 1
    decay = np.exp(-((odd * np.pi) ** 2) * diffusivity * np.asarray(times) / 4)
    return 2 * (1 - (8 / (odd * np.pi) ** 2 * decay).sum(0))


JAR = ipd.observations.VolumeIntegral("supplied", "jar", noise=0.01, weight=-1.0)


def read_of_slab(system: ipd.System, diffusivity: float) -> xr.Dataset:
    grid, times = system.grid, [0.0, 0.5, 1.0, 2.0]
    assert grid is not None
    data = ipd.to_dataset(grid, times, {"c": np.full((1, 4, *grid.shape), np.nan)})
    data["jar"] = ("sample", "time"), collected(diffusivity, times)[None]
    return data


@pytest.mark.thorough
def test_a_diffusivity_is_found_by_what_flowed_out():
    """By the outflow alone, of second order in the cell width."""

    def error(cells: int) -> float:
        system = slab(unknown("D", 0.1), cells)
        found = fitted(system, read_of_slab(system, 0.25), [JAR], 0.02)
        return abs(float(found.latents()["D"].mean()) / 0.25 - 1)

    coarse, fine = error(16), error(32)
    assert fine < 2e-3 and np.log2(coarse / fine) == pytest.approx(2, abs=0.25)


def test_a_forecast_is_read_and_scored():
    system = slab(0.25)
    data = read_of_slab(system, 0.25)
    stepper = ipd.steppers.ESDIRK4()
    forecast = ipd.predict(system, data, times=[0.5, 1.0, 2.0], dt=0.05, stepper=stepper)
    read = ipd.observations.measure(forecast, system.grid, [JAR])
    np.testing.assert_allclose(read["jar"][0], collected(0.25, [0.5, 1.0, 2.0]), rtol=3e-3)
    scores = ipd.evaluate(forecast, data, observe=[JAR], grid=system.grid)
    assert scores.readings["jar"].count == 3 and scores.readings["jar"].rmse < 3e-3


@pytest.mark.thorough
def test_the_gradient_of_a_reading_leaves_a_second_order_remainder():
    system = slab(0.25, 12)
    operator = JAR.prepare(system.grid)
    times = ipd.TimeGrid.build(0.0, [0.2, 0.4], 0.1)
    start = {"c": jnp.full(12, 2.0), "supplied": jnp.zeros(12)}

    def loss(diffusivity):
        found = ipd.simulate(slab(diffusivity, 12), start, times, ipd.BackwardEuler())
        return sum(operator({k: u[j] for k, u in found.states.items()}) ** 2 for j in (0, 1))

    assert taylor_rate(loss, jnp.array(0.25), step=1e-2) == pytest.approx(2, abs=0.1)


def test_training_computes_what_is_read_from_zero_or_from_the_data():
    data, system = read_of_decay(0.8), decay(0.8)
    found = Observations.of(system, data, observe=[METER])
    assert set(found.initial) == {"u", "lost"}
    np.testing.assert_array_equal(found.initial["lost"], np.zeros(2))
    data["lost"] = ("sample", "time"), np.full((2, 4), 0.5)
    np.testing.assert_array_equal(
        Observations.of(system, data, observe=[METER]).initial["lost"], np.full(2, 0.5)
    )
    plain = read_of_decay(0.8)
    plain["u"][:, 1] = 0.5
    assert set(Observations.of(system, plain).initial) == {"u"}


def test_meters_of_nothing_and_without_a_start_are_refused():
    data = read_of_decay(0.8)
    strange = ipd.observations.Measured(lambda heat: heat, "meter")
    with pytest.raises(InputError, match="an observation is of 'heat', but the fields are"):
        Observations.of(decay(0.8), data, observe=[strange])
    steady = data.isel(time=-1, drop=True)
    with pytest.raises(InputError, match="'meter' reads the integral over time 'lost'"):
        ipd.fit(decay(unknown("rate", 0.3)), steady, observe=[METER])
    windows = [ipd.Stage(ipd.Adam(), 1, batches=ipd.optimisers.Batching(window=1))]
    with pytest.raises(InputError, match="windows begin at observed states"):
        ipd.fit(decay(unknown("rate", 0.3)), data, dt=0.1, observe=[METER], stages=windows)
