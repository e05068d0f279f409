"""Ordinary differential equations are trained and forecast like anything on a grid."""

import jax.numpy as jnp
import numpy as np
import pytest

from impindiff._errors import InputError
from impindiff.data import to_dataset
from impindiff.forecast import evaluate, forecast_to, predict
from impindiff.latent import Parameter
from impindiff.observe import Measured, Sensors, measure
from impindiff.systems import Reaction, System
from impindiff.train import LBFGS, Stage, fit

TIMES = np.linspace(0.0, 2.0, 5)
RATE = 0.7


def decay(rate) -> System:
    return System(None, {"u": [Reaction(lambda u, rate: -rate * u)]}, coefficients={"rate": rate})


@pytest.mark.thorough
def test_a_rate_is_learned_and_forecast_from(tmp_path):
    exact = np.array([[1.0], [3.0]]) * np.exp(-RATE * TIMES)
    exact[1, 2] = np.nan
    data = to_dataset(None, TIMES, {"u": exact}, {"rate": RATE})
    unknown = decay(Parameter("rate", 0.2, (0.0, jnp.inf)))
    times = {"times": TIMES[1:], "dt": 0.1}
    system = fit(unknown, data, samples=":", stages=[Stage(LBFGS(), 10)], **times)
    assert float(system.latents()["rate"]) == pytest.approx(RATE, rel=2e-3)
    forecast = predict(system, data, **times)
    scores = evaluate(forecast, data, ":")
    assert np.max(scores.fields["u"].relative_l1_percent) < 0.2
    assert scores.latent["rate"].relative_l2_percent < 0.2
    stored = forecast_to(tmp_path / "f.zarr", system, data, **times)
    assert stored.times.size == 4


@pytest.mark.thorough
def test_a_function_of_the_fields_is_observed():
    data = to_dataset(None, TIMES, {"u": np.exp(-RATE * TIMES)[None], "square": np.ones((1, 5))})
    observe = [Measured(lambda u: u**2, data="square")]
    readings = measure(data, None, observe)["square"]
    np.testing.assert_allclose(readings[0], np.exp(-2 * RATE * TIMES), rtol=1e-6)
    data["square"] = readings
    unknown = decay(Parameter("rate", 0.2, (0.0, jnp.inf)))
    system = fit(unknown, data, samples=":", dt=0.1, observe=observe, stages=[Stage(LBFGS(), 10)])
    assert float(system.latents()["rate"]) == pytest.approx(RATE, rel=2e-3)
    with pytest.raises(
        InputError, match="but the system has no grid: its fields are observed by Cells"
    ):
        fit(unknown, data, samples=":", dt=0.1, observe=[Sensors("u", "square")])
