"""Members trained side by side come to what each comes to alone."""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from small_problem import DIFFUSIVITY, DT

import impindiff as ipd
from impindiff import InputError, NumericsError
from impindiff.integrate import CrankNicolson
from impindiff.latent import Parameter, SineField, latents_of
from impindiff.systems import Ensemble, System, advection_diffusion
from impindiff.train import (
    LBFGS,
    Adam,
    Batching,
    FitOptions,
    Observations,
    Optax,
    Stage,
    _fit_ensemble,
    fit,
    fit_ensemble,
    make_objective,
    whole,
)
from impindiff.train._optimisers import AbstractOptimiser, Epoch, unknown

SEEDS = (3, 5, 8)
ADAM = Stage(Adam(learning_rate=1e-2), 6)
WHAT = {"samples": "0:2", "times": [0.1], "dt": DT}


@pytest.fixture
def make_system(dataset):
    grid = ipd.grid_of(dataset, "concentration")

    def make(key) -> System:
        velocity = SineField(1, ("advection_x",), width=4, depth=1, key=key)
        return advection_diffusion(grid, velocity, DIFFUSIVITY)

    return make


def velocity_of(system: System):
    return np.asarray(system.latents()["advection_x"])


@pytest.mark.parametrize(
    "stages, options, rtol",
    [
        ([Stage(Adam(learning_rate=1e-2), 2, batches=Batching(samples=1))], {}, 1e-5),
        ([ADAM], {"samples_at_once": 1, "memory": ipd.memory.Snapshots(1)}, 1e-5),
        # A line search compares numbers, and round-off may decide.
        ([Stage(LBFGS(), 5)], {}, 1e-3),
        ([Stage(Optax(optax.lbfgs(memory_size=4)), 3)], {}, 1e-3),
    ],
)
@pytest.mark.slow
def test_a_member_is_what_it_is_alone(dataset, make_system, stages, options, rtol):
    records = []
    found = fit_ensemble(
        make_system,
        dataset,
        seeds=SEEDS,
        stages=stages,
        members_at_once=2,
        options=FitOptions(watch=records.append, **options),
        **WHAT,
    )
    assert found.seeds == SEEDS and not found.diverged
    for seed, member in zip(SEEDS, found.members, strict=True):
        alone = []
        system = make_system(jax.random.key(seed))
        trained = fit(
            system,
            dataset,
            stages=stages,
            options=FitOptions(watch=alone.append, **options),
            **WHAT,
        )
        np.testing.assert_allclose(
            [r.losses[seed] for r in records], [r.loss for r in alone], rtol=rtol
        )
        np.testing.assert_allclose(velocity_of(member), velocity_of(trained), atol=rtol)
        assert np.abs(velocity_of(member) - velocity_of(system)).max() > 10 * rtol


class Stalling(AbstractOptimiser):
    """Finds no way on, at once, and does not even look."""

    def update(self, objective, learned, state, length):
        found = jnp.array(1.0), jax.tree.map(jnp.ones_like, learned)
        evaluation = unknown(objective, learned)
        evaluation = eqx.tree_at(lambda e: (e.loss, e.gradient), evaluation, found)
        return learned, state, Epoch(evaluation, stalled=jnp.array(True))


def test_a_stage_in_which_all_have_stalled_is_over(dataset, make_system, monkeypatch):
    updates, update = [], _fit_ensemble._update

    def counted(*given):
        updates.append(given)
        return update(*given)

    monkeypatch.setattr(_fit_ensemble, "_update", counted)
    records = []
    options = FitOptions(watch=records.append)
    stages = [Stage(Stalling(), 20)]
    fit_ensemble(make_system, dataset, seeds=SEEDS[:2], stages=stages, options=options, **WHAT)
    assert len(updates) == 1 and not records


@pytest.mark.slow
def test_a_member_that_has_stalled_stays_as_it_is(dataset, make_system):
    """In single precision each stalls at its own epoch; alone it would have stayed there."""
    records = []
    found = fit_ensemble(
        make_system,
        dataset,
        seeds=SEEDS,
        stages=[Stage(LBFGS(), 300)],
        options=FitOptions(watch=records.append),
        **WHAT,
    )
    last = {seed: max(r.epoch for r in records if seed in r.losses) for seed in SEEDS}
    assert min(last.values()) < max(last.values()) == len(records)
    for seed in SEEDS:
        losses = [r.losses[seed] for r in records if seed in r.losses]
        assert len(losses) == last[seed] and np.all(np.diff(losses) < 0)
    observations = Observations.of(found.members[0], dataset, "0:2", [0.1])
    for seed, member in zip(SEEDS, found.members, strict=True):
        learned, frozen = eqx.partition(member, ipd.latent.learned(member))
        objective = make_objective(frozen, whole(observations, DT), CrankNicolson())
        expected = next(r.losses[seed] for r in reversed(records) if seed in r.losses)
        assert float(objective(learned).loss) == pytest.approx(expected, rel=1e-2)


@pytest.fixture
def wild(dataset):
    """One key in three gives weights of which no finite loss comes."""
    grid = ipd.grid_of(dataset, "concentration")
    bad = jax.random.key_data(jax.random.key(5))

    def make(key) -> System:
        velocity = SineField(1, ("advection_x",), width=4, depth=1, key=key)
        if (jax.random.key_data(key) == bad).all():
            velocity = jax.tree.map(
                lambda a: a * jnp.nan if eqx.is_inexact_array(a) else a, velocity
            )
        return advection_diffusion(grid, velocity, DIFFUSIVITY)

    return make


