"""A training that was stopped and went on is the one that was never stopped, digit for digit."""

from functools import partial
from pathlib import Path

import equinox as eqx
import numpy as np
import pytest
from small_problem import DT

import impindiff as ipd
from impindiff import InputError
from impindiff.data import to_dataset
from impindiff.latent import SineField
from impindiff.observe import WeightDecay
from impindiff.train import LBFGS, Adam, Checkpoints, EpochRecord, FitOptions, Stage, Trainer, fit
from impindiff.train._task import Task

# L-BFGS ends by a stall, after about a hundred epochs.
ADAM, LBFGS_ = Stage(Adam(learning_rate=1e-2), 6), Stage(LBFGS(), 200)
STAGES = {"adam": [ADAM], "lbfgs": [LBFGS_], "adam then lbfgs": [ADAM, LBFGS_]}


class Killed(BaseException):
    """A death that saves nothing."""


class Run:
    """A training that may be stopped and gone on with."""

    def __init__(self, system, observations, stages, folder: Path, every: int = 20) -> None:
        self.trainer = partial(Trainer, system, observations, DT, stages)
        self.folder, self.every = folder, every
        self.history: list[tuple] = []

    def train(self, stop_at: int | None = None, how: type[BaseException] = KeyboardInterrupt):
        """To the end, or to where `stop_at` epochs are done and the next is about to be."""
        checkpoints = Checkpoints(self.folder, self.every)
        progress = checkpoints.progress()
        self.history = self.history[: progress.epoch if progress else 0]

        def watch(record: EpochRecord) -> None:
            if record.epoch == stop_at:
                raise how
            self.history.append(tuple(record.model_dump(exclude={"seconds"}).values()))

        options = FitOptions(watch=watch, checkpoints=checkpoints)
        return self.trainer(options).run(resume=True)


@pytest.fixture
def make_run(system, observations, tmp_path: Path):
    return lambda name, stages, **options: Run(
        system, observations, stages, tmp_path / name, **options
    )


@pytest.mark.thorough
@pytest.mark.parametrize(
    "name, stops",
    [
        ("adam", [1]),
        pytest.param("adam", [4, 6], marks=pytest.mark.slow),
        ("lbfgs", [3, 45]),
        pytest.param("adam then lbfgs", [6, 7], marks=pytest.mark.slow),
        ("adam then lbfgs", [3, 8, 30]),
    ],
)
@pytest.mark.parametrize("how", [KeyboardInterrupt, pytest.param(Killed, marks=pytest.mark.slow)])
def test_the_history_is_the_same(make_run, name: str, stops: list[int], how):
    whole, stopped = make_run("whole", STAGES[name]), make_run("stopped", STAGES[name])
    expected = whole.train()
    for stop in stops:
        with pytest.raises(how):
            stopped.train(stop, how)
        done = Checkpoints(stopped.folder).progress()
        if how is KeyboardInterrupt:
            assert done is not None and done.epoch == stop - 1
        elif done is not None:
            assert stop - 1 - done.epoch < stopped.every
    found = stopped.train()
    assert stopped.history == whole.history
    assert eqx.tree_equal(found, expected)


@pytest.mark.slow
def test_a_stall_is_come_to_again(make_run):
    stages = [LBFGS_, ADAM]
    whole, stopped = make_run("whole", stages), make_run("stopped", stages)
    whole.train()
    num_first = sum(record[1] == "lbfgs" for record in whole.history)
    assert num_first < LBFGS_.epochs, "the first stage was to end with a stall"
    assert len(whole.history) == num_first + ADAM.epochs
    for stop in (num_first, num_first + 1, num_first + 2):
        with pytest.raises(KeyboardInterrupt):
            stopped.train(stop)
    stopped.train()
    assert stopped.history == whole.history


@pytest.mark.thorough
def test_what_is_saved_on_the_way_is_of_the_epoch_asked_for(make_run):
    """After a death that saves nothing: every fourth epoch of all, whatever the stage."""
    stages = [Stage(Adam(learning_rate=1e-2), 2), ADAM]
    run = make_run("run", stages, every=4)
    for stop, saved in ((4, 2), (8, 4)):
        with pytest.raises(Killed):
            run.train(stop, Killed)
        progress = Checkpoints(run.folder).progress()
        assert progress is not None and progress.epoch == saved
        assert (progress.stage, progress.stage_epoch) == (1, saved - 2)


@pytest.mark.thorough
def test_seconds_go_on_from_those_of_the_checkpoint(make_run, monkeypatch):
    run = make_run("run", STAGES["adam"])
    with pytest.raises(KeyboardInterrupt):
        run.train(4)
    found, seconds = Checkpoints.progress, []

    def long_ago(self):
        progress = found(self)
        return None if progress is None else progress.model_copy(update={"seconds": 1000.0})

    monkeypatch.setattr(Checkpoints, "progress", long_ago)
    options = FitOptions(
        watch=lambda record: seconds.append(record.seconds), checkpoints=Checkpoints(run.folder)
    )
    run.trainer(options).run(resume=True)
    assert 1000 < seconds[0] < seconds[1] < seconds[2] < 1600
    monkeypatch.undo()
    progress = Checkpoints(run.folder).progress()
    assert progress is not None and progress.seconds >= seconds[-1]


