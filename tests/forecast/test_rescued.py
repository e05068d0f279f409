"""Forecasts whose steps fail: halved, for all samples, and said so in what is written."""

from pathlib import Path

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from small_problem import DT, make_dataset

import impindiff as ipd
from impindiff import NumericsError, continue_forecast, forecast_to, predict
from impindiff.latent import learned
from impindiff.systems import Ensemble

NAME = "concentration"
EULER = ipd.steppers.ForwardEuler()


def system(rate: float = 30.0, floor: float = 0.0) -> ipd.System:
    """Decay whose first 0.1 units of time are too fast for a step: 1 - 30 * 0.05 is negative."""

    def decay(concentration, t):
        return -jnp.where(t < 0.1, rate, 1.0) * concentration

    grid = ipd.grid_of(make_dataset((12,)), NAME)
    return ipd.System(grid, {NAME: ipd.Field([ipd.Reaction(decay)], bounds=(floor, jnp.inf))})


@pytest.mark.thorough
def test_a_forecast_goes_on_in_halves_and_says_so():
    data = make_dataset((12,))
    found = predict(system(), data, times=[0.1, 0.2], dt=DT, stepper=EULER)
    assert found.attrs["halved_steps"] == "t = 0 to 0.05 in 2 parts; t = 0.05 to 0.1 in 2 parts"
    exact = data[NAME].values[:, 0] * (1 - 30 * DT / 2) ** 4
    np.testing.assert_allclose(found[NAME][:, 0], exact, rtol=1e-4)
    calm = predict(system(1.0), data, times=[0.1], dt=DT, stepper=EULER)
    assert "halved_steps" not in calm.attrs


@pytest.mark.thorough
def test_what_halving_does_not_help_is_told():
    with pytest.raises(NumericsError, match="below its limits .*Halving steps did not help: t = 0"):
        predict(system(floor=0.4), make_dataset((12,)), times=[0.1], dt=DT, stepper=EULER)


@pytest.mark.thorough
def test_pieces_are_rescued_each_and_the_store_tells_of_all(tmp_path: Path):
    data, path, times = make_dataset((12,)), tmp_path / "far.zarr", [0.05, 0.1, 0.15, 0.2]
    options = {"dt": DT, "stepper": EULER, "piece": 1}
    stored = forecast_to(path, system(), data, times=times[:1], **options)
    assert stored.halved == "t = 0 to 0.05 in 2 parts"
    stored = continue_forecast(path, system(), times=times, **options)
    assert stored.halved == "t = 0.05 to 0.1 in 2 parts"
    with ipd.open_dataset(path) as found:
        whole = predict(system(), data, times=times, dt=DT, stepper=EULER)
        assert found.attrs["halved_steps"] == whole.attrs["halved_steps"]
        np.testing.assert_allclose(found[NAME], whole[NAME], rtol=1e-5)


def test_of_an_ensemble_the_seeds_are_told():
    def decay(c, k):
        return -k * c

    def member(k: float) -> ipd.System:
        unknown = {"k": ipd.Parameter("k", k, (0.0, float("inf")))}
        field = ipd.Field([ipd.Reaction(decay)], bounds=(0.0, 2.0))
        return ipd.System(None, {"c": field}, coefficients=unknown)

    (first, known), (second, _) = (eqx.partition(m, learned(m)) for m in (member(1), member(30)))
    stacked = jax.tree.map(lambda *leaves: jnp.stack(leaves), first, second)
    both = Ensemble(eqx.combine(stacked, known), (7, 8))
    described = {"c": {"units": "1", "long_name": "c"}}
    data = ipd.to_dataset(None, np.zeros(1), {"c": np.ones((1, 1))}, attributes=described)
    found = ipd.predict_ensemble(both, data, times=[DT], dt=DT, stepper=EULER)
    assert found.attrs["halved_steps"] == "seed 8: t = 0 to 0.05 in 2 parts"
