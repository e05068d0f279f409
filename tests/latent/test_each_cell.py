"""Slopes in each cell: the derivatives of the function itself, by fewer evaluations."""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import impindiff as ipd
from impindiff.latent._each_cell import in_each_cell

CELLS = 7


def network(inputs: int, outputs: int):
    made = eqx.nn.MLP(inputs, outputs, 5, 2, jnp.tanh, key=jax.random.key(0), dtype=jnp.float64)
    return jax.vmap(made)


def points(inputs: int, seed: int = 0):
    return jnp.asarray(np.random.default_rng(seed).standard_normal((CELLS, inputs)))


@pytest.mark.thorough
@pytest.mark.parametrize("inputs, outputs", [(1, 1), (3, 2)])
def test_derivatives_are_those_of_the_function(inputs, outputs):
    """First and second, by both modes, in what is in the cells and in the weights."""
    function, x, along = network(inputs, outputs), points(inputs), points(inputs, 1)
    weights, rest = eqx.partition(function, eqx.is_inexact_array)
    # Leaves that are all different, so that none stands in for another.
    push = jax.tree.map(
        lambda a: jnp.cos(jnp.arange(a.size, dtype=a.dtype)).reshape(a.shape), weights
    )

    def value(call):
        return lambda weights, x: jnp.sum(jnp.sin(call(eqx.combine(weights, rest), x)))

    def found(call):
        f = value(call)
        gradient = jax.grad(f, (0, 1))
        return (
            f(weights, x),
            gradient(weights, x),
            jax.jvp(f, (weights, x), (push, along)),
            jax.jvp(gradient, (weights, x), (push, along)),
            jax.grad(lambda w, x: jnp.vdot(gradient(w, x)[1], along), (0, 1))(weights, x),
        )

    for got, wanted in zip(
        jax.tree.leaves(found(in_each_cell)),
        jax.tree.leaves(found(lambda function, x: function(x))),
        strict=True,
    ):
        np.testing.assert_allclose(got, wanted, rtol=1e-12, atol=1e-14)


def test_a_product_with_the_slopes_takes_no_evaluation():
    """What is linear in a direction holds multiplications by slopes, and no layer."""
    function = network(2, 1)
    _, product = jax.linearize(lambda x: in_each_cell(function, x), points(2))
    operations = str(jax.make_jaxpr(product)(points(2)))
    assert " mul " in operations
    assert "dot_general" not in operations and "tanh" not in operations


def test_nothing_is_differentiated_where_nothing_is_asked_for():
    function, x = network(2, 1), points(2)
    _, nothing = jax.jvp(lambda c: in_each_cell(function, x) + c, (1.0,), (0.0,))
    np.testing.assert_array_equal(nothing, jnp.zeros((CELLS, 1)))


@pytest.mark.parametrize(
    "network, slope",
    [
        (lambda x: jnp.sin(x).astype(jnp.float32), lambda x: jnp.cos(x)),
        (lambda x: (x > 0).astype(int), lambda x: 0 * x),
    ],
    ids=["of less precision", "of whole numbers"],
)
def test_networks_of_another_type_are_differentiated(network, slope):
    closure, c = ipd.NeuralClosure("k", {"c": (-1.0, 1.0)}, network=network), points(1).ravel()
    found = jax.grad(lambda c: jnp.sum(closure.evaluate(None, None, {"c": c})))(c)
    np.testing.assert_allclose(found, slope(c), rtol=1e-6)


@pytest.mark.parametrize("network", [lambda x: x[0], lambda x: x[None], lambda x: (x,)])
def test_networks_of_another_shape_are_refused_by_name_where_differentiated(network):
    closure = ipd.NeuralClosure("k", {"c": (0.0, 1.0)}, network=network)
    with pytest.raises(ipd.InputError, match="must return a vector"):
        jax.grad(lambda c: jnp.sum(closure.evaluate(None, None, {"c": c})))(jnp.ones(3))
