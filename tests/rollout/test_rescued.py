"""Steps that fail are halved until they do not, and those alone; what nothing helps is told."""

from typing import Any, cast

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import runtime_types

import impindiff as ipd
from impindiff import InputError, NumericsError
from impindiff.implicit import Newton
from impindiff.integrate import BackwardEuler, ForwardEuler
from impindiff.linear import DenseLU
from impindiff.rollout import (
    HalvedStep,
    StepOutcome,
    StepResult,
    TimeGrid,
    Trajectory,
    rescue,
    simulate,
    simulate_with_rescue as simulate_so,
)
from impindiff.rollout._retries import own_failures

TIMES = TimeGrid.build(0.0, [0.0, 1.0, 2.0, 3.0], 1.0)


def pulse(bounds=None) -> ipd.System:
    """Decay at a rate that is four between the times 1 and 2, and one at others."""

    def rate(c, t):
        return jnp.where((t >= 1) & (t < 2), -4.0, -1.0) * c / 2

    return ipd.System(None, {"c": ipd.Field([ipd.Reaction(rate)], bounds=bounds)})


def test_only_the_step_that_leaves_the_limits_is_halved():
    """Euler's factor is 1 - 2 there, and (1 - 2/2)^2 in halves, which is nothing."""
    found = simulate_so(
        pulse((0.0, 2.0)), {"c": jnp.array(1.0)}, TIMES, ForwardEuler(), max_halvings=3
    )
    assert found.halved == (HalvedStep(1.0, 2.0, 2),)
    assert list(found.time_grid.lengths) == [1.0, 0.5, 0.5, 1.0]
    np.testing.assert_allclose(found.trajectory.states["c"], [1.0, 0.5, 0.0, 0.0])


def test_where_nothing_fails_it_is_the_rollout_itself():
    start = {"c": jnp.array(1.0)}
    found = simulate_so(pulse(), start, TIMES, BackwardEuler())
    assert found.halved == () and found.time_grid is TIMES
    plain = simulate(pulse(), start, TIMES, BackwardEuler())
    np.testing.assert_allclose(found.trajectory.states["c"], plain.states["c"], rtol=1e-6)


@pytest.mark.thorough
def test_a_solve_that_fails_is_halved_too():
    """Four steps of Newton's method are too few for the whole step, and enough for its half."""
    linear = DenseLU(1e-5)
    scarce = BackwardEuler(Newton(linear, linear, rtol=1e-5, max_steps=4))
    system = ipd.System(None, {"c": [ipd.Reaction(lambda c: -jnp.exp(3 * c))]})
    start, times = {"c": jnp.array(2.0)}, TimeGrid.build(0.0, [0.01], 0.01)
    with pytest.raises(NumericsError, match="step 1 of 1 .*max steps"):
        simulate(system, start, times, scarce).check(times)
    found = simulate_so(system, start, times, scarce)
    assert found.halved == (HalvedStep(0.0, 0.01, 2),)
    ample, half = BackwardEuler(Newton(linear, linear, rtol=1e-5)), TimeGrid.build(0, [0.01], 0.005)
    wanted = simulate(system, start, half, ample).states["c"]
    np.testing.assert_allclose(found.trajectory.states["c"], wanted, rtol=1e-4)


def test_what_nothing_helps_fails_as_ever_and_says_what_was_tried():
    falling = ipd.System(
        None, {"c": ipd.Field([ipd.Reaction(lambda c: -1 + 0 * c)], bounds=(0, 2))}
    )
    with pytest.raises(NumericsError) as caught:
        simulate_so(falling, {"c": jnp.array(1.5)}, TIMES, ForwardEuler())
    told = str(caught.value)
    assert "'c' is -" in told and "below its limits [0, 2]" in told
    assert "Halving steps did not help: t = 1 to 2 in 8 parts" in told
    with pytest.raises(NumericsError) as caught:
        simulate_so(falling, {"c": jnp.array(1.5)}, TIMES, ForwardEuler(), max_halvings=0)
    assert "Halving" not in str(caught.value)


@pytest.mark.parametrize("result", [StepResult.NOT_FINITE, StepResult.NOT_SYMMETRIC])
def test_what_no_shorter_step_changes_is_not_tried(result):
    calls = []

    def run(steps: TimeGrid) -> Trajectory:
        calls.append(steps)
        results = jnp.array([0, result, StepResult.MAX_STEPS])
        return Trajectory({}, StepOutcome(results, 0 * results, 0.0 * results, 0 * results))

    with pytest.raises(NumericsError, match=result.label):
        rescue(run, TIMES)
    assert len(calls) == 1


def test_of_steps_beyond_the_limits_only_the_first_is_to_blame():
    beyond, most = StepResult.OUT_OF_BOUNDS, StepResult.MAX_STEPS
    results = np.array([[0, beyond, beyond, most], [most, beyond, 0, StepResult.GUESS_NOT_FINITE]])
    assert own_failures(results).tolist() == [[0, 1, 0, 1], [1, 0, 0, 0]]


def test_what_it_cannot_begin_with_is_refused():
    start = {"c": jnp.array(3.0)}
    with pytest.raises(InputError, match="'c' is 3, above its limits"):
        simulate_so(pulse((0.0, 2.0)), start, TIMES, ForwardEuler())
    for wrong in (-1, None, 1.0, True):
        with runtime_types.without(), pytest.raises(InputError, match=f"max_halvings is {wrong}"):
            simulate_so(pulse(), start, TIMES, ForwardEuler(), max_halvings=cast(Any, wrong))


@pytest.mark.parametrize("traced", [jax.jit, jax.vmap, jax.grad])
def test_it_cannot_be_traced_and_says_what_can(traced):
    def end(c):
        found = simulate_so(pulse(), {"c": c}, TIMES, ForwardEuler())
        return found.trajectory.states["c"][-1]

    start = jnp.ones(2) if traced is jax.vmap else jnp.array(1.0)
    with pytest.raises(InputError, match="outside of these, and use `simulate` within"):
        traced(end)(start)
