"""Training data in batches: every datum once an epoch, and the same loss and gradient in sum."""

import equinox as eqx
import jax
import numpy as np
import pytest
import xarray as xr
from small_problem import DT, make_dataset, make_system

import impindiff as ipd
from impindiff._errors import InputError, NumericsError
from impindiff.integrate import CrankNicolson
from impindiff.latent import learned
from impindiff.observe import squared_misfit
from impindiff.rollout import simulate
from impindiff.train import (
    LBFGS,
    Adam,
    Batches,
    Batching,
    Checkpoints,
    FitOptions,
    Observations,
    Rescue,
    Stage,
    Trainer,
    Work,
    whole,
)
from impindiff.train._batches import parts_of

TIMES = [0.05, 0.1, 0.2]


@pytest.fixture(scope="module")
def dataset():
    return make_dataset((12,), num_samples=5)


@pytest.fixture(scope="module")
def system(dataset):
    return make_system(ipd.grid_of(dataset, "concentration"))


@pytest.fixture(scope="module")
def observations(dataset, system):
    return Observations.of(system, dataset, ":", TIMES, np.float64)


def batches_of(observations, samples, window) -> Batches:
    data = Batches.make(observations, DT, Batching(samples, window))
    assert isinstance(data, Batches)
    return data


@pytest.mark.thorough
@pytest.mark.parametrize("samples, window, num_windows", [(2, None, 1), (5, 1, 3), (3, 2, 2)])
def test_every_sample_in_every_window_once_an_epoch(observations, samples, window, num_windows):
    batches = batches_of(observations, samples, window)
    order = batches.order((0, 1))
    active = np.asarray(order.active)
    assert order.samples.shape[1] == samples
    windows = np.broadcast_to(np.asarray(order.window)[:, None], active.shape)
    seen = sorted(zip(windows[active], np.asarray(order.samples)[active], strict=True))
    assert seen == [(w, s) for w in range(num_windows) for s in range(5)]
    again, other = batches.order((0, 1)), batches.order((0, 2))
    np.testing.assert_array_equal(again.samples, order.samples)
    assert not np.array_equal(other.samples, order.samples)
    drawn = [batches.order((0, epoch)) for epoch in range(5)]
    in_a_row = [np.array_equal(each.window, np.sort(each.window)) for each in drawn]
    assert all(in_a_row) == (num_windows == 1), "windows come in random order, too"
    for each in drawn:
        assert each.active.sum() == 5 * num_windows
        # In a batch that is not full the others are of its own window, and count for nothing.
        for window, samples in zip(each.window, each.samples, strict=True):
            batch = batches.take(int(window), np.asarray(samples))
            assert float(batch.time_grid.starts[0]) == float(batches.grids[int(window)].starts[0])


def test_a_window_begins_at_an_observed_state_and_ends_with_the_next(observations):
    batches = batches_of(observations, 5, 2)
    everyone = np.arange(5)
    field = "concentration"
    for window in (0, 1):
        batch = batches.take(window, everyone)
        all_states = np.concatenate(
            [observations.initial[field][:, None], observations.observed[field]], axis=1
        )
        np.testing.assert_array_equal(batch.initial[field], all_states[:, window])
        np.testing.assert_array_equal(batch.observed[field], all_states[:, window + 1 : window + 3])
        grid = batches.grids[window]
        clock = [0.0, *TIMES]
        np.testing.assert_allclose(grid.saved, clock[window + 1 : window + 3])
        assert grid.starts[0] == clock[window]
        assert grid.lengths.max() <= DT * (1 + 1e-6)
    assert batches.grids[0].num_steps == batches.grids[1].num_steps


@pytest.mark.thorough
def test_the_truth_fits_every_window(observations, dataset, system):
    """Data made by the scheme are met by it from whichever time on."""
    names = [f"advection_{axis}" for axis in system.grid.names]
    velocity = np.stack([dataset[name].values for name in names])
    truth = ipd.advection_diffusion(system.grid, velocity, 0.02)
    batches = batches_of(observations, 5, 1)

    def predicted(batch):
        def one(initial):
            return simulate(truth, initial, batch.time_grid, CrankNicolson()).states

        return jax.vmap(one)(batch.initial)

    for window in range(3):
        batch = batches.take(window, np.arange(5))
        # The data are in single precision, and shorter spans take shorter steps here.
        assert squared_misfit(predicted(batch), batch.observed) < 1e-8


