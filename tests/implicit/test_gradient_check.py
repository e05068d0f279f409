"""The certificate passes true gradients and no others."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from impindiff.implicit import Affine, check_gradient, root
from impindiff.linear import BiCGStab

POINT = {"a": jnp.linspace(0.1, 1, 7), "b": jnp.array(0.3)}


def smooth(point):
    return jnp.sum(jnp.sin(point["a"]) * point["b"] ** 2) + jnp.exp(point["b"])


@jax.custom_vjp
def slightly_wrong(x):
    return jnp.sum(x**3)


slightly_wrong.defvjp(lambda x: (jnp.sum(x**3), x), lambda x, g: (g * 3 * x**2 * 1.001,))


def test_a_true_gradient_passes():
    check = check_gradient(smooth, POINT, num_directions=5)
    assert check.passed
    assert [d.with_respect_to for d in check.directions] == ["a"] * 5 + ["b"] * 5
    assert all(d.rate == pytest.approx(2, abs=0.05) for d in check.directions)
    assert all(d.relative_error < 1e-8 for d in check.directions)


@pytest.mark.parametrize("scale", [1e-6, 1.0, 1e6])
def test_a_gradient_off_by_a_thousandth_fails(scale):
    check = check_gradient(slightly_wrong, scale * jnp.linspace(0.5, 1, 4))
    assert not check.passed
    assert all(d.rate == pytest.approx(1, abs=0.1) for d in check.directions)
    assert all(5e-4 < d.relative_error < 2e-3 for d in check.directions)


def test_of_two_parts_the_wrong_one_is_found():
    check = check_gradient(lambda p: smooth(p) + slightly_wrong(p["a"]), POINT)
    assert {d.with_respect_to: d.passed for d in check.directions} == {"a": False, "b": True}


def test_a_reference_is_compared_with():
    assert check_gradient(smooth, POINT, reference=smooth).reference_error == 0
    cubes = jnp.linspace(0.5, 1, 4)
    check = check_gradient(lambda x: jnp.sum(x**3), cubes, reference=slightly_wrong)
    assert check.reference_error == pytest.approx(1e-3, rel=0.01)
    assert not check.passed and all(d.passed for d in check.directions)


def test_a_linear_function_leaves_no_remainder():
    check = check_gradient(lambda x: jnp.sum(3 * x), jnp.arange(4.0))
    assert check.passed and all(np.isinf(d.rate) for d in check.directions)


def test_a_gradient_that_is_nan_fails():
    check = check_gradient(lambda x: jnp.sum(jnp.where(x > 0, x, jnp.sqrt(x))), jnp.zeros(2))
    assert not check.passed


@pytest.mark.parametrize(
    "function",
    [
        lambda x: jnp.sum(jnp.sqrt(x)),  # The slope is infinite, and on one side there is nothing.
        lambda x: jnp.sum(jnp.where(x == 0, x, jnp.nan)),  # A slope, but nothing to compare with.
        lambda x: jnp.sum(jnp.abs(x)),
    ],
)
def test_where_there_is_no_derivative_there_is_no_certificate(function):
    assert not check_gradient(function, jnp.zeros(1)).passed


def test_a_constant_passes_and_empty_parts_are_left_out():
    check = check_gradient(
        lambda p: 3.0 + 0 * jnp.sum(p["a"]), POINT | {"c": (), "d": jnp.zeros(0)}
    )
    assert check.passed
    assert {d.with_respect_to for d in check.directions} == {"a", "b"}


def residual(unknown, inputs):
    coupling, rhs = inputs
    return unknown + coupling * (2 * unknown - jnp.roll(unknown, 1) - jnp.roll(unknown, -1)) - rhs


@pytest.mark.thorough
@pytest.mark.parametrize("adjoint_rtol, passes", [(1e-13, True), (0.3, False)])
def test_a_loose_adjoint_does_not_get_a_certificate(adjoint_rtol, passes):
    solver = Affine(BiCGStab(1e-14), BiCGStab(adjoint_rtol))
    rhs = jnp.asarray(np.random.default_rng(0).normal(size=12))

    def loss(coupling):
        return jnp.sum(root(residual, jnp.zeros(12), (coupling, rhs), solver)[0] ** 4)

    assert check_gradient(loss, 3 + jnp.cos(jnp.arange(12.0))).passed is passes


def test_single_precision_and_no_direction_are_refused():
    with pytest.raises(ValueError, match="float32.*jax_enable_x64"):
        check_gradient(jnp.sum, jnp.zeros(3, jnp.float32))
    with pytest.raises(ValueError, match="0 directions"):
        check_gradient(jnp.sum, jnp.zeros(3), num_directions=0)
    with pytest.raises(ValueError, match="nan"):
        check_gradient(lambda x: jnp.sum(x) / 0 * 0, jnp.zeros(3))


def test_a_reference_that_lags_is_told_from_a_gradient_that_is_wrong():
    """Between the two stands what the function does."""
    point = jnp.linspace(0.5, 1, 4)
    right = check_gradient(lambda x: jnp.sum(x**3), point)
    off = check_gradient(slightly_wrong, point)
    assert off.lags(right) and not right.lags(off) and not right.lags(right)
