"""Progressive tolerance: loose first, tight at the end, and the same after an interrupt."""

from pathlib import Path

import pytest
from small_problem import DT

from impindiff import InputError
from impindiff.train import (
    LBFGS,
    Adam,
    Checkpoints,
    EpochRecord,
    FitOptions,
    ProgressiveTolerance,
    Stage,
    Trainer,
)
from impindiff.train._adaptation import Adaptation

SCHEDULE = ProgressiveTolerance(window=2, settled=0.5)


def train(system, observations, stages, schedule, watch=None, **options) -> list[EpochRecord]:
    records: list[EpochRecord] = []
    options["watch"] = watch or records.append
    given = FitOptions(progressive_tolerance=schedule, **options)
    Trainer(system, observations, DT, stages, given).run(resume="checkpoints" in options)
    return records


def test_it_tightens_where_the_loss_settles_and_only_there():
    schedule = ProgressiveTolerance(start=1e-2, last=1e-3, window=2, settled=0.1)
    now = schedule.begin(Adaptation())
    for loss in (1.0, 0.5, 0.2):
        now = schedule.after(now, loss)
    assert now.rtol == 1e-2
    now = schedule.after(schedule.after(now, 0.19), 0.19)
    assert now.rtol == pytest.approx(1e-3) and now.losses == ()
    for _ in range(3):
        now = schedule.after(now, 0.19)
    assert now.rtol == 0 and not now.is_loose
    # The solvers' own, for good.
    assert schedule.after(now, 0.19) == now
    assert schedule.begin(now.for_next_stage()).rtol == 0


@pytest.mark.slow
def test_training_begins_loose_and_ends_tight(system, observations):
    stages = [Stage(Adam(learning_rate=1e-3), 12), Stage(LBFGS(), 30)]
    records = train(system, observations, stages, SCHEDULE)
    tolerances = [r.rtol for r in records]
    assert tolerances[0] == 1e-2 and tolerances[-1] is None
    given = [t or 0.0 for t in tolerances]
    assert given == sorted(given, reverse=True)
    assert records[0].solver_iterations < records[-1].solver_iterations
    plain = train(system, observations, stages, None)
    assert all(r.rtol is None for r in plain)
    assert records[-1].loss < 2 * plain[-1].loss + 1e-8


@pytest.mark.slow
def test_a_line_search_that_stalls_on_loose_solves_goes_on_with_tight_ones(system, observations):
    never_settled = ProgressiveTolerance(start=0.5, window=1000)
    records = train(system, observations, [Stage(LBFGS(), 60)], never_settled)
    assert records[-1].rtol is None or len(records) == 60


@pytest.mark.slow
def test_an_interrupt_changes_no_digit(system, observations, tmp_path: Path):
    stages = [Stage(Adam(learning_rate=1e-3), 4), Stage(LBFGS(), 6)]
    whole = train(system, observations, stages, SCHEDULE)
    seen: list[EpochRecord] = []

    def interrupt(record: EpochRecord) -> None:
        seen.append(record)
        if record.epoch in (3, 7) and [r.epoch for r in seen].count(record.epoch) == 1:
            raise KeyboardInterrupt

    options = {"checkpoints": Checkpoints(tmp_path)}
    for _ in range(2):
        with pytest.raises(KeyboardInterrupt):
            train(system, observations, stages, SCHEDULE, interrupt, **options)
    train(system, observations, stages, SCHEDULE, interrupt, **options)
    found = {r.epoch: (r.loss, r.rtol) for r in seen}
    assert found == {r.epoch: (r.loss, r.rtol) for r in whole}


@pytest.mark.parametrize(
    "arguments", [{"start": 1.0}, {"factor": 1.0}, {"last": 0.1}, {"window": 0}, {"settled": 0.0}]
)
def test_refusals(arguments):
    with pytest.raises(InputError, match="0 < last <= start < 1"):
        ProgressiveTolerance(**arguments)
