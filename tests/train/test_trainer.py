"""Training a small system: each optimiser alone and one after the other, and what it reports."""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from small_problem import DIFFUSIVITY, DT

import impindiff as ipd
from impindiff import InputError
from impindiff.integrate import BackwardEuler, CrankNicolson, RungeKutta4
from impindiff.systems import System, advection_diffusion
from impindiff.terms import Diffusion
from impindiff.train import (
    LBFGS,
    Adam,
    EpochRecord,
    FitOptions,
    Observations,
    Stage,
    Trainer,
    Validation,
    fit,
    make_objective,
    whole,
)

# The same throughout, so that they are compiled once.
ADAM, LBFGS_ = Stage(Adam(learning_rate=1e-2), 6), Stage(LBFGS(), 200)


def train(system: System, observations: Observations, stages, **options):
    records: list[EpochRecord] = []
    given = FitOptions(watch=records.append, **options)
    return Trainer(system, observations, DT, stages, given).run(), records


def loss_of(system: System, observations: Observations, dt: float = DT) -> float:
    learned, frozen = eqx.partition(system, eqx.is_inexact_array)
    return float(make_objective(frozen, whole(observations, dt), CrankNicolson())(learned).loss)


@pytest.mark.thorough
@pytest.mark.parametrize(
    "stages",
    [
        pytest.param([ADAM], marks=pytest.mark.slow),
        pytest.param([LBFGS_], marks=pytest.mark.slow),
        [ADAM, LBFGS_],
    ],
)
def test_training_lowers_the_loss(system, observations, stages):
    trained, records = train(system, observations, stages)
    assert loss_of(trained, observations) < 0.7 * loss_of(system, observations)
    assert [record.epoch for record in records] == list(range(1, len(records) + 1))
    names = [record.stage for record in records]
    assert [n for i, n in enumerate(names) if names[:i][-1:] != [n]] == [
        s.optimiser.name for s in stages
    ]
    assert np.all(np.diff([record.seconds for record in records]) >= 0)
    assert all(r.solver_iterations > 0 and r.adjoint_iterations > 0 for r in records)


@pytest.mark.thorough
def test_the_second_stage_begins_where_the_first_ended(system, observations):
    _, both = train(system, observations, [ADAM, LBFGS_])
    between, first = train(system, observations, [ADAM])
    assert [r.loss for r in both[:6]] == [r.loss for r in first]
    assert both[6].loss < loss_of(between, observations) <= first[-1].loss


@pytest.mark.thorough
def test_adams_loss_is_the_one_before_its_update(system, observations):
    _, records = train(system, observations, [ADAM])
    assert records[0].loss == pytest.approx(loss_of(system, observations), rel=1e-5)


@pytest.mark.thorough
def test_lbfgs_loss_is_the_one_it_arrives_at(system, observations):
    trained, records = train(system, observations, [LBFGS_])
    assert records[-1].loss == pytest.approx(loss_of(trained, observations), rel=1e-2)


@pytest.mark.thorough
def test_a_stage_may_have_a_step_of_its_own(system, observations):
    _, coarse = train(system, observations, [ADAM])
    _, fine = train(system, observations, [Stage(Adam(), 1, dt=DT / 5)])
    assert fine[0].loss == pytest.approx(loss_of(system, observations, DT / 5), rel=1e-5)
    assert fine[0].loss != coarse[0].loss


@pytest.mark.thorough
@pytest.mark.parametrize("stepper", [BackwardEuler(), RungeKutta4()])
def test_any_stepper_trains(system, observations, stepper):
    _, records = train(system, observations, [ADAM], stepper=stepper)
    assert records[-1].loss < records[0].loss
    assert (records[0].solver_iterations > 0) == (not stepper.is_explicit)


def test_validation_comes_every_so_often_and_at_the_end_of_a_stage(system, observations):
    seen = []

    def validate(now: System) -> float:
        seen.append(now)
        return float(len(seen))

    stages = [ADAM, ADAM]
    trained, records = train(system, observations, stages, validation=Validation(validate, 4))
    expected = [None, None, None, 1.0, None, 2.0, None, 3.0, None, None, None, 4.0]
    assert [r.validation for r in records] == expected
    assert eqx.tree_equal(seen[-1], trained)


def test_what_is_known_stays_as_it_is(dataset, system, observations):
    trained, _ = train(system, observations, [ADAM])
    (advection, diffusion), (_, before) = (s.equations["concentration"] for s in (trained, system))
    assert isinstance(diffusion, Diffusion) and isinstance(before, Diffusion)
    assert diffusion.diffusivity == before.diffusivity
    assert not eqx.tree_equal(trained, system)


@pytest.mark.thorough
def test_gaps_in_the_snapshots_are_no_obstacle(dataset, system, observations):
    dataset["concentration"].values[:, 2, ::3] = np.nan
    fit_to = Observations.of(system, dataset, "0:2", [0.1])
    trained, records = train(system, fit_to, [ADAM, LBFGS_])
    assert np.isfinite([record.loss for record in records]).all()
    assert loss_of(trained, fit_to) < 1e-3 * loss_of(system, fit_to)
    # Two thirds of the cells tell almost as much.
    assert loss_of(trained, observations) < 1e-2 * loss_of(system, observations)


@pytest.mark.thorough
def test_double_precision_trains_in_double_precision(dataset, system):
    def to_double(leaf):
        return leaf.astype(jnp.float64) if eqx.is_inexact_array(leaf) else leaf

    double = jax.tree.map(to_double, system)
    fit_to = Observations.of(system, dataset, "0:2", [0.1], jnp.float64)
    trained, records = train(double, fit_to, [ADAM])
    kinds = {leaf.dtype for leaf in jax.tree.leaves(eqx.filter(trained, eqx.is_inexact_array))}
    assert kinds == {jnp.dtype("float64")}
    assert records[-1].loss < records[0].loss


def test_with_nothing_to_learn_there_is_no_training(dataset, observations):
    grid = ipd.grid_of(dataset, "concentration")
    known = advection_diffusion(grid, jnp.array([0.5]), DIFFUSIVITY)
    with pytest.raises(InputError, match="nothing to learn.*SineField"):
        Trainer(known, observations, DT, [ADAM])


def test_without_stages_there_is_no_training(system, observations):
    with pytest.raises(InputError, match="at least one stage"):
        Trainer(system, observations, DT, [])


def test_fit_is_training_in_one_call(dataset, system, observations):
    records = []
    trained = fit(
        system,
        dataset,
        samples="0:2",
        times=[0.1],
        dt=DT,
        stages=[ADAM],
        options=FitOptions(watch=records.append),
    )
    by_trainer, expected = train(system, observations, [ADAM])
    assert [r.loss for r in records] == [r.loss for r in expected]
    assert eqx.tree_equal(trained, by_trainer)
