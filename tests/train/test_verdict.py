"""A training that ended at a poor fit, or that no reading answered to, says so."""

import warnings

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import impindiff as ipd
from impindiff.train import Trainer
from impindiff.train._observations import Observations
from impindiff.train._stages import default_stages

TIMES = np.linspace(0.0, 2.0, 9)
NOISE = 0.01


def decay(start: float = 0.5, bounds=(0.0, jnp.inf), law=lambda u, rate: -rate * u) -> ipd.System:
    rate = ipd.Parameter("rate", start, bounds)
    return ipd.System(None, {"u": [ipd.Reaction(law)]}, coefficients={"rate": rate})


def readings(curve=lambda t: np.exp(-0.7 * t), seed: int = 0):
    exact = curve(TIMES)
    noisy = exact + NOISE * np.random.default_rng(seed).normal(size=exact.shape)
    noisy[0] = exact[0]
    return ipd.to_dataset(None, TIMES, {"u": noisy[None]})


def fit(system: ipd.System, data, noise: float | None = NOISE, **options) -> ipd.System:
    observe = [ipd.Cells("u", noise=noise)]
    how = ipd.FitOptions(dtype=jnp.float64)
    return ipd.fit(system, data, dt=0.05, observe=observe, options=how, **options)


def said(call) -> list[str]:
    with warnings.catch_warnings(record=True) as found:
        warnings.simplefilter("always")
        call()
    return [str(each.message) for each in found if each.category is RuntimeWarning]


@pytest.mark.thorough
def test_a_good_fit_says_nothing():
    assert said(lambda: fit(decay(), readings())) == []


@pytest.mark.thorough
def test_equations_that_do_not_describe_the_data_are_told_with_the_number():
    data = readings(lambda t: 1 + 0.5 * np.sin(3 * t))
    (told,) = said(lambda: fit(decay(), data))
    assert "ended at a poor fit: chi squared per reading is" in told and "8 readings" in told
    assert "had settled" in told and "the noise is larger than stated" in told
    found = float(told.split("reading is ")[1].split(" ")[0])
    assert found > 100
    assert said(lambda: fit(decay(), data, noise=None)) == []


@pytest.mark.parametrize("rate", [10.0, -0.1])
def test_a_forecast_worse_than_zeros_is_told_without_noise(rate: float):
    """Of u' = rate, whose solution is 1 + rate t in steps of any length."""
    data = readings()
    stays = [ipd.Stage(ipd.Adam(learning_rate=1e-9), 2)]
    free = decay(rate, (-jnp.inf, jnp.inf), lambda rate: rate)
    told = said(lambda: fit(free, data, noise=None, stages=stays))
    later = data["u"].values[0, 1:]
    misfit = np.sum((1 + rate * TIMES[1:] - later) ** 2) / np.sum(later**2)
    assert bool(told) == (misfit > 1)
    if told:
        assert f"the relative misfit is {misfit:.3g}" in told[0] and "output_range=" in told[0]


@pytest.mark.thorough
def test_a_training_that_was_still_falling_is_to_get_more_epochs():
    steady = ipd.Stage(ipd.Adam(learning_rate=5e-3, constant_share=1.0), 20)
    (told,) = said(lambda: fit(decay(0.2), readings(), stages=[steady]))
    assert "still falling" in told and "over the last 2 of 20 epochs" in told and "more" in told


@pytest.mark.thorough
@pytest.mark.parametrize("stages", [[ipd.Stage(ipd.LBFGS(), 5)], [ipd.Stage(ipd.Adam(), 5)]])
def test_a_start_that_no_reading_responds_to_is_told(stages):
    """A rate so slow that nothing decays: in double precision too, its slope drowns."""
    (*_, told) = said(lambda: fit(decay(1e-11), readings(), noise=None, stages=stages))
    assert told.startswith("the loss had no slope by 'rate' where training began")
    assert "start elsewhere" in told and "already the best value" in told


def test_data_that_any_value_fits_are_told():
    """Nothing decays where nothing is: the start comes back, and it is no result."""
    (told,) = said(lambda: fit(decay(), readings(lambda t: 0 * t) * 0, noise=None))
    assert told.startswith("the loss had no slope by 'rate' where training began")
    assert "nothing observed depends on it" in told


