"""L-BFGS knows the curvature it saw, refuses what is none, and starts anew where it is lost."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from plain_objective import Plain

from impindiff.train import LBFGS, StageLength
from impindiff.train._lbfgs import Curvature


def seen(matrix, count: int, memory: int = 5, seed: int = 0) -> Curvature:
    random = np.random.default_rng(seed)
    pairs = Curvature.none(jnp.zeros(matrix.shape[0]), memory)
    for _ in range(count):
        step = jnp.asarray(random.normal(size=matrix.shape[0]))
        pairs = pairs.after(step, matrix @ step)
    return pairs


def test_the_direction_is_that_of_the_inverse_that_the_pairs_stand_for():
    """Against the BFGS update formula, written out as matrices."""
    matrix = jnp.asarray(np.diag([1.0, 4.0, 9.0]) + 0.3)
    pairs = seen(matrix, 4, memory=3)
    inverse = pairs.scale * np.eye(3)
    for step, change, weight in zip(pairs.steps, pairs.changes, pairs.weights, strict=True):
        along = np.eye(3) - weight * np.outer(step, change)
        inverse = along @ inverse @ along.T + weight * np.outer(step, step)
    gradient = jnp.array([1.0, -2.0, 0.5])
    np.testing.assert_allclose(pairs.direction(gradient), -inverse @ gradient, rtol=1e-10)


def test_a_pair_without_curvature_is_refused_and_a_direction_leads_downhill():
    pairs = seen(jnp.eye(3) * 2, 2)
    step = jnp.array([1.0, 0.0, 0.0])
    for change in (-step, jnp.array([0.0, 1.0, 0.0]), jnp.full(3, jnp.nan)):
        after = pairs.after(step, change)
        for new, old in zip(after, pairs, strict=True):
            np.testing.assert_array_equal(new, old)
    assert float(pairs.direction(step) @ step) < 0


def test_the_first_step_is_no_longer_than_one_and_pairs_are_forgotten_but_not_their_scale():
    pairs = Curvature.none(jnp.zeros(2), 3)
    assert not bool(pairs.is_known)
    np.testing.assert_allclose(pairs.direction(jnp.array([3e5, 4e5])), [-0.6, -0.8])
    np.testing.assert_allclose(pairs.direction(jnp.array([0.3, 0.0])), [-0.3, 0.0])
    pairs = pairs.after(jnp.array([1.0, 0.0]), jnp.array([4.0, 0.0])).forgotten(jnp.array(True))
    assert not bool(pairs.is_known)
    np.testing.assert_allclose(pairs.direction(jnp.array([8.0, 4.0])), [-2.0, -1.0])


def test_pairs_that_mislead_do_not_end_the_stage():
    """Pairs of another valley point uphill: the step is that of steepest descent, taken at once."""
    evaluate = Plain(lambda x: jnp.sum(jnp.array([1.0, 1e4]) * (x - 1) ** 2))
    optimiser, start = LBFGS(memory=3), jnp.array([3.0, 1.0])
    (loss, slope), pairs = optimiser.init(evaluate, start)
    wrong = pairs._replace(
        steps=jnp.array([[0.0, 0.0], [0.0, 0.0], [0.0, 1.0]]),
        changes=jnp.array([[0.0, 0.0], [0.0, 0.0], [1e9, 1e-3]]),
        weights=jnp.array([0.0, 0.0, 1e3]),
        scale=jnp.array(0.1),
    )
    here = evaluate(start)
    update = jax.jit(lambda x, state: optimiser.update(evaluate, x, state, StageLength(80)))
    point, (_, after), epoch = update(start, ((here.loss, here.gradient), wrong))
    assert not bool(epoch.stalled)
    assert float(epoch.evaluation.loss) < float(here.loss)
    assert float(after.weights[-2]) == 0, "what misled is gone"


@pytest.mark.parametrize("scale", [1e-8, 1.0, 1e8])
def test_the_unit_of_the_loss_hardly_matters(scale: float):
    def rosenbrock(x):
        return scale * (100 * (x[1] - x[0] ** 2) ** 2 + (1 - x[0]) ** 2)

    evaluate, optimiser = Plain(rosenbrock), LBFGS()
    point = jnp.array([-1.2, 1.0])
    state = optimiser.init(evaluate, point)
    update = jax.jit(lambda x, state: optimiser.update(evaluate, x, state, StageLength(80)))
    for _ in range(80):
        after, state, epoch = update(point, state)
        if epoch.stalled:
            break
        point = after
    np.testing.assert_allclose(point, 1.0, atol=1e-5)
