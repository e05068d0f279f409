"""Calls as version 0.1.0 had them: the same training, with a warning that says how to write it."""

from collections.abc import Callable
from typing import Any

import jax.numpy as jnp
import numpy as np
import optax
import pytest
import xarray as xr

import impindiff as ipd


def decay(rate) -> ipd.System:
    """dc/dt = -k c + s."""
    return ipd.System(
        None,
        {"c": [ipd.Reaction(lambda c, k, s: -k * c + s)]},
        coefficients={"k": rate, "s": ipd.Parameter("s", 0.1, (-1.0, 1.0))},
    )


@pytest.fixture(scope="module")
def data() -> xr.Dataset:
    times = np.linspace(0.0, 1.0, 5)
    return xr.Dataset(
        {"c": (("sample", "time"), np.exp(-2.0 * times)[None])},
        {"sample": [0], "time": times},
    )


def unknown() -> ipd.System:
    return decay(ipd.Parameter("k", 1.0, (0.0, jnp.inf)))


def stage_of(optimiser: Callable[..., Any], *positional: Any, **named: Any) -> Any:
    """What the call gives, which no type says any more."""
    return optimiser(*positional, **named)


def learned(system: ipd.System) -> list[float]:
    return [float(value.ravel()[0]) for value in system.latents().values()]


def test_a_number_of_epochs_makes_an_optimiser_a_stage():
    batches = ipd.optimisers.Batching(samples=1)
    earlier: dict[str, Any] = {"dt": 0.5, "batching": batches, "freeze": "s"}
    with pytest.warns(DeprecationWarning, match=r"Stage\(Adam\(...\), 30\)"):
        stage = stage_of(ipd.Adam, 30, learning_rate=0.02, **earlier)
    assert isinstance(stage, ipd.Stage)
    assert (stage.epochs, stage.dt, stage.batches, stage.freeze) == (30, 0.5, batches, ("s",))
    assert isinstance(stage.optimiser, ipd.Adam)
    assert stage.optimiser.learning_rate == 0.02


def test_optax_took_the_epochs_first():
    with pytest.warns(DeprecationWarning, match=r"Stage\(Optax\(...\), 7\)"):
        stage = stage_of(ipd.optimisers.Optax, 7, optax.sgd(0.1))
    assert stage.epochs == 7
    assert isinstance(stage.optimiser, ipd.optimisers.Optax)


@pytest.mark.thorough
def test_arguments_that_options_took_over(data: xr.Dataset):
    seen: list[float] = []
    earlier: dict[str, Any] = {
        "stepper": ipd.BackwardEuler(),
        "validate": lambda system: seen.append(1.0) or 1.0,
        "validate_every": 2,
        "freeze": "s",
    }
    stage = ipd.Stage(ipd.LevenbergMarquardt(), 4)
    with pytest.warns(DeprecationWarning, match=r"fit\(stepper=...\): .*FitOptions\(stepper=...\)"):
        before = ipd.fit(unknown(), data, dt=0.05, stages=[stage], **earlier)
    today = ipd.fit(
        unknown(),
        data,
        dt=0.05,
        stages=[ipd.Stage(ipd.LevenbergMarquardt(), 4, freeze="s")],
        options=ipd.FitOptions(stepper=ipd.BackwardEuler()),
    )
    assert learned(before) == learned(today)
    assert learned(before)[1] == pytest.approx(0.1)
    assert len(seen) >= 2


@pytest.mark.parametrize(
    ("earlier", "kind", "told"),
    [
        (
            {"memory": ipd.memory.KeepAll(), "options": ipd.FitOptions()},
            ipd.InputError,
            "said in the options",
        ),
        ({"freeze": "k"}, ipd.InputError, "freeze is said of a stage"),
        ({"stpper": ipd.BackwardEuler()}, TypeError, "stpper"),
    ],
)
def test_what_is_said_twice_or_nowhere_is_refused(
    data: xr.Dataset, earlier: dict[str, Any], kind: type[Exception], told: str
):
    with pytest.raises(kind, match=told):
        ipd.fit(unknown(), data, dt=0.1, **earlier)