@pytest.mark.thorough
def test_the_default_stages_leave_such_a_start():
    """The step of Levenberg and Marquardt does not depend on the unit of the slope."""
    found = [fit(decay(rate), readings(), noise=None).latents()["rate"] for rate in (1e-11, 0.2)]
    assert float(found[0]) == pytest.approx(float(found[1]), rel=1e-6)


@pytest.mark.thorough
def test_a_start_at_the_best_value_is_told_as_that_at_most():
    def exact(u, rate):
        return -rate * u

    data = readings()
    trained = fit(decay(law=exact), data)
    again = said(lambda: fit(trained, data))
    assert all("(c) the start is already the best value" in told for told in again)


@pytest.mark.parametrize(
    ("grows", "bounds", "told"),
    [(-2.0, (0.0, 1.0), "'rate' at 1"), (1.0, (0.0, 1.0), "'rate' at 0"), (1.0, None, "at 0")],
)
def test_an_unknown_that_ends_at_a_bound_is_told(grows: float, bounds, told: str):
    """Of u' = -rate u: the data decay faster than the bounds allow, or grow."""
    data = readings(lambda t: np.exp(grows * t))
    (found,) = said(lambda: fit(decay(bounds=bounds or (0.0, jnp.inf)), data, noise=None))
    assert found.startswith("the training ended at a bound: ") and told in found
    assert "widen the bounds" in found


@pytest.mark.thorough
@pytest.mark.parametrize(
    ("rate", "bounds", "start"), [(1e-3, (0.0, 1.0), 0.5), (1e-6, (0.0, jnp.inf), 1e-4)]
)
def test_a_small_value_between_bounds_is_no_bound(rate: float, bounds, start: float):
    """A thousandth of the width, and a hundredth of the start."""
    data = readings().assign_coords(time=TIMES / rate)
    options = {"observe": [ipd.Cells("u", noise=NOISE)], "dt": 0.05 / rate}
    options["options"] = ipd.FitOptions(dtype=jnp.float64)
    assert said(lambda: ipd.fit(decay(start, bounds), data, **options)) == []


@pytest.mark.thorough
def test_a_trainer_gives_its_remarks():
    data = readings(lambda t: 1 + 0.5 * np.sin(3 * t))
    observe = [ipd.Cells("u", noise=NOISE)]
    observations = Observations.of(decay(), data, ":", None, jnp.float64, observe)
    trainer = Trainer(decay(), observations, 0.05, [ipd.Stage(ipd.LevenbergMarquardt(), 9)])
    assert trainer.remarks == []
    trainer.run()
    assert len(trainer.remarks) == 1


def stages_of(system: ipd.System, data, observe=None, **options):
    observations = Observations.of(system, data, ":", None, jnp.float64, observe)
    arrays, known = Trainer.split(system)
    return default_stages(arrays, known, observations, **options)


def network() -> ipd.System:
    rate = ipd.NeuralClosure("rate", {"u": (0.0, 1.0)}, key=jax.random.key(0))
    return ipd.System(
        None, {"u": [ipd.Reaction(lambda u, rate: -rate * u)]}, coefficients={"rate": rate}
    )


def test_default_stages_follow_what_is_learned_and_what_was_observed():
    data = readings()
    assert stages_of(decay(), data) == [ipd.Stage(ipd.LevenbergMarquardt(), 50)]
    windows = ipd.Stage(ipd.Adam(), 100, batches=ipd.optimisers.Batching(window=1))
    assert stages_of(network(), data) == [windows, ipd.Stage(ipd.LBFGS(), 200)]
    whole = [ipd.Stage(ipd.Adam(), 100), ipd.Stage(ipd.LBFGS(), 200)]
    assert stages_of(network(), data, has_rescue=True) == whole
    pair = np.concatenate([data["u"].values] * 2)
    pair[1, 3] = np.nan
    gappy = ipd.to_dataset(None, TIMES, {"u": pair})
    gappy = gappy.assign(seen=gappy["u"] ** 2)
    gappy["seen"].attrs = data["u"].attrs
    assert stages_of(network(), gappy, [ipd.Cells("u")]) == whole
    square = [ipd.observations.Measured(lambda u: u**2, data="seen")]
    assert stages_of(network(), gappy, square) == whole
