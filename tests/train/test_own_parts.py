"""An optimiser and an observation of the user's own, with all that training offers."""

from pathlib import Path
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from killed_run import Killed, history, train
from small_problem import DT

import impindiff as ipd
from impindiff import InputError
from impindiff.integrate import CrankNicolson
from impindiff.latent import latents_of
from impindiff.observe import AbstractObservation, AbstractOperator
from impindiff.train import AbstractOptimiser, Batching, Checkpoints, Epoch, Observations

TIMES = [0.05, 0.1, 0.2]


class SignDescent(AbstractOptimiser):
    """Steps of one length along the signs of the slope; all else is left to the defaults."""

    rate: float = 1e-2

    def update(self, objective, learned, state, length):
        evaluation = objective(learned)
        moved = jax.tree.map(lambda p, g: p - self.rate * jnp.sign(g), learned, evaluation.gradient)
        return moved, state, Epoch(evaluation)


class MeanOperator(AbstractOperator):
    def __call__(self, state):
        return jnp.mean(state["concentration"] ** 2)


class MeanSquare(AbstractObservation):
    """One number an instant."""

    data: str = eqx.field(static=True)
    noise: Any = None

    def prepare(self, grid, dataset=None) -> MeanOperator:
        return MeanOperator()


@pytest.fixture
def observed(dataset, system) -> Observations:
    values = (dataset["concentration"] ** 2).mean("x")
    values.attrs = {"units": "1", "long_name": "mean square"}
    data = dataset.assign(square=values)
    return Observations.of(system, data, "0:2", TIMES, observe=[MeanSquare("square")])


def stages(batches: Batching = Batching()) -> list[ipd.Stage]:  # noqa: B008
    return [ipd.Stage(SignDescent(), 4, batches=batches)]


@pytest.mark.thorough
@pytest.mark.parametrize("batches", [Batching(), Batching(samples=1)])
def test_it_goes_on_from_a_checkpoint_digit_for_digit(system, observed, tmp_path: Path, batches):
    expected, whole = train(system, observed, stages(batches))
    assert [record.stage for record in whole] == ["signdescent"] * 4
    assert [record.learning_rate for record in whole] == [None] * 4
    assert whole[-1].loss < whole[0].loss
    checkpoints = Checkpoints(tmp_path, every=2)
    with pytest.raises(Killed):
        train(system, observed, stages(batches), stop_at=4, checkpoints=checkpoints)
    found, rest = train(system, observed, stages(batches), checkpoints=checkpoints)
    assert history(rest) == history(whole)[2:]
    assert eqx.tree_equal(found, expected)


def test_what_it_freezes_stays(system, observed):
    name = latents_of(system)[0].names[0]
    with pytest.raises(InputError, match="nothing to learn"):
        train(system, observed, [ipd.Stage(SignDescent(), 1, freeze=name)])


@pytest.mark.thorough
def test_a_rescue_halves_steps_under_it(system, observed):
    scarce = CrankNicolson(
        ipd.solvers.Affine(ipd.solvers.BiCGStab(1e-6, max_steps=2), ipd.solvers.BiCGStab(1e-5))
    )
    rescue = ipd.optimisers.Rescue(max_halvings=5)
    _, records = train(system, observed, stages(), stepper=scarce, rescue=rescue)
    assert [record.epoch for record in records] == [1, 2, 3, 4]
    assert {failure.remedy for failure in records[0].failures} == {"step halved"}


@pytest.mark.thorough
def test_an_early_stop_keeps_the_arrays_whose_loss_was_lowest(system, observed):
    """The loss of an update is by default that before it."""
    stopping = ipd.Validation(early_stopping=ipd.optimisers.EarlyStopping(2))
    stage = [ipd.Stage(SignDescent(rate=0.3), 9)]
    trained, records = train(system, observed, stage, validation=stopping)
    again, first = train(trained, observed, [ipd.Stage(SignDescent(), 1)])
    assert first[0].loss == pytest.approx(min(record.loss for record in records), rel=1e-3)


@pytest.mark.thorough
def test_its_gradient_is_planned(dataset, system):
    values = (dataset["concentration"] ** 2).mean("x")
    values.attrs = {"units": "1", "long_name": "mean square"}
    data = dataset.assign(square=values)
    how: dict[str, Any] = {"times": TIMES, "observe": [MeanSquare("square")]}
    found = ipd.plan(system, data, dt=DT, memory="1GiB", calibrate=False, **how)
    assert all(policy.fits for policy in found.policies)
    trained = ipd.fit(system, data, dt=DT, stages=stages(), **how)
    assert np.isfinite(trained.latents()["advection_x"]).all()
