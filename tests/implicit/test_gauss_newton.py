"""Gauss-Newton products: symmetric, semi-definite, and equal to the explicit J^T W J."""

import jax
import jax.flatten_util
import jax.numpy as jnp
import numpy as np
import pytest
from gradients import inner, random_like

from impindiff.implicit import Affine, gauss_newton_operator, gauss_newton_product, root
from impindiff.linear import CG, BiCGStab

TIGHT = Affine(BiCGStab(1e-13), BiCGStab(1e-13))
SIZE = 9


def residual(unknown, inputs):
    coupling, rhs = inputs["coupling"], inputs["rhs"]
    return unknown + coupling * (2 * unknown - jnp.roll(unknown, 1) - jnp.roll(unknown, -1)) - rhs


def observe(point):
    """Every second value of a solution, and a nonlinear function of it."""
    found, _ = root(residual, jnp.zeros(SIZE), point, TIGHT)
    return {"values": found[::2], "energy": jnp.sum(found**2)}


POINT = {"coupling": 2 + jnp.cos(jnp.arange(SIZE)), "rhs": jnp.sin(jnp.arange(SIZE) + 0.5)}


def explicit():
    flat, unravel = jax.flatten_util.ravel_pytree(POINT)
    jacobian = jax.jacfwd(lambda p: jax.flatten_util.ravel_pytree(observe(unravel(p)))[0])(flat)
    return np.asarray(jacobian)


@pytest.mark.thorough
@pytest.mark.parametrize("weighted", [pytest.param(False, marks=pytest.mark.slow), True])
def test_it_is_the_product_with_the_explicit_matrix(weighted: bool):
    jacobian = explicit()
    weights = np.linspace(1, 3, jacobian.shape[0]) if weighted else np.ones(jacobian.shape[0])
    _, unravel = jax.flatten_util.ravel_pytree(observe(POINT))
    scale = unravel(jnp.asarray(weights))
    weight = (lambda seen: jax.tree.map(jnp.multiply, scale, seen)) if weighted else None
    vector = random_like(POINT, 0)
    found = jax.jit(lambda v: gauss_newton_product(observe, POINT, v, weight))(vector)
    flat = jax.flatten_util.ravel_pytree
    expected = jacobian.T @ (weights * (jacobian @ np.asarray(flat(vector)[0])))
    np.testing.assert_allclose(flat(found)[0], expected, rtol=1e-9)


@pytest.mark.thorough
def test_it_is_symmetric_and_never_negative():
    product = gauss_newton_operator(observe, POINT)
    x, y = random_like(POINT, 1), random_like(POINT, 2)
    assert float(inner(product(x), y)) == pytest.approx(float(inner(x, product(y))), rel=1e-9)
    assert float(inner(product(x), x)) > 0


@pytest.mark.thorough
def test_a_gauss_newton_step_by_conjugate_gradients_fits_what_is_observed():
    product = gauss_newton_operator(observe, POINT)
    _, pull = jax.vjp(observe, POINT)
    wanted = random_like(observe(POINT), 3)
    (right,) = pull(wanted)
    step, outcome = CG(1e-10).solve(product, right)
    assert bool(outcome.converged)
    moved = jax.jvp(observe, (POINT,), (step,))[1]
    for found, expected in zip(jax.tree.leaves(moved), jax.tree.leaves(wanted), strict=True):
        np.testing.assert_allclose(found, expected, rtol=1e-6)
