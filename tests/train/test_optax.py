"""optax as a stage: the same as the same chain by hand, stopped or not, in batches or not."""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from killed_run import Killed, history, train
from small_problem import DT

from impindiff.integrate import CrankNicolson
from impindiff.latent import learned as learned_mask
from impindiff.train import (
    Batching,
    Checkpoints,
    EpochRecord,
    Optax,
    Stage,
    StageLength,
    make_objective,
    whole,
)

CHAIN = optax.chain(optax.clip_by_global_norm(0.1), optax.adamw(1e-2, weight_decay=0.1))
# Integers, booleans, keys of random numbers, a schedule's count, and no state at all.
TRANSFORMATIONS = {
    "chain": CHAIN,
    "schedule": optax.inject_hyperparams(optax.adam)(optax.linear_schedule(1e-2, 1e-3, 10)),
    "noise": optax.chain(optax.add_noise(1e-3, 0.5, 1), optax.apply_if_finite(optax.sgd(0.1), 3)),
    "no state": optax.sgd(0.1),
    "lbfgs": optax.lbfgs(memory_size=4),
}


@pytest.mark.thorough
def test_a_chain_does_what_it_does_by_hand(system, observations):
    trained, records = train(system, observations, [Stage(Optax(CHAIN), 4)])
    learned, frozen = eqx.partition(system, learned_mask(system))
    evaluate = eqx.filter_jit(make_objective(frozen, whole(observations, DT), CrankNicolson()))
    state, losses = CHAIN.init(learned), []
    for _ in range(4):
        here = evaluate(learned)
        changes, state = CHAIN.update(here.gradient, state, learned)
        learned = optax.apply_updates(learned, changes)
        losses.append(float(here.loss))
    np.testing.assert_allclose([r.loss for r in records], losses, rtol=1e-5)
    for found, expected in zip(
        *map(jax.tree.leaves, (eqx.filter(trained, learned_mask(trained)), learned)), strict=True
    ):
        np.testing.assert_allclose(found, expected, atol=1e-6)


@pytest.mark.thorough
@pytest.mark.parametrize(
    "name",
    [pytest.param(n, marks=[pytest.mark.slow] * (n == "lbfgs")) for n in TRANSFORMATIONS],
)
def test_it_goes_on_where_it_stopped(system, observations, tmp_path, name):
    stages = [Stage(Optax(TRANSFORMATIONS[name]), 4)]
    expected, whole_ = train(system, observations, stages)
    checkpoints = Checkpoints(tmp_path, every=2)
    with pytest.raises(Killed):
        train(system, observations, stages, stop_at=4, checkpoints=checkpoints)
    found, rest = train(system, observations, stages, checkpoints=checkpoints)
    assert history(rest) == history(whole_)[2:]
    assert eqx.tree_equal(found, expected)


@pytest.mark.thorough
def test_batches_are_an_update_each(system, observations):
    counted = optax.chain(optax.adam(optax.linear_schedule(1e-2, 0.0, 4)))
    stage = Stage(Optax(counted), 3, batches=Batching(samples=1))
    after, records = train(system, observations, [stage])
    until, _ = train(system, observations, [Stage(Optax(counted), 2, batches=Batching(samples=1))])
    # Two samples, so the schedule has come to its end after two epochs.
    assert eqx.tree_equal(after, until) and len(records) == 3


@pytest.mark.slow
def test_a_line_search_is_given_the_loss_and_lowers_it(system, observations):
    _, records = train(system, observations, [Stage(Optax(TRANSFORMATIONS["lbfgs"]), 8)])
    losses = [record.loss for record in records]
    assert np.all(np.diff(losses) < 0) and losses[-1] < 0.1 * losses[0]


@pytest.mark.slow
def test_the_function_of_a_line_search_is_the_loss(system, observations):
    learned, frozen = eqx.partition(system, learned_mask(system))
    objective = make_objective(frozen, whole(observations, DT), CrankNicolson())
    seen = {}

    def update(updates, state, params=None, **given):
        value_fn = given["value_fn"]
        found, slope = jax.value_and_grad(value_fn)(params)
        seen.update(value=given["value"], grad=given["grad"])
        seen.update(found=found, slope=slope, alone=value_fn(params))
        return updates, state

    probe = optax.GradientTransformationExtraArgs(lambda params: optax.EmptyState(), update)
    optimiser = Optax(probe)

    @jax.jit
    def run(learned):
        optimiser.update(objective, learned, optimiser.init(objective, learned), StageLength(1))
        return dict(seen), objective(learned)

    found, expected = run(learned)
    for name in ("value", "found", "alone"):
        assert float(found[name]) == pytest.approx(float(expected.loss), rel=1e-6)
    for name in ("grad", "slope"):
        for one, other in zip(*map(jax.tree.leaves, (found[name], expected.gradient)), strict=True):
            np.testing.assert_allclose(one, other, rtol=1e-5, atol=1e-7)


@pytest.mark.thorough
def test_the_rate_is_told_where_the_state_holds_it(system, observations):
    _, known = train(system, observations, [Stage(Optax(TRANSFORMATIONS["schedule"]), 4)])
    assert [r.learning_rate for r in known] == pytest.approx([1e-2, 9.1e-3, 8.2e-3, 7.3e-3])
    _, unknown = train(system, observations, [Stage(Optax(CHAIN), 4)])
    assert [r.learning_rate for r in unknown] == [None] * 4
    line = unknown[0].model_dump_json()
    assert '"learning_rate":null' in line
    assert EpochRecord.model_validate_json(line) == unknown[0]


@pytest.mark.thorough
def test_double_precision_stays_double(system, observations):
    double = jax.tree.map(
        lambda leaf: leaf.astype(jnp.float64) if eqx.is_inexact_array(leaf) else leaf, system
    )
    trained, _ = train(double, observations, [Stage(Optax(CHAIN), 1)])
    kinds = {a.dtype for a in jax.tree.leaves(eqx.filter(trained, learned_mask(trained)))}
    assert kinds == {jnp.dtype("float64")}
