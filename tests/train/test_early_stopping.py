"""A stage whose error no longer falls ends, and what was best is what comes of it."""

from pathlib import Path

import equinox as eqx
import pytest
from killed_run import Killed, history, train
from small_problem import DT

from impindiff import InputError
from impindiff.integrate import CrankNicolson
from impindiff.latent import learned as learned_mask
from impindiff.train import (
    LBFGS,
    Adam,
    Checkpoints,
    EarlyStopping,
    FitOptions,
    ProgressiveTolerance,
    Stage,
    Validation,
    fit,
    make_objective,
    whole,
)
from impindiff.train._early_stopping import Standing

# So large that the loss goes up and down.
ADAM = Stage(Adam(learning_rate=0.3, constant_share=1.0), 12)
LBFGS_ = Stage(LBFGS(), 4)


class Scripted:
    """A validation that gives one error after the other, and keeps what it was asked of."""

    def __init__(self, errors, done: int = 0):
        self.errors, self.seen = iter(errors[done:]), []

    def __call__(self, system):
        self.seen.append(system)
        return next(self.errors)


def follow(stopping: EarlyStopping, errors):
    """The epoch of the best error, and that in which the stage ends."""
    standing, best = Standing(), 0
    for epoch, error in enumerate(errors, start=1):
        standing, best = stopping.after(standing, best, epoch, error, epoch)
        if standing.is_over:
            return best, epoch
    return best, None


NAN, INF = float("nan"), float("inf")


@pytest.mark.parametrize(
    "stopping, errors, expected",
    [
        (EarlyStopping(2), [3, 2, 1, 1, 1, 0], (3, 5)),
        (EarlyStopping(2), [3, 2, 2, 1, 2, 0, 0, 0], (6, 8)),
        (EarlyStopping(2), [1, NAN, INF], (1, 3)),
        (EarlyStopping(3), [NAN, NAN, 1, 2], (3, None)),
        # Half a percent an epoch is less than one, but after two epochs it is not.
        (EarlyStopping(2, min_improvement=0.009), [1, 0.995, 0.990, 0.985], (4, None)),
        (EarlyStopping(2, min_improvement=0.02), [1, 0.995, 0.990, 0.5], (3, 3)),
    ],
)
def test_patience_is_counted_from_the_last_improvement(stopping, errors, expected):
    assert follow(stopping, errors) == expected


@pytest.mark.thorough
def test_the_best_by_validation_is_restored(system, observations):
    validate = Scripted([5.0, 3.0, 4.0, 3.5, 1.0])
    trained, records = train(
        system,
        observations,
        [ADAM],
        validation=Validation(validate, 2, EarlyStopping(4)),
    )
    # Best in epoch 4; epochs 6 and 8 are worse.
    assert [r.epoch for r in records if r.stopped_early] == [8] and len(records) == 8
    assert eqx.tree_equal(trained, validate.seen[1])


@pytest.mark.thorough
def test_the_next_stage_begins_with_the_best_and_must_be_better(system, observations):
    validate = Scripted([5.0, 1.0, 3.0, 3.0, *[2.0] * 9])
    validation = Validation(validate, 1, EarlyStopping(2))
    trained, records = train(system, observations, [ADAM, LBFGS_], validation=validation)
    assert [r.stage for r in records] == ["adam"] * 4 + ["lbfgs"] * 2
    assert eqx.tree_equal(trained, validate.seen[1])
    _, from_best = train(validate.seen[1], observations, [LBFGS_])
    assert records[4].loss == pytest.approx(from_best[0].loss, rel=1e-6)


def loss_of(system, observations):
    learned, frozen = eqx.partition(system, learned_mask(system))
    return float(make_objective(frozen, whole(observations, DT), CrankNicolson())(learned).loss)


@pytest.mark.thorough
@pytest.mark.parametrize("stages", [[ADAM], [LBFGS_]])
def test_without_a_validation_it_is_the_loss(system, observations, stages):
    """The arrays that are restored have the lowest loss there was."""
    trained, records = train(
        system, observations, stages, validation=Validation(early_stopping=EarlyStopping(3))
    )
    lowest = min(record.loss for record in records)
    assert loss_of(trained, observations) == pytest.approx(lowest, rel=1e-3)
    assert records[-1].stopped_early == (stages == [ADAM])


@pytest.mark.thorough
@pytest.mark.parametrize(
    "stop_at",
    [pytest.param(n, marks=[pytest.mark.slow] * (n in (5, 8, 9))) for n in (3, 5, 7, 8, 9, 10)],
)
def test_a_stopped_training_goes_on_digit_for_digit(system, observations, tmp_path: Path, stop_at):
    errors = [5.0, 1.0, 3.0, 2.0, 3.0, 3.0, 0.5, 0.7, 0.6, 0.8, 0.9]
    stages = [ADAM, Stage(LBFGS(), 9)]

    def validated(errors):
        return Validation(errors, 1, EarlyStopping(4))

    expected, records = train(system, observations, stages, validation=validated(Scripted(errors)))
    assert [r.epoch for r in records if r.stopped_early] == [6, 11]
    checkpoints = Checkpoints(tmp_path, every=2)
    with pytest.raises(Killed):
        options = {"checkpoints": checkpoints, "validation": validated(Scripted(errors))}
        train(system, observations, stages, stop_at, **options)
    progress = Checkpoints(tmp_path).progress()
    assert progress is not None
    again = Scripted(errors, progress.epoch)
    options = {"checkpoints": checkpoints, "validation": validated(again)}
    found, rest = train(system, observations, stages, **options)
    assert history(rest) == history(records)[progress.epoch :]
    assert eqx.tree_equal(found, expected)
    progress = Checkpoints(tmp_path).progress()
    assert progress is not None and progress.stopped_early and progress.finished


@pytest.mark.thorough
def test_loose_solves_are_not_counted(system, observations):
    tolerance = ProgressiveTolerance(start=1e-2, last=1e-2, window=5, settled=0.999)
    _, records = train(
        system,
        observations,
        [ADAM],
        progressive_tolerance=tolerance,
        validation=Validation(Scripted([1.0] * 20), 1, EarlyStopping(2)),
    )
    loose = [record.epoch for record in records if record.rtol]
    assert loose and records[-1].stopped_early and records[-1].epoch == loose[-1] + 3


@pytest.mark.thorough
def test_fit_stops_early(dataset, system):
    records = []
    fit(
        system,
        dataset,
        samples="0:2",
        times=[0.1],
        dt=DT,
        stages=[ADAM],
        options=FitOptions(
            watch=records.append,
            validation=Validation(
                error=Scripted([1.0, 2.0, 2.0]), every=2, early_stopping=EarlyStopping(2)
            ),
        ),
    )
    assert [record.validation for record in records] == [None, 1.0, None, 2.0]


@pytest.mark.parametrize(
    "make, said",
    [
        (lambda: EarlyStopping(0), "patience of EarlyStopping is 0: .* at least 1"),
        (lambda: EarlyStopping(1, 1.0), r"min_improvement must lie in \[0, 1\)"),
    ],
)
def test_what_would_always_stop_is_refused(make, said: str):
    with pytest.raises(InputError, match=said):
        make()