@pytest.mark.thorough
@pytest.mark.parametrize(
    "at_once", [pytest.param(n, marks=[pytest.mark.slow] * (n < 5)) for n in (1, 2, 5, 9)]
)
def test_parts_of_a_batch_add_up_to_it(observations, system, at_once):
    arrays, frozen = eqx.partition(system, learned(system))
    gaps = observations.observed["concentration"].at[1, :, 3:5].set(np.nan)
    holed = eqx.tree_at(lambda o: o.observed, observations, {"concentration": gaps})
    work = [
        Work(arrays, frozen, whole(holed, DT), CrankNicolson(), count) for count in (None, at_once)
    ]
    expected, found = (eqx.filter_jit(lambda w: w.evaluate(ipd.memory.KeepAll()))(w) for w in work)
    np.testing.assert_allclose(found.loss, expected.loss, rtol=1e-6)
    for some, all_ in zip(*(jax.tree.leaves(e.gradient) for e in (found, expected)), strict=True):
        np.testing.assert_allclose(some, all_, rtol=0, atol=2e-5 * np.abs(all_).max())
    np.testing.assert_array_equal(found.outcome.iterations, expected.outcome.iterations)
    np.testing.assert_array_equal(found.adjoint[:, 0], expected.adjoint[:, 0])


def test_what_fills_the_last_part_up_was_not_observed(observations):
    """Five samples in parts of two: the sixth begins as the first does, and counts for nothing."""
    batch = whole(observations, DT)
    parts, field = parts_of(batch, 2), "concentration"
    for name, values in (("initial", batch.initial), ("observed", batch.observed)):
        found = np.asarray(getattr(parts, name)[field])
        assert found.shape[:2] == (3, 2)
        np.testing.assert_array_equal(found.reshape(6, *found.shape[2:])[:5], values[field])
    np.testing.assert_array_equal(parts.initial[field][2, 1], batch.initial[field][0])
    assert np.isnan(parts.observed[field][2, 1]).all()
    assert not np.isnan(parts.observed[field][2, 0]).any()


@pytest.mark.slow
def test_states_of_fewer_samples_take_less_memory(observations, system):
    arrays, frozen = eqx.partition(system, learned(system))
    all_, one = (
        ipd.train.gradient_bytes(
            Work(arrays, frozen, whole(observations, 1e-3), CrankNicolson(), count),
            ipd.memory.KeepAll(),
        )
        for count in (None, 1)
    )
    steps, a_state = 200, 12 * 8
    assert all_ - one > 0.9 * 4 * steps * a_state


def run(system, observations, stages, **options):
    records = []
    given = FitOptions(watch=records.append, **options)
    Trainer(system, observations, DT, stages, given).run(resume="checkpoints" in options)
    return records


@pytest.mark.thorough
def test_a_batch_that_fails_does_not_make_others_fail(observations, system):
    """The error names the sample whose fields are not finite, whichever batch comes first."""
    for bad in (0, 4):
        broken = observations.initial["concentration"].at[bad, 0].set(np.nan)
        spoilt = eqx.tree_at(lambda o: o.initial, observations, {"concentration": broken})
        with pytest.raises(NumericsError, match=rf"epoch 1: step 1 of .* sample {bad}: .*4 of 20"):
            run(system, spoilt, [Stage(Adam(), 1, batches=Batching(samples=1))])


def test_one_window_of_all_times_takes_the_steps_of_the_whole(observations):
    batches = batches_of(observations, 2, 3)
    assert batches.grids[0].num_steps == observations.time_grid(DT).num_steps == 4


def test_an_update_a_batch(observations, system):
    """Adam's own arithmetic: an epoch of batches is that many updates, at one rate."""
    stage = Stage(Adam(learning_rate=1e-2), 8, batches=Batching(2, 1))
    records = run(system, observations, [stage])
    whole_ = run(system, observations, [Stage(Adam(learning_rate=1e-2), 8)])
    assert [r.learning_rate for r in records] == [r.learning_rate for r in whole_]
    assert records[-1].loss < 0.5 * records[0].loss
    assert records[-1].loss < whole_[-1].loss, "nine updates for each of the others"


