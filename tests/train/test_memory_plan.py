"""Memory as a budget: what is chosen, that it holds, and that nothing else changes."""

import inspect
import json
import re

import equinox as eqx
import jax
import numpy as np
import pytest
from small_problem import make_dataset, make_system

import impindiff as ipd
from impindiff.rollout import KeepAll, least_steps
from impindiff.train import Observations, Work, gradient_bytes, whole
from impindiff.train._memory_plan import choose_policy, within_budget

FULL = 10_000


def affine(policy) -> int:
    """What policies need if a state takes 10 bytes."""
    return FULL if isinstance(policy, KeepAll) else 100 + 10 * policy.count


@pytest.mark.parametrize("budget", [100, 105, 110, 119, 120, 555, 1000, 1099, 1100, FULL - 1])
def test_a_budget_is_filled_and_not_exceeded(budget: int):
    policy, needed = within_budget(affine, 100, budget)
    assert needed == affine(policy)
    most = max((k for k in range(1, 101) if affine(ipd.memory.Snapshots(k)) <= budget), default=1)
    assert policy == ipd.memory.Snapshots(most)


def test_with_memory_enough_all_is_kept():
    assert within_budget(affine, 100, FULL) == (KeepAll(), FULL)


@pytest.mark.parametrize("num_steps", [1, 2, 3])
def test_short_rollouts(num_steps: int):
    policy, _ = within_budget(affine, num_steps, 115)
    assert policy == (KeepAll() if num_steps == 1 else ipd.memory.Snapshots(1))


def test_bytes_that_are_not_quite_linear_still_stay_below():
    def needed(policy) -> int:
        return FULL if isinstance(policy, KeepAll) else 100 + 10 * policy.count + policy.count**2

    policy, found = within_budget(needed, 100, 2000)
    assert isinstance(policy, ipd.memory.Snapshots)
    assert found <= 2000 and policy.count > 20


@pytest.fixture(scope="module")
def problem():
    dataset = make_dataset()
    system = make_system(ipd.grid_of(dataset, "concentration"))
    given = {"samples": "0:2", "times": [0.1, 0.2], "dt": 2e-3}
    return system, dataset, given


def objective_of(problem, dtype=np.float64):
    system, dataset, given = problem
    fitted = given["samples"], given["times"], dtype
    observations = Observations.of(system, dataset, *fitted)
    learned, frozen = eqx.partition(system, eqx.is_inexact_array)
    return learned, frozen, observations


@pytest.mark.slow
def test_the_gradient_within_a_budget_is_that_of_all_states(problem):
    learned, frozen, observations = objective_of(problem)
    work = Work(learned, frozen, whole(observations, 2e-3), ipd.CrankNicolson())
    all_kept = gradient_bytes(work, KeepAll())
    budget = ipd.memory.MemoryBudget(int(0.6 * all_kept))
    policy = choose_policy(work, budget)
    assert isinstance(policy, ipd.memory.Snapshots) and 1 < policy.count < 100
    assert gradient_bytes(work, policy) <= budget.num_bytes

    def gradient(memory):
        return jax.tree.leaves(eqx.filter_jit(lambda work: work.evaluate(memory).gradient)(work))

    for found, expected in zip(gradient(policy), gradient(KeepAll()), strict=True):
        np.testing.assert_allclose(found, expected, rtol=0, atol=1e-9 * np.abs(expected).max())


@pytest.mark.slow
def test_a_budget_that_nothing_fits_is_refused_before_training(problem):
    system, dataset, given = problem
    with pytest.raises(
        ipd.InputError, match=r"budget of 3 KiB is too small: .* 100 steps needs"
    ) as e:
        ipd.fit(
            system, dataset, **given, options=ipd.FitOptions(memory=ipd.memory.MemoryBudget("3KiB"))
        )
    (advised,) = re.findall(r"needs (\d+KiB)", str(e.value))
    stages = [ipd.Stage(ipd.Adam(), 1)]
    ipd.fit(
        system,
        dataset,
        **given,
        stages=stages,
        options=ipd.FitOptions(memory=ipd.memory.MemoryBudget(advised)),
    )


def test_more_snapshots_than_steps_are_refused_before_training(problem):
    system, dataset, given = problem
    with pytest.raises(ipd.InputError, match=r"101 snapshots of 100 steps.*from 1 to 100"):
        ipd.fit(system, dataset, **given, options=ipd.FitOptions(memory=ipd.memory.Snapshots(101)))


@pytest.mark.parametrize("memory", ["2GiB", None, 3])
def test_what_is_no_policy_is_not_ignored(memory):
    """As without the type checks of the tests."""
    with pytest.raises(ipd.InputError, match="give KeepAll"):
        inspect.unwrap(choose_policy)(None, memory)
    with pytest.raises(ipd.InputError, match="a rollout takes KeepAll"):
        inspect.unwrap(ipd.simulate)(None, {}, None, None, memory=memory)


def test_a_plan_of_no_samples(problem):
    system, dataset, given = problem
    with pytest.raises(ipd.InputError, match="samples_at_once of FitOptions is 0"):
        ipd.plan(system, dataset, **given, options=ipd.FitOptions(samples_at_once=0))


@pytest.mark.slow
def test_training_with_few_states_goes_the_same_way(problem):
    system, dataset, given = problem
    ends = []
    for memory in (KeepAll(), ipd.memory.Snapshots(5)):
        losses: list[float] = []
        stages = [ipd.Stage(ipd.Adam(learning_rate=1e-2), 3), ipd.Stage(ipd.LBFGS(), 3)]
        given = {**given, "dt": 1e-2}
        ipd.fit(
            system,
            dataset,
            **given,
            stages=stages,
            options=ipd.FitOptions(
                memory=memory,
                dtype=np.float64,
                watch=lambda record, losses=losses: losses.append(record.loss),
            ),
        )
        ends.append(losses)
    np.testing.assert_allclose(ends[1], ends[0], rtol=1e-6)


@pytest.mark.slow
def test_a_plan_says_what_each_policy_takes(problem):
    system, dataset, given = problem
    plan = ipd.plan(system, dataset, **given, memory="1TiB", calibrate=False)
    again = ipd.plan(system, dataset, **given, memory=plan.policies[1].peak_bytes)
    assert json.loads(json.dumps(plan.as_dict())) == plan.as_dict()
    assert (plan.num_steps, plan.memory_bytes) == (100, 2**40)
    cells = dataset.sizes["x"] * dataset.sizes["y"]
    assert plan.state_bytes == 2 * cells * 4, "two samples in single precision"
    keep_all, snapshots, budget = plan.policies
    assert (keep_all.policy, snapshots.policy, budget.policy) == ("keep-all", "snapshots", "budget")
    assert keep_all.peak_bytes == budget.peak_bytes > snapshots.peak_bytes
    assert (keep_all.snapshots, keep_all.extra_forward_steps) == (100, 0)
    assert (snapshots.snapshots, snapshots.extra_forward_steps) == (10, least_steps(100, 10) - 99)
    assert all(policy.fits and policy.seconds is None for policy in plan.policies)
    assert [policy.fits for policy in again.policies] == [False, True, True]
    assert again.policies[2].snapshots >= 10
    seconds = [policy.seconds or 0.0 for policy in again.policies]
    assert min(seconds) > 0
    assert seconds[1] >= seconds[0]
