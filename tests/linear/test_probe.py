"""Probing: the coefficients of an operator, from few products with it."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from impindiff.linear import BlockStencil, probe, reach_error

SHAPES = [(1,), (2,), (3,), (7,), (2, 5), (3, 3), (7, 5), (20, 11), (1, 4), (6, 4, 3), (5, 2, 7)]


def random_map(shape, num_fields: int) -> tuple[BlockStencil, dict]:
    random = np.random.default_rng(0)
    block = (num_fields, num_fields, *shape)
    sides = tuple((random.normal(size=block), random.normal(size=block)) for _ in shape)
    example = {name: jnp.zeros(shape) for name in "abc"[:num_fields]}
    given = (jnp.asarray(random.normal(size=block)), jax.tree.map(jnp.asarray, sides))
    return BlockStencil(given[0], given[1], jax.tree.structure(example)), example


def random_state(example, seed: int):
    random = np.random.default_rng(seed)
    return jax.tree.map(lambda leaf: jnp.asarray(random.normal(size=leaf.shape)), example)


def inner(left, right) -> float:
    return float(sum(jnp.vdot(left[name], right[name]) for name in left))


@pytest.mark.many
@pytest.mark.parametrize("num_fields", [1, 2])
@pytest.mark.parametrize("shape", SHAPES)
def test_what_was_probed_does_what_the_operator_does(shape, num_fields):
    operator, example = random_map(shape, num_fields)
    found = jax.jit(lambda: probe(operator, example))()
    assert float(reach_error(operator, found, example)) < 1e-13
    if min(shape) > 2:
        np.testing.assert_allclose(found.centre, operator.centre)
        np.testing.assert_allclose(found.stencil(0).sides[0][0], operator.sides[0][0][0, 0])


@pytest.mark.many
@pytest.mark.parametrize("shape", SHAPES)
def test_transpose(shape):
    operator, example = random_map(shape, 2)
    x, y = random_state(example, 1), random_state(example, 2)
    assert inner(y, operator(x)) == pytest.approx(inner(operator.transpose()(y), x), rel=1e-10)


def test_products_do_not_grow_with_the_grid():
    """Five for a plane grid: counted as rows of the batch the operator is called with."""
    counts = []
    for n in (10, 100):
        operator, example = random_map((n, n), 1)
        jaxpr = jax.make_jaxpr(lambda: probe(operator, example))  # noqa: B023
        shapes = {
            v.aval.shape for e in jaxpr().eqns for v in e.outvars if v.aval.shape[-2:] == (n, n)
        }
        counts.append(max(shape[0] for shape in shapes if len(shape) == 3))
    assert counts == [5, 5]


def test_a_wider_reach_is_found_out():
    def operator(tree):
        return {"a": 2 * tree["a"] + jnp.roll(tree["a"], 2, 0)}

    example = {"a": jnp.zeros((9, 8))}
    assert float(reach_error(operator, probe(operator, example), example)) > 0.1


@pytest.mark.parametrize("example", [{"a": jnp.zeros(3), "b": jnp.zeros(4)}, jnp.zeros(()), {}])
def test_fields_of_no_common_grid_are_refused(example):
    with pytest.raises(ValueError, match="shape of one 1-D to 3-D grid"):
        probe(lambda v: v, example)
