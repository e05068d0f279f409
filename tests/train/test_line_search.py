"""The line search takes only points that the weak Wolfe conditions allow."""

from collections.abc import Callable

import jax
import jax.numpy as jnp
import pytest

from impindiff.linear import AdjointOutcome, Outcome
from impindiff.rollout import StepOutcome
from impindiff.train._lbfgs import unknown, weak_wolfe
from impindiff.train._objective import Evaluation

SOLVED = StepOutcome.of_solve(Outcome.exact())

LINES = {
    "parabola": lambda x: (x - 3.0) ** 2,
    "steep parabola": lambda x: 1e4 * (x - 1e-2) ** 2,
    "far minimum": lambda x: (x - 1e3) ** 2,
    "flat": lambda x: jnp.sqrt(1 + (x - 5) ** 2),
    "wavy": lambda x: 0.1 * x**2 - 2 * x + jnp.sin(5 * x),
    "kink": lambda x: jnp.abs(x - 2.0) - x / 2,
    "quartic": lambda x: (x - 2.0) ** 4,
}


def objective_of(function: Callable) -> Callable:
    def evaluate(point):
        loss, gradient = jax.value_and_grad(function)(point)
        return Evaluation(loss, gradient, SOLVED, AdjointOutcome.probe())

    return evaluate


def search(function: Callable, start: float, max_evaluations: int = 30, dtype=jnp.float64):
    objective = objective_of(function)
    at = jnp.asarray(start, dtype)
    evaluation = objective(at)
    descent = -evaluation.gradient
    found = jax.jit(lambda: weak_wolfe(objective, at, descent, evaluation, max_evaluations))()
    return evaluation, descent, found


@pytest.mark.parametrize("name", LINES)
@pytest.mark.parametrize("start", [0.0, -7.3])
def test_an_accepted_point_meets_both_conditions(name: str, start: float):
    before, descent, found = search(LINES[name], start)
    slope = before.gradient * descent
    assert bool(found.accepted)
    assert found.evaluation.loss <= before.loss + 1e-4 * found.length * slope
    assert found.evaluation.gradient * descent >= 0.9 * slope
    assert float(found.point) == pytest.approx(start + float(found.length * descent))
    assert float(found.evaluation.loss) == pytest.approx(float(LINES[name](found.point)))


def test_a_loss_that_is_not_finite_counts_as_too_long_a_step():
    before, _, found = search(lambda x: jnp.where(x > 0.3, jnp.nan, -x), 0.0)
    assert bool(found.accepted)
    assert 0 < float(found.point) <= 0.3
    assert found.evaluation.loss < before.loss


def test_where_everything_fails_it_stays_where_it_was():
    before, _, found = search(lambda x: jnp.where(x > 0.0, jnp.inf, -x), 0.0)
    assert not bool(found.accepted)
    assert float(found.point) == 0.0
    assert float(found.evaluation.loss) == float(before.loss)


@pytest.mark.parametrize("dtype", [jnp.float32, jnp.float64])
@pytest.mark.parametrize("minimum", [0.0, 1.7])
def test_at_a_minimum_there_is_no_progress(minimum: float, dtype):
    _, _, found = search(lambda x: 1 + (x - jnp.asarray(minimum, dtype)) ** 2, minimum, dtype=dtype)
    assert not bool(found.accepted)
    assert float(found.length) == 0.0


def test_a_decrease_below_round_off_is_no_progress():
    _, _, found = search(lambda x: 1 + x**2, 1e-6, dtype=jnp.float32)
    assert not bool(found.accepted)


def test_without_evaluations_left_the_lowest_point_is_taken():
    before, _, found = search(LINES["far minimum"], 999.0, max_evaluations=1)
    assert found.evaluation.loss <= before.loss


def test_a_failed_solve_counts_as_too_long_a_step():
    def objective(point):
        plain = objective_of(lambda x: (x - 3.0) ** 2)(point)
        failed = jnp.where(point > 1.0, 2, 0)
        return Evaluation(
            plain.loss,
            plain.gradient,
            StepOutcome(failed, jnp.array(1), jnp.array(1e-7), jnp.array(1)),
            plain.adjoint,
        )

    start = jnp.asarray(0.0)
    evaluation = objective(start)
    found = weak_wolfe(objective, start, -evaluation.gradient, evaluation, 30)
    assert bool(found.accepted)
    assert float(found.point) <= 1.0


@pytest.mark.parametrize("function", [lambda x: (x - 3.0) ** 2, lambda x: x / 0])
def test_a_start_that_is_unknown_is_evaluated_and_taken(function):
    """Whatever it is: one whose loss is no number has to be seen to be refused."""
    objective = objective_of(function)
    start = jnp.asarray(1.0)
    known = objective(start)
    found = weak_wolfe(objective, start, jnp.zeros(()), unknown(objective, start), 30)
    assert bool(found.accepted) and float(found.point) == 1
    assert float(found.evaluation.loss) == float(known.loss)
    assert float(found.evaluation.gradient) == float(known.gradient)
