"""Training by steps that follow their error: no step is given, and what is learned is as exact."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
import runtime_types
import xarray as xr
from small_problem import make_dataset

import impindiff as ipd
from impindiff import InputError, NumericsError
from impindiff.data import grid_of
from impindiff.latent import SineField
from impindiff.memory import MemoryBudget, Snapshots
from impindiff.steppers import ESDIRK3, StepControl, Tsitouras5
from impindiff.systems import advection_diffusion
from impindiff.train import (
    LBFGS,
    Adam,
    Batching,
    Checkpoints,
    EpochRecord,
    FitOptions,
    LevenbergMarquardt,
    Observations,
    Stage,
    fit,
    plan,
)
from impindiff.train._batches import WHOLE
from impindiff.train._time_steps import FollowingSteps, control_by_noise, finest, is_due

RATE = 0.7
GRID = ipd.Grid([ipd.Axis("x", 0.0, 1.0, 24)])
TIMES = np.array([0.0, 0.05, 0.2, 0.6])


def rod(rate: Any, offset: float = 290.0) -> ipd.System:
    """Heat in a rod between cold ends."""
    ends = {"x": ipd.Dirichlet(offset)}
    return ipd.System(GRID, {"T": ipd.Field([ipd.Diffusion(rate)], ends)})


def unknown(rate: float = 0.1, **how: Any) -> ipd.System:
    return rod(ipd.Parameter("k", rate, (0.0, 10.0)), **how)


def learned(system: ipd.System) -> float:
    return float(np.asarray(system.latents(0.0)["k"]).ravel()[0])


def measured(offset: float = 290.0, dtype: Any = np.float64) -> xr.Dataset:
    """The slowest mode of the scheme, by its closed form: its ends are half a cell away."""
    h, x = 1 / 24, np.asarray(GRID.centres()[0])
    decay = RATE * (2 * np.sin(np.pi * h / 2) / h) ** 2
    values = offset + np.exp(-decay * TIMES)[:, None] * np.sin(np.pi * x)
    return ipd.to_dataset(GRID, TIMES, {"T": values[None].astype(dtype)})


@pytest.mark.parametrize(
    "dtype, error", [(np.float64, 3e-6), pytest.param(np.float32, 1e-3, marks=pytest.mark.thorough)]
)
def test_a_rate_is_found_without_a_step(dtype: Any, error: float):
    found = learned(fit(unknown(), measured(dtype=dtype)))
    assert found == pytest.approx(RATE, rel=error)


@pytest.mark.thorough
def test_a_rate_is_found_by_explicit_steps():
    """It says that the rod is stiff."""
    options = FitOptions(stepper=Tsitouras5(4))
    with pytest.warns(RuntimeWarning, match="the system is stiff"):
        found = learned(fit(unknown(), measured(), options=options))
    assert found == pytest.approx(RATE, rel=1e-5)


@pytest.mark.thorough
def test_a_looser_tolerance_takes_fewer_steps_and_is_within_it():
    counts = []
    observations = Observations.of(unknown(), measured(0.0))
    for rtol in (1e-2, 1e-4, 1e-6):
        control = StepControl(rtol)
        options = FitOptions(control=control, stepper=ESDIRK3())
        found = fit(unknown(offset=0.0), measured(0.0), options=options)
        assert learned(found) == pytest.approx(RATE, rel=5 * rtol)
        steps = FollowingSteps(observations, WHOLE, ESDIRK3(), control)
        counts.append(len(steps.whole(steps.find(found)).lengths))
    assert counts[0] < counts[1] < counts[2]


@pytest.mark.thorough
def test_it_is_learned_from_windows_too():
    dataset = make_dataset((12,), times=(0.0, 0.05, 0.1, 0.15))
    grid = grid_of(dataset, "concentration")
    velocity = ipd.Parameter("advection_x", 0.2, (-3.0, 3.0))
    system = advection_diffusion(grid, velocity, 0.05)
    stages = [Stage(Adam(learning_rate=3e-2), 40, batches=Batching(window=2))]
    found = fit(system, dataset, stages=stages, options=FitOptions(control=StepControl(1e-4)))
    fixed = fit(system, dataset, stages=stages, dt=2e-3)
    one, other = (float(np.ravel(each.latents(0.0)["advection_x"])[0]) for each in (found, fixed))
    assert one == pytest.approx(other, abs=2e-3)


class Stopped(BaseException):
    """A death that saves nothing."""


@pytest.mark.thorough
@pytest.mark.parametrize("how", [KeyboardInterrupt, Stopped])
def test_going_on_is_as_never_having_stopped(tmp_path: Path, how: type[BaseException]):
    stages = [Stage(Adam(learning_rate=0.1), 9), Stage(LBFGS(), 12)]

    def train(folder: Path, stop_at: int | None = None) -> tuple[ipd.System, list]:
        seen = []

        def watch(record: EpochRecord) -> None:
            if record.epoch == stop_at:
                raise how
            seen.append((record.epoch, record.loss, record.solver_iterations))

        checkpoints = Checkpoints(folder, every=2)
        options = FitOptions(watch=watch, checkpoints=checkpoints, stepper=ESDIRK3())
        return fit(unknown(), measured(), stages=stages, options=options), seen

    expected, whole = train(tmp_path / "whole")
    for stop in (6, 13):
        with pytest.raises(how):
            train(tmp_path / "stopped", stop)
    found, rest = train(tmp_path / "stopped")
    assert rest == [record for record in whole if record[0] >= rest[0][0]]
    assert 9 < rest[0][0] <= 13
    assert eqx.tree_equal(found, expected)


@pytest.mark.thorough
@pytest.mark.parametrize("memory", [Snapshots(3), Snapshots(500), MemoryBudget("200KiB")])
def test_the_memory_may_be_limited(memory: Any):
    found = fit(unknown(), measured(), options=FitOptions(memory=memory))
    assert learned(found) == pytest.approx(learned(fit(unknown(), measured())), rel=1e-9)


@pytest.mark.thorough
def test_samples_start_where_they_say():
    """A start is learned, and a sample parameter tells the samples apart."""
    decay = lambda u, rate: -rate * u  # noqa: E731
    system = ipd.System(
        None,
        {"u": ipd.Field([ipd.Reaction(decay)], initial=ipd.Parameter("begin", 1.0, (0.1, 10.0)))},
        parameters=("rate",),
    )
    times, rates = np.array([0.0, 0.5, 2.0]), np.array([1.0, 3.0])
    values = 2.5 * np.exp(-rates[:, None] * times)
    data = ipd.to_dataset(None, times, {"u": values}, sample_parameters={"rate": rates})
    found = fit(system, data, start=0.0)
    assert float(found.latents(0.0)["begin"]) == pytest.approx(2.5, rel=1e-5)


def test_the_noise_loosens_the_tolerance():
    data = measured()
    readings = lambda std: Observations.of(  # noqa: E731
        unknown(), data, observe=[ipd.Cells("T", noise=std)]
    )
    spread = np.ptp(data["T"].values[:, 1:])
    # 3 % of the noise, between what the precision gives and 1e-3.
    for std, rtol in ((1e-2, 3e-4), (1e-8, 1e-6), (0.5, 1e-3)):
        found = control_by_noise(readings(float(std * spread))).relative(jnp.dtype(jnp.float64))
        assert found == pytest.approx(rtol, rel=1e-6)
    assert control_by_noise(Observations.of(unknown(), data)) == StepControl()


def decay(rate: Any) -> ipd.System:
    """$u' = -k u$, without a grid: compiled in no time."""
    fall = [ipd.Reaction(lambda u, k: -k * u)]
    return ipd.System(None, {"u": fall}, coefficients={"k": rate})


