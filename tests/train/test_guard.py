"""An epoch whose numbers cannot be trusted ends training, and the last good arrays are kept."""

from pathlib import Path

import equinox as eqx
import jax.numpy as jnp
import numpy as np
import pytest
from small_problem import DT, make_dataset

from impindiff import NumericsError, Parameter, Reaction, System
from impindiff.data import to_dataset
from impindiff.forecast import predict
from impindiff.implicit import Affine
from impindiff.integrate import CrankNicolson, ForwardEuler
from impindiff.latent import learned
from impindiff.linear import BiCGStab
from impindiff.train import (
    LBFGS,
    Adam,
    Checkpoints,
    EpochRecord,
    FitOptions,
    Observations,
    Stage,
    Trainer,
    Validation,
)

ADAM, WILD, WILD_END = (
    Stage(Adam(learning_rate=1e-2), 6),
    Stage(Adam(learning_rate=1e30), 6),
    Stage(Adam(learning_rate=1e30), 1),
)


def train(system, observations, stages, stepper=None, **options) -> list[EpochRecord]:
    records: list[EpochRecord] = []
    options = {"watch": records.append, "stepper": stepper or CrankNicolson()} | options
    Trainer(system, observations, DT, stages, FitOptions(**options)).run()
    return records


@pytest.mark.thorough
@pytest.mark.parametrize(
    "stepper, stages",
    [(CrankNicolson(), [WILD]), (ForwardEuler(), [WILD]), (ForwardEuler(), [WILD_END, ADAM])],
    ids=["implicit", "explicit", "in the next stage"],
)
def test_a_loss_that_turns_nan_leaves_the_last_good_arrays(
    system, observations, dataset, tmp_path: Path, stepper, stages
):
    checkpoints = Checkpoints(tmp_path, every=1)
    options = FitOptions(stepper=stepper, checkpoints=checkpoints)
    with pytest.raises(NumericsError, match=r"epoch 2.*\bstep") as caught:
        Trainer(system, observations, DT, stages, options).run()
    assert "What had been learned after epoch 0 is saved." in str(caught.value)
    progress = checkpoints.progress()
    assert progress is not None and (progress.epoch, progress.stage) == (0, 0)
    template, frozen = eqx.partition(system, learned(system))
    good = eqx.combine(checkpoints.restore_learned(template), frozen)
    forecast = predict(good, dataset, times=[0.1], dt=DT)
    assert np.isfinite(forecast["concentration"]).all()
    # It fails again, and says so again: what is saved is still good.
    with pytest.raises(NumericsError, match="epoch 2"):
        Trainer(system, observations, DT, stages, options).run(resume=True)
    assert checkpoints.progress() == progress


@pytest.mark.slow
def test_where_nothing_was_good_nothing_is_saved(system, observations, tmp_path: Path):
    huge = eqx.tree_at(
        lambda s: s.equations["concentration"][0].velocity.head.bias, system, jnp.full(1, jnp.inf)
    )
    checkpoints = Checkpoints(tmp_path / "checkpoints")
    for stages in ([ADAM], [Stage(LBFGS(), 200)]):
        with pytest.raises(NumericsError, match="epoch 1") as caught:
            train(huge, observations, stages, checkpoints=checkpoints)
        assert "saved" not in str(caught.value)
        assert checkpoints.progress() is None


@pytest.mark.thorough
def test_without_checkpoints_nothing_is_said_to_be_saved(system, observations):
    with pytest.raises(NumericsError, match="epoch 2") as caught:
        train(system, observations, [WILD])
    assert "saved" not in str(caught.value)


@pytest.mark.thorough
def test_a_failed_solve_is_named(system, observations):
    hasty = CrankNicolson(Affine(BiCGStab(1e-12, max_steps=1)))
    message = r"epoch 1: step 1 of 2 \(to t = 0.05\), sample 0: .*'max steps' after 1 iteration"
    with pytest.raises(NumericsError, match=message):
        train(system, observations, [ADAM], hasty)


@pytest.mark.thorough
def test_a_failed_adjoint_solve_is_named(system, observations):
    hasty = CrankNicolson(Affine(BiCGStab(1e-6), BiCGStab(1e-12, max_steps=1)))
    message = r"epoch 1: \d of \d adjoint solves missed.*residual.*adjoint_max_steps"
    with pytest.raises(NumericsError, match=message):
        train(system, observations, [ADAM], hasty)


@pytest.mark.thorough
@pytest.mark.parametrize("size", [1e30, 1e-30])
def test_enormous_and_tiny_values_are_trained_on_as_others(system, size: float):
    """Squared, single precision does not hold them."""
    losses = []
    for factor in (1.0, size):
        dataset = make_dataset((12,))
        dataset["concentration"] = dataset["concentration"] * factor
        fit_to = Observations.of(system, dataset, "0:2", [0.1])
        losses.append([record.loss for record in train(system, fit_to, [ADAM])])
    np.testing.assert_allclose(losses[1], losses[0], rtol=1e-4)


@pytest.mark.thorough
def test_a_validation_that_fails_names_its_epoch(system, observations):
    def fail(now):
        raise NumericsError("step 3 of 4 failed")

    with pytest.raises(NumericsError, match="epoch 2, validation: step 3 of 4 failed"):
        train(system, observations, [ADAM], validation=Validation(fail, every=2))


def test_a_gradient_that_is_not_finite_is_told_by_name():
    """At T = -0.1 the power has a value as long as the exponent is 1, and no slope by it."""
    unknown = {name: Parameter(name, 1.0, (0.0, np.inf)) for name in ("rate", "exponent")}
    decay = Reaction(lambda T, rate, exponent: -rate * T**exponent)
    system = System(None, {"T": [decay]}, coefficients=unknown)
    data = to_dataset(None, [0.0, 0.1, 0.2], {"T": np.array([[-0.1, -0.08, -0.07]])})
    observations = Observations.of(system, data, ":")
    with pytest.raises(NumericsError, match=r"by 'exponent'\. Either") as caught:
        train(system, observations, [ADAM], ForwardEuler())
    assert "jnp.maximum" in str(caught.value)