def test_what_is_finished_is_not_trained_again(make_run):
    run = make_run("run", STAGES["adam"])
    expected = run.train()
    history = list(run.history)
    again = run.train()
    assert run.history == history
    assert eqx.tree_equal(again, expected)
    progress = Checkpoints(run.folder).progress()
    assert progress is not None and progress.finished and progress.epoch == 6


def test_without_resume_training_begins_anew(make_run):
    run = make_run("run", STAGES["adam"])
    run.train()
    records = []
    options = FitOptions(watch=records.append, checkpoints=Checkpoints(run.folder))
    run.trainer(options).run()
    assert [record.epoch for record in records] == [1, 2, 3, 4, 5, 6]


@pytest.mark.thorough
def test_fit_goes_on_from_its_folder(dataset, system, tmp_path: Path):
    def run(watch):
        return fit(
            system,
            dataset,
            samples="0:2",
            times=[0.1],
            dt=DT,
            stages=[ADAM],
            options=FitOptions(watch=watch, checkpoints=tmp_path),
        )

    def stop(record: EpochRecord) -> None:
        if record.epoch == 4:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run(stop)
    records = []
    run(records.append)
    assert [record.epoch for record in records] == [4, 5, 6]


def test_another_model_is_refused(make_run, system, observations):
    import jax

    run = make_run("run", STAGES["adam"])
    run.train()
    wider = SineField(1, ("advection_x",), width=5, depth=1, key=jax.random.key(0))
    (advection, diffusion) = system.equations["concentration"]
    other = eqx.tree_at(lambda s: s.equations["concentration"][0].velocity, system, wider)
    with pytest.raises(InputError, match=r"the shape of .* is \(.*4.*\), expected is \(.*5.*\)"):
        Run(other, observations, STAGES["adam"], run.folder).train()


DECAY_TIMES = [0.0, 0.5, 1.0]


def decay(first: float, known: float, start: float = 0.0, sigma: float = 0.1):
    """Fitted to exp(-(rate + known) t), of samples that begin at 1 and at 2."""

    def fitted(rate: float, folder: Path, *, learned: float = 0.5, **changed) -> float:
        times = start + np.array(DECAY_TIMES)
        begin = np.array([first, 2.0])[:, None]
        data = to_dataset(None, times, {"c": begin * np.exp(-(rate + known) * (times - start))})
        unknown = ipd.Parameter("rate", learned, (0.0, np.inf))
        term = ipd.Reaction(lambda c, rate, known: -(rate + known) * c)
        coefficients = {"rate": unknown, "known": known}
        system = ipd.System(None, {"c": ipd.Field([term])}, coefficients=coefficients)
        given = {"observe": [ipd.Cells("c", noise=sigma)], "dt": 0.05} | changed
        options = FitOptions(checkpoints=folder)
        trained = fit(system, data, options=options, **given)
        return float(np.mean(trained.latents()["rate"]))

    return fitted


def test_other_data_or_known_numbers_do_not_go_on_from_a_checkpoint(tmp_path: Path):
    """The training at hand had come to its end, and would look at nothing."""
    first = decay(1.0, 0.2)
    assert first(1.0, tmp_path) == pytest.approx(1.0, rel=5e-3)
    # The same again, be it from another start, is what was learned.
    assert first(1.0, tmp_path) == first(1.0, tmp_path, learned=0.7)
    for other in (
        lambda: first(2.0, tmp_path),
        lambda: first(1.0, tmp_path, times=[1.0]),
        lambda: first(1.0, tmp_path, samples="1,0"),
        lambda: first(1.0, tmp_path, regularise=[WeightDecay(1e-3)]),
        lambda: decay(1.0, 0.2, sigma=0.2)(1.0, tmp_path),
        lambda: decay(3.0, 0.2)(1.0, tmp_path),
        lambda: decay(1.0, 0.2, start=5.0)(1.0, tmp_path),
    ):
        with pytest.raises(InputError, match="is of a training on other data .* another folder"):
            other()
    # With another known rate the same sum: the data are those that they were.
    with pytest.raises(InputError, match="training on a system with other known numbers"):
        decay(1.0, 0.3)(0.9, tmp_path)
    assert first(2.0, tmp_path / "other") == pytest.approx(2.0, rel=5e-3)


@pytest.mark.parametrize(
    "mine, theirs, is_same",
    [
        (1.0, 1.0 + 1e-7, True),
        (1.0, 1.001, False),
        (1.0, -1.0, False),
        ([0.0, 1.0], [1.0, 0.0], False),
        ([0.0, 1.0], [1e-17, 1.0], True),
        ([1.0], [1.0, 1.0], False),
        (0.0, 0.0, True),
        (0.0, 1e-30, False),
        (np.nan, np.nan, True),
    ],
)
def test_known_numbers_are_told_apart_beyond_round_off(observations, mine, theirs, is_same: bool):
    tasks = [Task.of(observations, {"k": np.array(each)}, {}) for each in (mine, theirs)]
    assert (tasks[0].difference(tasks[1]) is None) == is_same