def decayed() -> xr.Dataset:
    return ipd.to_dataset(None, TIMES, {"u": np.exp(-RATE * TIMES)[None]})


def steps_for(control: StepControl) -> FollowingSteps:
    observations = Observations.of(decay(1.0), decayed())
    return FollowingSteps(observations, WHOLE, ESDIRK3(), control)


def test_steps_are_found_again_when_much_has_been_learned():
    assert [epochs for epochs in range(20) if is_due(epochs)] == [1, 2, 4, 8, 16]
    steps = steps_for(StepControl(1e-4, atol=1e-4))
    slow = steps.find(decay(0.1))
    fast = steps.find_again(decay(10.0), slow)
    few, many = (steps.whole(each) for each in (slow, fast))
    assert many.num_steps > few.num_steps
    # Fewer are as many as before, so that no other program is needed, until they are half.
    assert steps.whole(steps.find_again(decay(8.0), fast)).num_steps == many.num_steps
    assert steps.whole(steps.find_again(decay(0.1), fast)).num_steps < many.num_steps
    for grid in (few, many):
        ends = grid.starts + grid.lengths
        np.testing.assert_allclose(ends[grid.slots < 3], TIMES[1:], rtol=1e-15)
        np.testing.assert_allclose(grid.starts[1:], ends[:-1], rtol=1e-14)


