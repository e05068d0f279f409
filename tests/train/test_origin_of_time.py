"""Training on times that are counted from long ago is training on times from zero."""

from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
import xarray as xr

import impindiff as ipd
from impindiff._errors import InputError
from impindiff.integrate import SDIRK2
from impindiff.train import Adam, Batching, Stage

DT, COUNT = 1 / 96, 9
GRID = ipd.Grid.uniform((6,), ((0.0, 1.0),))
KEY = jax.random.key(1)


@pytest.fixture
def single_precision():
    """That of commands, where whatever is passed to a compiled function is rounded."""
    jax.config.update("jax_enable_x64", False)


def trained(first: float, batching: Batching, function: Any = None, penalty: Any = ()) -> Any:
    """What a source is believed to be after some updates, at a time within the data."""
    since = np.arange(COUNT) / 24
    c = 1 + 0.3 * np.sin(9 * since)[:, None] + 0.1 * GRID.centres()[0]
    data = ipd.to_dataset(GRID, first + since, {"c": np.asarray(c[None], np.float32)})
    span = (first, first + since[-1])
    sizes = {"layers": ipd.latents.Layers(8), "output_range": (-2.0, 2.0)}
    field = ipd.latents.SeparableField(1, ("k",), span, **sizes, key=KEY)
    forcing = function or (lambda t: jnp.cos(9 * (t - first)))
    terms = [ipd.Diffusion(0.01), ipd.Source(lambda k: k), ipd.Source(forcing)]
    ends = {"x": ipd.NoFlux()}
    system = ipd.System(GRID, {"c": ipd.Field(terms, ends)}, coefficients={"k": field})
    stages = [Stage(Adam(), 4, batches=batching)]
    given: dict[str, Any] = {"samples": ":", "dt": DT, "stages": stages}
    given |= {"regularise": penalty, "options": ipd.FitOptions(stepper=SDIRK2())}
    found = ipd.fit(system, data.assign_attrs(boundary="bounded"), **given)
    return np.asarray(found.latents(first + 0.2)["k"]), found


BATCHES = {"whole": Batching(), "windows": Batching(window=3)}


@pytest.mark.thorough
@pytest.mark.parametrize(
    "penalty", [(), [ipd.observations.Smoothness("k", 1e-2)]], ids=["", "penalty"]
)
@pytest.mark.parametrize("batching", BATCHES.values(), ids=BATCHES)
def test_in_whole_and_in_windows(batching, penalty, single_precision):
    (near, from_zero), (far, _) = (trained(at, batching, None, penalty) for at in (0.0, 46_000.0))
    np.testing.assert_allclose(far, near, rtol=1e-4, atol=1e-4)
    before = eqx.filter(from_zero.coefficients["k"], eqx.is_inexact_array)
    assert jax.tree.leaves(before)


@pytest.mark.thorough
def test_a_function_that_cannot_have_such_times_is_refused_before_anything_is_trained(
    single_precision,
):
    with pytest.raises(InputError, match=r"<lambda>\(t\) would see .* t - 46000, which is exact"):
        trained(46_000.0, Batching(), lambda t: jnp.cos(9 * t))


@pytest.mark.thorough
def test_readings_at_such_times_are_fitted_by_levenberg_marquardt(single_precision):
    """By forward mode; of what decays since the first of them."""
    found = []
    for first in (0.0, 46_000.0):
        rate = ipd.Parameter("k", 2.0, (0.1, 10.0))
        terms = [ipd.Reaction(lambda c, k, t, at=first: -k * c * jnp.exp(-(t - at)))]
        system = ipd.System(None, {"c": terms}, coefficients={"k": rate})
        times = first + np.arange(1 + COUNT) / 24
        c = np.exp(-5 * (1 - np.exp(first - times))).astype(np.float32)
        data = xr.Dataset({"c": (("sample", "time"), c[None])}, {"sample": [0], "time": times})
        stages = [ipd.Stage(ipd.LevenbergMarquardt(), 12)]
        fitted = ipd.fit(
            system,
            data,
            samples=":",
            dt=DT,
            stages=stages,
            options=ipd.FitOptions(stepper=SDIRK2()),
        )
        found.append(float(fitted.latents()["k"]))
    assert found[0] == pytest.approx(5.0, rel=1e-3)
    assert found[1] == pytest.approx(found[0], rel=1e-5)
