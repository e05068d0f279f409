"""Failed solves as data: steps halved, samples left out, and training that goes on."""

from dataclasses import replace
from pathlib import Path

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from small_problem import DT, make_dataset

from impindiff import InputError, NumericsError
from impindiff.implicit import Affine
from impindiff.integrate import CrankNicolson
from impindiff.latent import learned
from impindiff.linear import BiCGStab
from impindiff.rollout import TimeGrid
from impindiff.train import (
    LBFGS,
    Adam,
    Batching,
    Checkpoints,
    EpochRecord,
    FitOptions,
    Observations,
    Rescue,
    Stage,
    Trainer,
    make_objective,
    whole,
)
from impindiff.train._batches import WHOLE
from impindiff.train._objective import Trial

# Two iterations are too few for the whole step, and enough for one eighth of it.
SCARCE = CrankNicolson(Affine(BiCGStab(1e-6, max_steps=2), BiCGStab(1e-5)))
NONE = CrankNicolson(Affine(BiCGStab(1e-6, max_steps=1), BiCGStab(1e-5)))


def train(system, observations, stepper, stages, rescue, **options) -> list[EpochRecord]:
    records: list[EpochRecord] = []
    given = FitOptions(stepper=stepper, rescue=rescue, watch=records.append, **options)
    Trainer(system, observations, DT, stages, given).run()
    return records


def with_one_at_rest(system, sample: int) -> Observations:
    """A sample that is zero everywhere is solved without an iteration."""
    dataset = make_dataset((12,))
    dataset["concentration"][sample] = 0
    return Observations.of(system, dataset, "0:2", [0.1])


@pytest.mark.parametrize(
    "stage",
    [
        pytest.param(Stage(Adam(learning_rate=1e-3), 3), id="adam"),
        pytest.param(Stage(LBFGS(), 3), id="lbfgs", marks=pytest.mark.slow),
    ],
)
def test_steps_that_fail_are_halved_and_training_goes_on(system, observations, stage):
    records = train(system, observations, SCARCE, [stage], Rescue(max_halvings=5))
    assert [r.epoch for r in records] == [1, 2, 3]
    failures = records[0].failures
    assert failures and {f.remedy for f in failures} == {"step halved"}
    first = failures[0]
    assert first.step == 1 and first.reason == "max steps"
    assert first.time == pytest.approx(DT)
    assert first.relative_residual > 1e-6
    assert all(np.isfinite(r.loss) for r in records)


@pytest.mark.thorough
def test_without_a_rescue_it_ends(system, observations):
    with pytest.raises(NumericsError, match="epoch 1: step 1"):
        train(system, observations, SCARCE, [Stage(Adam(), 3)], None)


@pytest.mark.parametrize("sample, batching", [(0, WHOLE), (1, WHOLE), (0, Batching(samples=1))])
@pytest.mark.slow
def test_a_sample_that_nothing_helps_is_left_out(system, sample, batching):
    moving, stage = 1 - sample, Stage(Adam(), 2, batches=batching)
    records = train(system, with_one_at_rest(system, sample), NONE, [stage], Rescue(max_halvings=1))
    assert len(records) == 2
    remedies = [(f.sample, f.remedy) for f in records[0].failures]
    assert remedies == [(moving, "step halved"), (moving, "sample masked")]
    assert not records[1].failures


@pytest.mark.thorough
def test_not_more_samples_are_left_out_than_allowed(system, observations):
    with pytest.raises(NumericsError, match="epoch 1"):
        train(system, observations, NONE, [Stage(Adam(), 2)], Rescue(max_halvings=0))
    with pytest.raises(NumericsError, match="epoch 1"):
        train(system, with_one_at_rest(system, 0), NONE, [Stage(Adam(), 2)], Rescue(0, 0.4))


@pytest.mark.thorough
def test_an_adjoint_that_fails_masks_its_sample(system):
    stepper = CrankNicolson(Affine(BiCGStab(1e-6), BiCGStab(1e-12, max_steps=1)))
    records = train(system, with_one_at_rest(system, 1), stepper, [Stage(Adam(), 1)], Rescue())
    (failure,) = records[0].failures
    assert (failure.sample, failure.step) == (0, None)
    assert "adjoint" in failure.reason


@pytest.mark.thorough
def test_a_masked_sample_does_not_count(system, observations):
    """Loss and gradient are those of the other sample alone."""
    alone = Observations(
        {name: u[1:] for name, u in observations.initial.items()},
        {name: u[1:] for name, u in observations.observed.items()},
        observations.start,
        observations.times,
    )
    arrays, frozen = eqx.partition(system, learned(system))
    stepper = CrankNicolson(Affine(BiCGStab(1e-6)))
    trial = Trial(active=jnp.array([False, True]))
    masked = make_objective(frozen, whole(observations, DT), stepper, trial)(arrays)
    single = make_objective(frozen, whole(alone, DT), stepper)(arrays)
    np.testing.assert_allclose(masked.loss, single.loss, rtol=1e-5)
    for found, wanted in zip(
        *map(jax.tree.leaves, (masked.gradient, single.gradient)), strict=True
    ):
        np.testing.assert_allclose(found, wanted, rtol=1e-3, atol=1e-7)


@pytest.mark.slow
def test_what_was_halved_and_left_out_outlives_an_interrupt(system, tmp_path: Path):
    observations, rescue = with_one_at_rest(system, 1), Rescue(max_halvings=1)
    whole = train(system, observations, NONE, [Stage(Adam(), 4)], rescue)
    checkpoints, seen = Checkpoints(tmp_path), []

    def interrupt(record: EpochRecord) -> None:
        seen.append(record)
        if record.epoch == 2:
            raise KeyboardInterrupt

    stages = [Stage(Adam(), 4)]
    options = FitOptions(stepper=NONE, rescue=rescue, checkpoints=checkpoints)
    given = replace(options, watch=interrupt)
    with pytest.raises(KeyboardInterrupt):
        Trainer(system, observations, DT, stages, given).run()
    given = replace(options, watch=seen.append)
    Trainer(system, observations, DT, stages, given).run(resume=True)
    # The epoch whose record met the interrupt is not done, and is done again.
    losses = {r.epoch: r.loss for r in seen}
    assert [losses[r.epoch] for r in whole] == [r.loss for r in whole]
    assert not seen[-1].failures


@pytest.mark.parametrize("arguments", [{"max_halvings": -1}, {"max_masked_share": 1.0}])
def test_refusals(arguments):
    with pytest.raises(InputError, match="max_halvings must not be negative"):
        Rescue(**arguments)


class TestHalvedSteps:
    whole = TimeGrid.build(0.0, [0.2, 0.5], 0.1)

    def test_the_span_and_the_saved_times_stay(self):
        times = (0, 2, 0, 1, 0)
        halved = self.whole.halved(times)
        assert halved.num_steps == sum(2**n for n in times)
        ends = halved.starts + halved.lengths
        np.testing.assert_allclose(ends[:-1], halved.starts[1:])
        np.testing.assert_allclose(ends[halved.slots < 2], [0.2, 0.5])
        assert halved.lengths.sum() == pytest.approx(0.5)

    def test_none_is_halved_where_nothing_is_said(self):
        assert self.whole.halved(()) is self.whole