def test_where_no_steps_are_found_the_old_ones_stay():
    steps = steps_for(StepControl(1e-6))
    known = (((0.05,), (0.15,), (0.4,)),)
    # Too fast for as many as eight times the steps.
    fast = decay(50.0)
    assert steps.find_again(fast, known) == known
    assert steps.whole(steps.find(fast)).num_steps > 8 * 3


@pytest.mark.thorough
def test_errors_that_add_up_are_told_of():
    """Each step is wrong by little, and growth makes much of that."""
    grow = lambda u: 12.0 * u  # noqa: E731
    system = ipd.System(None, {"u": [ipd.Reaction(grow)]})
    data = ipd.to_dataset(None, [0.0, 1.0], {"u": np.array([[1.0, np.exp(12.0)]])})
    steps = FollowingSteps(Observations.of(system, data), WHOLE, ESDIRK3(), StepControl(1e-3))
    for each in (steps, replace(steps, control=StepControl(1e-6))):
        grid = each.whole(each.find(system))
        found = ipd.simulate(system, {"u": jnp.ones(())}, grid, ESDIRK3()).states["u"][-1]
        error = abs(float(found) / np.exp(12.0) - 1)
        assert error / 3 < each.time_error(system) < 3 * error
        assert not each.remarks(system)
    loose = replace(steps, control=StepControl(1e-3, atol=100.0))
    (said,) = loose.remarks(system)
    assert "add up to" in said and "StepControl(0.0001)" in said


def test_what_steps_cannot_be_followed_by_is_refused():
    given = decay(ipd.Parameter("k", 1.0, (0.0, 10.0))), decayed()
    with pytest.raises(InputError, match="CrankNicolson|Theta.* no estimate of the error"):
        fit(*given, options=FitOptions(stepper=ipd.CrankNicolson()))
    wrong = pytest.raises(InputError, match=r"control is 0.001: give StepControl")
    with runtime_types.without(), wrong:
        FitOptions(control=1e-3)  # pyright: ignore[reportArgumentType]
    with pytest.raises(InputError, match="dt is 0.01, and control is given"):
        fit(*given, dt=0.01, options=FitOptions(control=StepControl(1e-3)))
    with pytest.raises(InputError, match="window = 9 of 3 observed times"):
        fit(*given, stages=[Stage(Adam(), 1, batches=Batching(window=9))])
    one = Stage(LevenbergMarquardt(), 1)
    with pytest.raises(NumericsError, match="max_steps"):
        fit(*given, stages=[one], options=FitOptions(control=StepControl(1e-6, max_steps=3)))


def test_a_plan_counts_the_steps_that_would_be_taken():
    control = StepControl(1e-4)
    system = decay(ipd.Parameter("k", 1.0, (0.0, 10.0)))
    options = FitOptions(control=control, stepper=ESDIRK3())
    found = plan(system, decayed(), memory="1GiB", calibrate=False, options=options)
    steps = steps_for(control)
    assert found.num_steps == steps.whole(steps.find(system)).num_steps > 3


@pytest.mark.thorough
def test_a_stage_may_have_a_step_of_its_own():
    velocity = SineField(1, ("advection_x",), width=4, depth=1, key=jax.random.key(0))
    dataset = make_dataset((12,))
    system = advection_diffusion(grid_of(dataset, "concentration"), velocity, 0.05)
    stages = [Stage(Adam(), 2, dt=0.01), Stage(LBFGS(), 2)]
    losses = []
    options = FitOptions(watch=lambda record: losses.append(record.loss))
    fit(system, dataset, samples="0:2", stages=stages, options=options)
    assert len(losses) == 4 and losses[-1] < losses[0]


@pytest.mark.thorough
def test_members_of_an_ensemble_share_the_steps_of_the_most_exacting():
    """From .1 the rod cools slowly, from 3 fast; all come to the closed form."""
    firsts = {0: 0.1, 1: 3.0}

    def make_system(key) -> ipd.System:
        seed = int(jax.random.key_data(key)[-1])
        return unknown(firsts[seed])

    found = ipd.train.fit_ensemble(
        make_system, measured(), seeds=(0, 1), stages=[Stage(LevenbergMarquardt(), 8)]
    )
    assert [learned(one) for one in found.members] == pytest.approx([RATE, RATE], rel=1e-3)


def test_the_finest_of_several_steps():
    few, many = (((0.5, 0.5), (1.0,)),), (((1.0,), (0.25, 0.25, 0.5)),)
    assert finest([few, many]) == (((0.5, 0.5), (0.25, 0.25, 0.5)),)
    assert finest([(), ()]) == ()
