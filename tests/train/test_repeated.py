"""Readings that are repeated at one time: the state is saved once, and each compared with it."""

from typing import Any

import equinox as eqx
import jax.numpy as jnp
import numpy as np
import pytest
import xarray as xr

import impindiff as ipd
from impindiff._errors import InputError
from impindiff.latent import learned
from impindiff.train import Observations
from impindiff.train._batches import whole
from impindiff.train._objective import make_objective

TIMES = [0.0, 0.5, 0.5, 1.0]
VALUES = np.array([1.0, 0.5, 0.4, 0.2])
GRID = ipd.Grid.uniform((4,), ((0.0, 1.0),), periodic=True)


def decay() -> ipd.System:
    return ipd.System(
        None,
        {"c": [ipd.Reaction(lambda c, k: -k * c)]},
        coefficients={"k": ipd.Parameter("k", 2.0, (0.0, jnp.inf))},
    )


def spreading() -> ipd.System:
    return ipd.System(
        GRID,
        {
            "c": ipd.Field(
                [ipd.Diffusion(ipd.Parameter("D", 0.1, (0.0, 1.0)))],
                initial=lambda x: 1 + jnp.sin(2 * jnp.pi * x),
            )
        },
    )


def read_by_sensors() -> xr.Dataset:
    values = np.array([1.9, 1.5, 1.4, 1.1])
    return xr.Dataset(
        {"wells": (("sample", "time", "sensor"), values[None, :, None])},
        {"sample": [0], "time": TIMES, "sensor_x": ("sensor", [0.375])},
    )


def loss(system: ipd.System, data: xr.Dataset, **more: Any) -> float:
    made = Observations.of(system, data, ":", **more)
    arrays, frozen = eqx.partition(system, learned(system))
    objective = make_objective(frozen, whole(made, 0.05), ipd.steppers.RungeKutta4())
    return float(objective(arrays).loss)


@pytest.mark.thorough
def test_each_reading_is_compared_with_the_one_state():
    data = ipd.to_dataset(None, TIMES, {"c": VALUES[None]})
    made = Observations.of(decay(), data, ":")
    assert (made.times, made.rows) == ((0.5, 1.0), (0, 0, 1))
    assert made.reading_times == (0.5, 0.5, 1.0)
    predicted = np.exp(-2 * np.array(TIMES[1:]))
    expected = np.sum((predicted - VALUES[1:]) ** 2) / np.sum(VALUES[1:] ** 2)
    assert loss(decay(), data) == pytest.approx(expected, rel=1e-4)
    # By their noise, too: a reading that is known badly counts for less.
    noise = np.array([1.0, 0.1, 0.5, 0.2])
    spread = data.assign(sigma=(("sample", "time"), noise[None]))
    expected = np.mean((predicted - VALUES[1:]) ** 2 / noise[1:] ** 2)
    found = loss(decay(), spread, observe=[ipd.Cells("c", noise="sigma")])
    assert found == pytest.approx(expected, rel=1e-4)


def test_two_readings_at_one_time_are_fitted_between_them():
    """The least squares of exp(-k t) and readings at t = 0.5, 0.5: their mean."""
    data = ipd.to_dataset(None, TIMES[:3], {"c": VALUES[None, :3]})
    stages = [ipd.Stage(ipd.LevenbergMarquardt(), 10)]
    found = ipd.fit(
        decay(),
        data,
        samples=":",
        dt=0.05,
        stages=stages,
        options=ipd.FitOptions(stepper=ipd.steppers.RungeKutta4()),
    )
    assert float(found.latents()["k"]) == pytest.approx(-2 * np.log(0.45), rel=1e-5)
    chosen = Observations.of(decay(), ipd.to_dataset(None, TIMES, {"c": VALUES[None]}), ":", [0.5])
    assert chosen.rows == (0, 0) and chosen.observed["c"].tolist() == [[0.5, 0.4]]


@pytest.mark.thorough
def test_sensors_may_be_read_again():
    wells = [ipd.Sensors("c", "wells")]
    how: Any = {"observe": wells}
    twice = loss(spreading(), read_by_sensors(), **how)
    each = [read_by_sensors().isel(time=kept) for kept in ([0, 1, 3], [0, 2, 3])]
    squares = [float((part["wells"][:, 1:] ** 2).sum()) for part in each]
    last = float(each[0]["wells"][0, -1, 0]) ** 2
    at_last = loss(spreading(), each[0].isel(time=[0, 2]), **how) * last
    parts = [
        loss(spreading(), part, **how) * size for part, size in zip(each, squares, strict=True)
    ]
    # What both parts hold, the last reading, counts once.
    assert twice == pytest.approx((sum(parts) - at_last) / (sum(squares) - last), rel=1e-6)
    assert ipd.predict(spreading(), read_by_sensors(), times=[0.5], dt=0.1)["c"].shape == (1, 1, 4)


def test_a_field_on_a_grid_has_one_state_at_a_time():
    data = ipd.to_dataset(GRID, [0.0, 1.0, 2.0, 3.0], {"c": np.ones((1, 4, 4))})
    data = data.assign_coords(time=[0.0, 1.0, 1.0, 2.0])
    with pytest.raises(InputError, match=r"two times are equal \(t = 1 at positions 1 and 2"):
        ipd.fit(spreading(), data, samples=":", dt=0.1)
    for mended in (data.drop_duplicates("time"), data.groupby("time").mean()):
        mended = mended.transpose("sample", "time", "x")
        assert Observations.of(spreading(), mended, ":").times == (1.0, 2.0)
    begun = data.assign_coords(time=[0.0, 0.0, 1.0, 2.0])
    known = ipd.System(GRID, spreading().equations)
    with pytest.raises(InputError, match=r"two times are equal \(t = 0 .* the field 'c' has"):
        Observations.of(known, begun, ":")


@pytest.mark.thorough
def test_windows_begin_at_one_state():
    data = ipd.to_dataset(None, TIMES, {"c": VALUES[None]})
    stages = [ipd.Stage(ipd.Adam(), 1, batches=ipd.optimisers.Batching(window=1))]
    with pytest.raises(InputError, match="observed more than once, and a window begins at one"):
        ipd.fit(decay(), data, samples=":", dt=0.1, stages=stages)
    # Samples apart are no matter.
    stages = [ipd.Stage(ipd.Adam(), 1, batches=ipd.optimisers.Batching(samples=1))]
    ipd.fit(decay(), data, samples=":", dt=0.1, stages=stages)


def test_times_that_fall_are_not_called_equal():
    data = ipd.to_dataset(None, TIMES, {"c": VALUES[None]}).assign_coords(time=[0, 1, 0.5, 2])
    with pytest.raises(InputError, match="must increase: entry 2 is 0.5 after 1. Sort it"):
        Observations.of(decay(), data, ":")