@pytest.mark.slow
def test_batches_go_on_where_they_were_interrupted(observations, system, tmp_path):
    stage = Stage(Adam(learning_rate=1e-2), 4, batches=Batching(2, 2))
    expected = run(system, observations, [stage], seed=3)
    seen = []

    def interrupt(record):
        seen.append(record)
        if record.epoch == 2:
            raise KeyboardInterrupt

    options = {"seed": 3, "checkpoints": Checkpoints(tmp_path)}
    given = FitOptions(watch=interrupt, **options)
    with pytest.raises(KeyboardInterrupt):
        Trainer(system, observations, DT, [stage], given).run()
    seen += run(system, observations, [stage], **options)
    losses = {record.epoch: record.loss for record in seen}
    assert [losses[n] for n in range(1, 5)] == [record.loss for record in expected]


@pytest.mark.parametrize(
    "batching, told",
    [
        (Batching(samples=6), "samples = 6 of 5 samples: give at most 5"),
        (Batching(window=4), "window = 4 of 3 observed times: give at most 3"),
    ],
)
def test_more_than_there_is(observations, system, batching, told):
    with pytest.raises(InputError, match=told):
        run(system, observations, [Stage(Adam(), 1, batches=batching)])


@pytest.mark.parametrize("options", [{"samples": 0}, {"window": -1}])
def test_nothing_in_a_batch(options):
    with pytest.raises(InputError, match="at least 1"):
        Batching(**options)


@pytest.mark.thorough
def test_a_window_cannot_begin_where_something_was_not_observed(observations, system):
    gap = observations.observed["concentration"].at[3, 1, 0].set(np.nan)
    holed = eqx.tree_at(lambda o: o.observed, observations, {"concentration": gap})
    run(system, holed, [Stage(Adam(), 1, batches=Batching(samples=2))])
    with pytest.raises(InputError, match=r"begin at t = 0\.1.*sample 3 was not observed"):
        run(system, holed, [Stage(Adam(), 1, batches=Batching(window=1))])


def test_what_does_not_go_together(observations, system):
    windowed = Stage(Adam(), 1, batches=Batching(window=1))
    with pytest.raises(InputError, match="leave out the rescue, or the window"):
        run(system, observations, [windowed], rescue=Rescue())
    with pytest.raises(InputError, match="samples_at_once of FitOptions is 0"):
        run(system, observations, [Stage(LBFGS(), 1)], samples_at_once=0)


def _rate_learned_from(slopes: list[list[float]], noise: float | None, **parts: int) -> float:
    """Of u' = r, from 0, by readings at t = 1, 2, ... of each sample, NaN where there is none."""
    readings = np.array(slopes)
    times = np.arange(readings.shape[1] + 1.0)
    values = np.concatenate([np.zeros((len(slopes), 1)), readings], axis=1)
    data = xr.Dataset({"u": (("sample", "time"), values)}, {"time": times})
    system = ipd.System(None, {"u": [ipd.Source(ipd.Parameter("r", 1.0, (0.0, 9.0)))]})
    stages = [Stage(Adam(learning_rate=0.03), 400, batches=Batching(**parts))]
    observe = [ipd.observations.Cells("u", noise=noise)]
    return float(ipd.fit(system, data, dt=1.0, observe=observe, stages=stages).latents()["r"])


@pytest.mark.parametrize("noise", [None, 0.1])
def test_each_reading_weighs_in_parts_what_it_weighs_in_all(noise):
    """Four readings of slope 1 and one of slope 2, at t = 1: the least squares of all."""
    slopes = [[1.0, 2.0, 3.0, 4.0], [2.0, np.nan, np.nan, np.nan]]
    least = (1 + 4 + 9 + 16 + 2) / (1 + 4 + 9 + 16 + 1)
    assert _rate_learned_from(slopes, noise, samples=1) == pytest.approx(least, rel=5e-3)


@pytest.mark.parametrize("noise", [None, 0.1])
def test_windows_of_large_values_weigh_no_less(noise):
    """Each begins at what was observed: the mean of the increments 1, 2 and 6."""
    assert _rate_learned_from([[1.0, 3.0, 9.0]], noise, window=1) == pytest.approx(3.0, rel=5e-3)


@pytest.mark.thorough
def test_the_mean_over_parts_is_the_misfit_of_all(system, dataset):
    """Whatever is missing, and however the last part is filled up."""
    holed = dataset.copy(deep=True)
    holed["concentration"][3, 2:] = np.nan
    observations = Observations.of(system, holed, ":", TIMES, np.float64)
    # So small a rate changes nothing between the parts.
    adam, parts = Adam(learning_rate=1e-12), (Batching(), Batching(samples=2), Batching(samples=3))
    losses = [run(system, observations, [Stage(adam, 1, batches=each)])[0].loss for each in parts]
    np.testing.assert_allclose(losses, losses[0], rtol=1e-8)
