"""Rates, transformations and freezing by the names of latents."""

import equinox as eqx
import jax
import numpy as np
import optax
import pytest
from small_problem import DT

import impindiff as ipd
from impindiff import InputError
from impindiff.latent import Parameter, SineField, latents_of, learned
from impindiff.systems import System, advection_diffusion
from impindiff.train import LBFGS, Adam, EpochRecord, FitOptions, Optax, Stage, Trainer, by_latent


@pytest.fixture
def two(dataset) -> System:
    """A velocity and a diffusivity, both unknown."""
    grid = ipd.grid_of(dataset, "concentration")
    velocity = SineField(1, ("advection_x",), width=4, depth=1, key=jax.random.key(0))
    return advection_diffusion(grid, velocity, Parameter("k", 0.05, (0.0, 0.1)))


def train(system, observations, stages, **options):
    records: list[EpochRecord] = []
    options = FitOptions(watch=records.append, **options)
    return Trainer(system, observations, DT, stages, options).run(), records


def arrays(system: System, name: str):
    (latent,) = [latent for latent in latents_of(system) if name in latent.names]
    return jax.tree.leaves(eqx.filter(latent, eqx.is_inexact_array))


def change(trained: System, before: System, name: str):
    pairs = zip(arrays(trained, name), arrays(before, name), strict=True)
    return np.concatenate([np.ravel(np.asarray(a - b, np.float64)) for a, b in pairs])


@pytest.mark.slow
def test_each_latent_has_its_own_rate(two, observations):
    """One step with each rate alone, and one with both: each latent moves as with its own."""
    both, records = train(two, observations, [Stage(Adam(learning_rate={"k": 1e-2, "*": 1e-3}), 1)])
    for name, rate in (("k", 1e-2), ("advection_x", 1e-3)):
        alone, _ = train(two, observations, [Stage(Adam(learning_rate=rate), 1)])
        moved = change(both, two, name)
        np.testing.assert_allclose(moved, change(alone, two, name), atol=2e-8)
        # The first step of Adam is of its rate.
        np.testing.assert_allclose(np.abs(moved), rate, rtol=2e-3)
    assert records[0].learning_rate == pytest.approx(1e-2)


@pytest.mark.slow
def test_each_latent_has_its_own_transformation(two, observations):
    groups = by_latent({"k": optax.sgd(1.0), "*": optax.adam(1e-3)})
    both, _ = train(two, observations, [Stage(Optax(optax.chain(optax.scale(2.0), groups)), 2)])
    assert np.abs(change(both, two, "advection_x")).max() < 2.1e-3
    only, _ = train(two, observations, [Stage(Optax(optax.sgd(1.0)), 1)])
    first, _ = train(two, observations, [Stage(Optax(optax.chain(optax.scale(2.0), groups)), 1)])
    np.testing.assert_allclose(change(first, two, "k"), 2 * change(only, two, "k"), rtol=1e-5)


@pytest.mark.thorough
@pytest.mark.parametrize(
    "stage",
    [
        Stage(optimiser, 3, freeze="k")
        for optimiser in (Adam(learning_rate=1e-2), LBFGS(), Optax(optax.adam(1e-2)))
    ],
)
def test_what_is_frozen_keeps_every_bit(two, observations, stage):
    trained, records = train(two, observations, [stage])
    assert not change(trained, two, "k").any()
    assert change(trained, two, "advection_x").all()
    assert records[-1].loss < records[0].loss


@pytest.mark.thorough
def test_what_one_stage_freezes_the_next_one_may_move(two, observations):
    stages = [Stage(Adam(), 2, freeze=("k",)), Stage(Adam(), 2, freeze=("advection_x",))]
    first, _ = train(two, observations, stages[:1])
    trained, records = train(two, observations, stages)
    assert [r.epoch for r in records] == [1, 2, 3, 4]
    assert not change(trained, first, "advection_x").any()
    assert change(trained, first, "k").all()


@pytest.mark.thorough
def test_no_gradient_is_computed_of_what_is_frozen(two, observations):
    """What a stage is given holds none of its arrays."""
    seen = []

    def update(updates, state, params=None):
        seen.append((updates, params))
        return updates, state

    watching = optax.GradientTransformation(lambda params: optax.EmptyState(), update)
    train(two, observations, [Stage(Optax(watching), 1, freeze="advection_x")])
    for tree in seen[0]:
        assert [leaf.shape for leaf in jax.tree.leaves(tree)] == [()]


@pytest.mark.parametrize(
    "make, complaint",
    [
        (lambda: [Stage(Adam(learning_rate={"q": 1.0}), 1)], "'q'.*'advection_x', 'k'"),
        (lambda: [Stage(Adam(learning_rate={"k": 1.0}), 1)], "no learning rate.*'advection_x'"),
        (lambda: [Stage(Adam(learning_rate={"k": 0.0}), 1)], "rates and damping must be positive"),
        (lambda: [Stage(Optax(by_latent({"q": optax.sgd(1.0)})), 1)], "'q'.*'advection_x'"),
        (lambda: [Stage(Adam(), 1), Stage(Adam(), 1, freeze=("q",))], "'q'.*'advection_x', 'k'"),
        (lambda: [Stage(Adam(), 1, freeze=["k", "advection_x"])], "nothing to learn"),
        (
            lambda: [Stage(Adam(learning_rate={"k": 1.0, "*": 1.0}), 1, freeze="k")],
            "learned has the name 'k': there are 'advection_x'",
        ),
    ],
)
def test_what_cannot_be_is_refused_before_anything_is_computed(two, observations, make, complaint):
    with pytest.raises(InputError, match=complaint):
        Trainer(two, observations, DT, make())


def test_components_of_one_latent_cannot_have_two_rates():
    grid = ipd.Grid.uniform((4, 4), ((0.0, 1.0), (0.0, 1.0)), periodic=True)
    field = SineField(2, ("u", "v"), width=4, depth=1, key=jax.random.key(0))
    system = advection_diffusion(grid, field, 0.1)
    arrays_ = eqx.filter(system, learned(system))
    with pytest.raises(InputError, match="components of one latent"):
        Adam(learning_rate={"u": 1e-3, "v": 1e-2}).check(arrays_)
    Adam(learning_rate={"u": 1e-3, "v": 1e-3}).check(arrays_)
    Adam(learning_rate={"u": 1e-3}).check(arrays_)
