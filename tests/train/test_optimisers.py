"""Optimisers on functions whose minima are known, through an objective that is no simulation."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import runtime_types
from plain_objective import Plain

from impindiff import InputError
from impindiff.train import (
    LBFGS,
    Adam,
    Batching,
    Checkpoints,
    EarlyStopping,
    LevenbergMarquardt,
    Rescue,
    Stage,
    StageLength,
)

SCALES = jnp.logspace(0, 3, 8)
CENTRE = jnp.linspace(-1, 1, 8)


def quadratic(tree):
    return jnp.sum(SCALES * (tree["a"] - CENTRE) ** 2) / 2 + (tree["b"] - 2.0) ** 2


def rosenbrock(tree):
    x, y = tree["a"][0], tree["b"]
    return (1 - x) ** 2 + 100 * (y - x**2) ** 2


def run(stage: Stage, function: Callable, start):
    """All epochs, as the trainer runs them: to the last, or until one stalls."""
    objective, optimiser, length = Plain(function), stage.optimiser, StageLength(stage.epochs)
    update = jax.jit(lambda learned, state: optimiser.update(objective, learned, state, length))
    learned, state, losses = start, optimiser.init(objective, start), []
    for _ in range(stage.epochs):
        learned, state, epoch = update(learned, state)
        if epoch.stalled:
            break
        losses.append(float(epoch.evaluation.loss))
    return learned, losses


def test_lbfgs_finds_the_minimum_of_a_quadratic():
    start = {"a": jnp.zeros(8), "b": jnp.asarray(0.0)}
    learned, losses = run(Stage(LBFGS(), 60), quadratic, start)
    assert losses[-1] < 1e-16
    np.testing.assert_allclose(learned["a"], CENTRE, atol=1e-7)
    assert float(learned["b"]) == pytest.approx(2, abs=1e-7)
    assert np.all(np.diff(losses) < 0)


def test_lbfgs_finds_the_minimum_of_rosenbrocks_valley():
    start = {"a": jnp.array([-1.2]), "b": jnp.asarray(1.0)}
    learned, losses = run(Stage(LBFGS(), 100), rosenbrock, start)
    assert float(learned["a"][0]) == pytest.approx(1, abs=1e-6)
    assert float(learned["b"]) == pytest.approx(1, abs=1e-6)
    assert len(losses) < 60


@pytest.mark.parametrize("dtype", [jnp.float32, jnp.float64])
def test_lbfgs_stalls_at_the_minimum_and_leaves_it_as_it_is(dtype):
    at = {"a": CENTRE.astype(dtype), "b": jnp.asarray(2.0, dtype)}
    learned, losses = run(Stage(LBFGS(), 50), lambda tree: quadratic(tree).astype(dtype), at)
    assert losses == []
    assert jax.tree.all(jax.tree.map(jnp.array_equal, learned, at))


def test_lbfgs_in_single_precision_ends_with_a_stall():
    start = {"a": jnp.zeros(8, jnp.float32), "b": jnp.asarray(0.0, jnp.float32)}
    learned, losses = run(
        Stage(LBFGS(), 500), lambda t: 1 + quadratic(t).astype(jnp.float32), start
    )
    assert len(losses) < 100
    assert np.all(np.diff(losses) < 0)
    np.testing.assert_allclose(learned["a"], CENTRE, atol=1e-2)


def test_lbfgs_keeps_the_dtype_of_what_it_learns():
    start = {"a": jnp.zeros(8, jnp.float32), "b": jnp.asarray(0.0, jnp.float32)}
    learned, _ = run(Stage(LBFGS(), 3), lambda t: quadratic(t).astype(jnp.float32), start)
    assert {leaf.dtype for leaf in jax.tree.leaves(learned)} == {jnp.dtype("float32")}


def test_adam_lowers_the_loss_and_takes_first_steps_of_its_rate():
    start = {"a": jnp.zeros(8), "b": jnp.asarray(0.0)}
    learned, _ = run(Stage(Adam(learning_rate=0.1), 1), quadratic, start)
    np.testing.assert_allclose(np.abs(learned["a"]), 0.1, rtol=1e-6)
    _, losses = run(Stage(Adam(learning_rate=0.1), 200), quadratic, start)
    assert losses[-1] < 1e-4 * losses[0]


def test_adams_rate_is_constant_for_a_quarter_then_falls_by_a_cosine_to_a_thousandth():
    optimiser, length = Adam(learning_rate=1e-4), StageLength(2000)
    start, objective = {"a": jnp.zeros(8), "b": jnp.asarray(0.0)}, Plain(quadratic)
    _, moments = optimiser.init(objective, start)

    def rate_at(done: int) -> float:
        """The rate of the epoch after so many."""
        _, _, epoch = optimiser.update(objective, start, (jnp.array(done), moments), length)
        return float(epoch.learning_rate)

    assert [rate_at(i) for i in (0, 250, 499, 500)] == pytest.approx([1e-4] * 4)
    for i in (600, 1250, 1900, 1999):
        share = 1e-3 + (1 - 1e-3) * (1 + np.cos(np.pi * (i - 500) / 1500)) / 2
        assert rate_at(i) == pytest.approx(1e-4 * share, rel=1e-6)
    assert rate_at(2000) == pytest.approx(1e-7)


def test_what_they_are_by_default():
    adam, lbfgs, damped = Adam(), LBFGS(), LevenbergMarquardt()
    assert (adam.learning_rate, adam.constant_share, adam.final_share) == (None, 0.25, 1e-3)
    assert (lbfgs.memory, lbfgs.max_evaluations) == (50, 20)
    assert (damped.damping, damped.max_attempts, damped.max_products) == (1e-3, 12, 60)
    assert Rescue() == Rescue(max_halvings=3, max_masked_share=0.5)
    assert EarlyStopping(5).min_improvement == 0
    assert Checkpoints("checkpoints").every == 50


@pytest.mark.parametrize(
    "make, complaint",
    [
        (lambda: Stage(Adam(), 0), "number of epochs of a Stage is 0: .* at least 1"),
        (lambda: Stage(Adam(), 10, dt=0.0), "dt of a Stage is 0.0: it must be positive"),
        (lambda: Stage(LBFGS(), 10, dt=-1.0), "dt of a Stage is -1.0: it must be positive"),
        (lambda: Stage(LBFGS(), 10, batches=Batching(window=1)), "LBFGS compares losses"),
        (lambda: Adam(learning_rate=0.0), "rates and damping must be positive"),
        (lambda: Adam(learning_rate=float("nan")), "rates and damping must be positive"),
        (lambda: LBFGS(memory=0), "memory of LBFGS is 0"),
        (lambda: LBFGS(max_evaluations=0), "max_evaluations of LBFGS is 0"),
    ],
)
def test_counts_and_rates_that_do_nothing_are_refused(make: Callable, complaint: str):
    with pytest.raises(InputError, match=complaint):
        make()


def test_counts_are_whole_numbers_whatever_they_are_given_as():
    given: Any = 20.0
    with runtime_types.without():
        counts = [Stage(Adam(), given).epochs, LBFGS(memory=given).memory]
        counts += [LevenbergMarquardt(max_products=given).max_products]
    assert [type(count) for count in counts] == [int] * 3


def test_what_is_no_optimiser_is_refused():
    given: Any = Adam
    with runtime_types.without(), pytest.raises(InputError, match="Stage.*is no optimiser. Give"):
        Stage(given, 10)