@pytest.mark.thorough
@pytest.mark.parametrize(
    "stages", [[ADAM], pytest.param([Stage(LBFGS(), 3), ADAM], marks=pytest.mark.slow)]
)
def test_a_member_that_diverges_is_left_out(dataset, wild, stages):
    records = []
    found = fit_ensemble(
        wild, dataset, seeds=SEEDS, stages=stages, options=FitOptions(watch=records.append), **WHAT
    )
    assert found.seeds == (3, 8)
    ((seed, why),) = found.diverged
    assert seed == 5 and why.startswith("epoch 1")
    assert records[0].diverged == {5: why} and not any(r.diverged for r in records[1:])
    alone = []
    system = wild(jax.random.key(8))
    trained = fit(system, dataset, stages=stages, options=FitOptions(watch=alone.append), **WHAT)
    losses = [r.losses[8] for r in records]
    np.testing.assert_allclose(losses, [r.loss for r in alone], rtol=1e-3)
    np.testing.assert_allclose(velocity_of(found.members[1]), velocity_of(trained), atol=1e-3)


@pytest.mark.thorough
def test_one_member_is_no_ensemble(dataset, wild):
    with pytest.raises(NumericsError, match="fewer than two members are left. Seed 5: epoch 1"):
        fit_ensemble(wild, dataset, seeds=(5, 8), stages=[ADAM], **WHAT)


@pytest.mark.thorough
def test_the_forecast_is_mean_and_spread(dataset, make_system):
    members = [make_system(jax.random.key(seed)) for seed in SEEDS]
    (_, known), *_ = parts = [eqx.partition(m, ipd.latent.learned(m)) for m in members]
    stacked = jax.tree.map(lambda *a: jnp.stack(a), *(learned for learned, _ in parts))
    ensemble = Ensemble(eqx.combine(stacked, known), SEEDS)
    options = {"times": [0.05, 0.1], "dt": DT, "samples": "0:2"}
    found = ipd.predict_ensemble(ensemble, dataset, **options)
    each = [ipd.predict(member, dataset, **options) for member in members]
    for name in ("concentration", "advection_x"):
        values = np.stack([forecast[name].values for forecast in each])
        np.testing.assert_allclose(found[name], values.mean(0), rtol=1e-6)
        np.testing.assert_allclose(
            found[f"{name}_std"], values.std(0, ddof=1), rtol=1e-4, atol=1e-7
        )
        assert found[f"{name}_std"].dims == found[name].dims
        assert found[f"{name}_std"].attrs.keys() >= {"units", "long_name"}
    mean, std = ensemble.latents()["advection_x"]
    np.testing.assert_allclose(mean, found["advection_x"], rtol=1e-6)
    np.testing.assert_allclose(std, found["advection_x_std"], rtol=1e-4)
    scores = ipd.evaluate(found, dataset, "0:2")
    assert set(scores.fields) == {"concentration"} and set(scores.latent) == {"advection_x"}


@pytest.mark.thorough
def test_a_frozen_latent_keeps_what_each_member_began_with(dataset):
    grid = ipd.grid_of(dataset, "concentration")

    def make(key) -> System:
        velocity = SineField(1, ("advection_x",), width=4, depth=1, key=key)
        first = 0.03 + 0.04 * float(jax.random.uniform(key))
        return advection_diffusion(grid, velocity, Parameter("k", first, (0.0, 0.1)))

    found = fit_ensemble(make, dataset, seeds=SEEDS, stages=[Stage(Adam(), 2, freeze="k")], **WHAT)
    for seed, member in zip(SEEDS, found.members, strict=True):
        (_, before), (_, after) = map(latents_of, (make(jax.random.key(seed)), member))
        assert isinstance(before, Parameter) and isinstance(after, Parameter)
        assert before.raw == after.raw


@pytest.mark.parametrize(
    "options, complaint",
    [
        ({"seeds": (1,)}, "at least two, all different"),
        ({"seeds": (1, 1)}, "at least two, all different"),
        ({"members_at_once": 0}, "members_at_once is 0"),
        ({"stages": [Stage(Adam(), 1, freeze="q")]}, "'q'.*'advection_x'"),
        (
            {"options": FitOptions(memory=ipd.memory.MemoryBudget("1KiB"))},
            "budget of 512 B is too small",
        ),
        ({"options": FitOptions(rescue=ipd.optimisers.Rescue())}, "has no rescue.*with fit"),
        ({"options": FitOptions(validation=ipd.Validation(every=3))}, "has no validation"),
    ],
)
def test_what_cannot_be_is_refused(dataset, make_system, options, complaint):
    with pytest.raises(InputError, match=complaint):
        fit_ensemble(make_system, dataset, **({"seeds": (1, 2), "stages": [ADAM]} | WHAT | options))


def test_members_may_differ_in_what_is_learned_only(dataset):
    grid = ipd.grid_of(dataset, "concentration")

    def make(key) -> System:
        velocity = SineField(1, ("advection_x",), width=4, depth=1, key=key)
        return advection_diffusion(grid, velocity, 0.1 * jax.random.uniform(key, grid.shape))

    with pytest.raises(InputError, match="seeds 1 and 2 differ in more than"):
        fit_ensemble(make, dataset, seeds=(1, 2), stages=[ADAM], **WHAT)


def test_a_function_made_anew_at_each_call_is_told_of(dataset):
    grid = ipd.grid_of(dataset, "concentration")

    def make(key) -> System:
        rate = SineField(grid.num_axes, ("rate",), width=4, depth=1, key=key)
        reaction = ipd.Reaction(lambda concentration, k: -k * concentration, k=rate)
        return System(grid, {"concentration": [reaction]})

    with pytest.raises(InputError, match="take functions from outside of it"):
        fit_ensemble(make, dataset, seeds=(1, 2), stages=[ADAM], **WHAT)
