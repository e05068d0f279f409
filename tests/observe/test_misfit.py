"""Losses and metrics: what is not observed counts for nothing, not even in a gradient."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from gradients import taylor_rate

from impindiff._errors import InputError
from impindiff.observe import misfit_residuals, misfit_scale, relative_error, squared_misfit

NAN = jnp.nan


def test_the_misfit_is_relative_to_the_data_of_each_field():
    observed = {"a": jnp.array([1.0, 2.0]), "b": jnp.array([100.0, 0.0])}
    predicted = {"a": jnp.array([1.0, 3.0]), "b": jnp.array([100.0, 10.0]), "more": jnp.zeros(9)}
    assert float(squared_misfit(predicted, observed)) == pytest.approx((1 / 5 + 1e2 / 1e4) / 2)
    thousandfold = jax.tree.map(lambda a: 1e3 * a, (predicted, observed))
    assert float(squared_misfit(*thousandfold)) == pytest.approx((1 / 5 + 1e2 / 1e4) / 2)
    assert float(squared_misfit(observed, observed)) == 0


def test_entries_that_are_not_observed_do_not_count():
    observed = {"a": jnp.array([1.0, NAN, 2.0])}
    near, far = (squared_misfit({"a": jnp.array([1.5, x, 2.0])}, observed) for x in (0.0, 1e9))
    assert float(near) == float(far) == pytest.approx(0.25 / 5)


def test_nor_do_they_in_the_gradient():
    """The square of a difference with NaN, masked afterwards, has a gradient of NaN."""
    observed = {"a": jnp.array([1.0, NAN, 2.0])}
    gradient = jax.grad(lambda u: squared_misfit({"a": u}, observed))(jnp.array([1.5, 7.0, 2.0]))
    np.testing.assert_allclose(gradient, [2 * 0.5 / 5, 0, 0])
    # What is predicted where nothing is observed may even be infinite.
    gradient = jax.grad(lambda u: squared_misfit({"a": u}, observed))(jnp.array([1.5, NAN, 2.0]))
    np.testing.assert_allclose(gradient, [2 * 0.5 / 5, 0, 0])


def test_nothing_seen_and_nothing_there():
    """Neither a field all of zeros nor one without any observation divides by zero."""
    zeros = {"a": jnp.zeros(3)}
    assert float(squared_misfit({"a": jnp.array([0.0, 2.0, 0.0])}, zeros)) == 4
    unseen = {"a": jnp.full(3, NAN)}
    value, gradient = jax.value_and_grad(lambda u: squared_misfit({"a": u}, unseen))(jnp.ones(3))
    assert float(value) == 0
    np.testing.assert_array_equal(gradient, np.zeros(3))


def test_the_gradient_of_the_misfit():
    observed = {"a": jnp.array([1.0, NAN, 2.0])}
    rate = taylor_rate(lambda u: squared_misfit({"a": u}, observed), jnp.array([3.0, 1.0, 2.5]))
    assert rate == pytest.approx(2, abs=0.1)


@pytest.mark.parametrize(
    "deviations, expected",
    [
        (None, (0.25 / 5 + 1e2 / 1e4) / 2),
        ({"a": jnp.array([0.5, 1.0, 2.0]), "b": jnp.array([10.0])}, (1 / 4 + 1) / 3),
    ],
)
def test_the_squares_of_the_residuals_add_up_to_the_misfit(deviations, expected: float):
    """Two fields, one entry not observed; with known noise the mean is one over three entries."""
    observed = {"a": jnp.array([1.0, NAN, 2.0]), "b": jnp.array([100.0])}
    predicted = {"a": jnp.array([1.0, 7.0, 2.5]), "b": jnp.array([110.0])}
    if deviations:
        # Half of a deviation of a datum of a; one of the datum of b.
        predicted["a"] = predicted["a"].at[2].set(3.0)
    scale = misfit_scale(observed, deviations)
    residuals = misfit_residuals(predicted, observed, scale, deviations)
    assert residuals.shape == (4,) and float(residuals[1]) == 0
    found = squared_misfit(predicted, observed, deviations=deviations)
    assert float(found) == pytest.approx(expected, rel=1e-12)
    assert float(residuals @ residuals) == pytest.approx(expected, rel=1e-12)


@pytest.mark.parametrize("dtype, unit", [(jnp.float32, 1e-25), (jnp.float32, 1e25)])
@pytest.mark.parametrize("with_noise", [False, True])
def test_no_unit_is_too_small_or_too_large_to_square(dtype, unit: float, with_noise: bool):
    """The square of 1e-25 is 0 in single precision, that of 1e25 infinite."""
    observed = {"a": unit * jnp.array([1.0, NAN, 2.0], dtype)}
    predicted = {"a": unit * jnp.array([1.0, 7.0, 2.5], dtype)}
    deviations = {"a": jnp.array([0.5 * unit], dtype)} if with_noise else None
    expected = 1 / 2 if with_noise else 0.25 / 5
    scale = misfit_scale(observed, deviations)
    residuals = misfit_residuals(predicted, observed, scale, deviations)
    assert float(residuals @ residuals) == pytest.approx(expected, rel=1e-5)
    slope = jax.grad(
        lambda by: squared_misfit({"a": by * predicted["a"]}, observed, None, deviations)
    )(jnp.ones((), dtype))
    # The derivative of (2.5 b - 2)^2 + (b - 1)^2 at b = 1, in the same units.
    assert float(slope) == pytest.approx(10 * expected, rel=1e-5)


@pytest.mark.parametrize("dtype", [jnp.float32, jnp.float64])
def test_the_misfit_keeps_the_precision(dtype):
    fields = {"a": jnp.ones(3, dtype)}
    assert squared_misfit(fields, fields).dtype == dtype


@pytest.mark.parametrize(
    "predicted, observed, said",
    [
        ({"a": jnp.ones(2)}, {}, "no observed field"),
        ({"a": jnp.ones(2)}, {"b": jnp.ones(2)}, "observations of 'b'"),
        ({"a": jnp.ones((2, 2))}, {"a": jnp.ones(2)}, r"shape \(2,\), the predictions .*\(2, 2\)"),
        ({"a": jnp.ones(2)}, {"a": jnp.ones((3, 2))}, "in the same shape"),
    ],
)
def test_what_cannot_be_compared_is_refused(predicted, observed, said: str):
    """Broadcasting would find a number for most of these."""
    with pytest.raises(InputError, match=said):
        squared_misfit(predicted, observed)


@pytest.mark.parametrize("order, expected", [(1, 3 / 7), (2, 5**0.5 / 5)])
def test_relative_errors(order: int, expected: float):
    truth, predicted = np.array([3.0, -4.0]), np.array([2.0, -6.0])
    assert relative_error(predicted, truth, order, 1) == pytest.approx(expected)


@pytest.mark.parametrize("order", [1, 2])
def test_errors_are_over_the_space_axes_alone(order: int):
    random = np.random.default_rng(0)
    truth, predicted = random.normal(size=(2, 3, 4, 5, 6))
    found = relative_error(predicted, jnp.asarray(truth), order, 2)
    assert found.shape == (3, 4) and found.dtype == np.float64
    alone = relative_error(predicted[1, 2], truth[1, 2], order, 2)
    assert found[1, 2] == pytest.approx(float(alone))


@pytest.mark.parametrize("order", [1, 2])
def test_errors_where_the_truth_is_zero_or_unknown(order: int):
    truth = np.array([[0.0, 0.0], [0.0, 0.0], [np.nan, 2.0], [np.nan, np.nan]])
    predicted = np.array([[0.0, 0.0], [1.0, 0.0], [9.0, 3.0], [1.0, 1.0]])
    np.testing.assert_array_equal(relative_error(predicted, truth, order, 1), [0, np.inf, 0.5, 0])


def test_a_prediction_that_is_not_finite_has_no_finite_error():
    found = relative_error(np.array([np.nan, 1.0]), np.array([1.0, 1.0]), 2, 1)
    assert not np.isfinite(found)
