"""Ordinary differential equations are trained and forecast like anything on a grid."""

import jax.numpy as jnp
import numpy as np
import pytest

from impindiff.data import to_dataset
from impindiff.forecast import evaluate, forecast_to, predict
from impindiff.latent import Parameter
from impindiff.systems import Reaction, System
from impindiff.train import LBFGS, fit

TIMES = np.linspace(0.0, 2.0, 5)
RATE = 0.7


def decay(rate) -> System:
    return System(None, {"u": [Reaction(lambda u, rate: -rate * u)]}, coefficients={"rate": rate})


def test_a_rate_is_learned_and_forecast_from(tmp_path):
    exact = np.array([[1.0], [3.0]]) * np.exp(-RATE * TIMES)
    exact[1, 2] = np.nan
    data = to_dataset(None, TIMES, {"u": exact}, {"rate": RATE})
    unknown = decay(Parameter("rate", 0.2, (0.0, jnp.inf)))
    times = {"times": TIMES[1:], "dt": 0.1}
    system = fit(unknown, data, samples=":", stages=[LBFGS(10)], **times)
    assert float(system.latents()["rate"]) == pytest.approx(RATE, rel=2e-3)
    forecast = predict(system, data, **times)
    scores = evaluate(forecast, data, ":")
    assert np.max(scores.fields["u"].relative_l1_percent) < 0.2
    assert scores.latent["rate"].relative_l2_percent < 0.2
    stored = forecast_to(tmp_path / "f.zarr", system, data, **times)
    assert stored.times.size == 4
