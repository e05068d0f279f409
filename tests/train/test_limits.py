"""Limits of fields in training: data beyond are refused, and steps there fail as others do."""

import equinox as eqx
import jax.numpy as jnp
import numpy as np
import pytest
from small_problem import DT, make_dataset

from impindiff import (
    LBFGS,
    Adam,
    Cells,
    Field,
    InputError,
    LevenbergMarquardt,
    NumericsError,
    Parameter,
    Reaction,
    System,
    grid_of,
    predict,
)
from impindiff.data import to_dataset
from impindiff.latent import learned
from impindiff.optimisers import Rescue
from impindiff.rollout import StepResult
from impindiff.steppers import ForwardEuler
from impindiff.train import (
    EpochRecord,
    FitOptions,
    Observations,
    Stage,
    Trainer,
    make_objective,
    whole,
)
from impindiff.train._adaptation import Adaptation

NAME = "concentration"


def decaying(rate: float = 1.0, bounds=(0.0, 2.0)) -> System:
    unknown = Parameter("rate", rate, (0.0, jnp.inf))
    decay = Field([Reaction(lambda c, rate: -rate * c)], bounds=bounds)
    return System(None, {"c": decay}, coefficients={"rate": unknown})


def decayed(times=(0.0, 0.5, 1.0)):
    """One decay at the rate 1, in a dataset."""
    times = np.asarray(times)
    described = {"c": {"units": "1", "long_name": "c"}}
    return to_dataset(None, times, {"c": np.exp(-times)[None]}, attributes=described)


def train(system, stages, stepper, rescue=None) -> tuple[System, list[EpochRecord]]:
    records: list[EpochRecord] = []
    observations = Observations.of(system, decayed(), ":", observe=[Cells("c", noise=0.1)])
    options = FitOptions(stepper=stepper, rescue=rescue, watch=records.append)
    trainer = Trainer(system, observations, 0.5, stages, options)
    return trainer.run(), records


def test_a_step_out_of_limits_ends_training_and_is_named():
    """1 - 0.5 * 3 is below nothing."""
    with pytest.raises(NumericsError, match=r"epoch 1: step 1 of 2 .*'c' is -0.5, below its"):
        train(decaying(3.0), [Stage(Adam(), 2)], ForwardEuler())


@pytest.mark.thorough
def test_a_rescue_halves_the_step_that_left_them_and_no_later_one():
    """The first step is too long. The second only goes on from where it led to."""
    system = decaying(3.0)
    observations = Observations.of(system, decayed([0.0, 0.5, 0.6]), ":")
    arrays, frozen = eqx.partition(system, learned(system))
    batch = whole(observations, 0.5)
    evaluation = make_objective(frozen, batch, ForwardEuler())(arrays)
    assert list(evaluation.outcome.result[0]) == [StepResult.OUT_OF_BOUNDS] * 2
    remedied = Rescue().remedy(Adaptation(), evaluation, batch.time_grid)
    assert remedied is not None
    changed, (failure,) = remedied
    assert changed.halvings == (1, 0)
    assert (failure.step, failure.remedy) == (1, "step halved")
    assert failure.reason == "out of bounds: 'c' is -0.5, below its limits [0, 2]"
    # And so training goes on.
    assert len(train(system, [Stage(Adam(), 1)], ForwardEuler(), Rescue())[1]) == 1


@pytest.mark.thorough
@pytest.mark.parametrize(
    "optimiser", [Stage(LBFGS(), 6), Stage(LevenbergMarquardt(), 6)], ids=["lbfgs", "lm"]
)
def test_a_trial_beyond_is_a_step_too_long_and_no_end(optimiser):
    """What fits best lies beyond: (1 - rate / 2)^2 is to be exp(-1), and may not be below 0.5."""
    found, records = train(decaying(0.05, (0.5, 2.0)), [optimiser], ForwardEuler())
    assert records and not any(record.failures for record in records)
    # It ends at the limit, to single precision.
    assert 0.1 < float(found.latents()["rate"]) <= (2 - 2**0.5) * (1 + 1e-6)


@pytest.fixture
def limited():
    dataset = make_dataset((12,))
    system = System(
        grid_of(dataset, NAME),
        {NAME: Field([Reaction(lambda concentration: -concentration)], bounds=(0.0, 2.0))},
    )
    return dataset, system


@pytest.mark.thorough
def test_a_start_outside_is_refused_in_training_and_forecast(limited):
    dataset, system = limited
    dataset[NAME][1, 0, 3] = -0.25
    told = r"t = 0, .* sample 1 .* 'concentration' is -0.25 at cell 3, below its limits \[0, 2\]"
    with pytest.raises(InputError, match=told):
        Observations.of(system, dataset, ":")
    with pytest.raises(InputError, match=told):
        predict(system, dataset, times=[0.1], dt=DT)
    # Not where the sample is left out.
    predict(system, dataset, times=[0.05], dt=DT, samples=[0, 2])


def test_readings_outside_are_refused_unless_noise_carries_them(limited):
    dataset, system = limited
    dataset[NAME][1, 2, 3] = -0.25
    told = r"sample 1 at t = 0.1: 'concentration' is -0.25 at reading 3, below.* no noise is stated"
    with pytest.raises(InputError, match=told):
        Observations.of(system, dataset, ":")
    Observations.of(system, dataset, ":", observe=[Cells(NAME, noise=0.1)])
    with pytest.raises(InputError, match="more than 5 standard deviations"):
        Observations.of(system, dataset, ":", observe=[Cells(NAME, noise=0.01)])
    # Of another variable that observes the field, too.
    dataset = make_dataset((12,)).assign(seen=dataset[NAME])
    with pytest.raises(InputError, match="the readings 'seen' of sample 1"):
        Observations.of(system, dataset, ":", observe=[Cells(NAME, "seen")])
