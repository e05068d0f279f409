"""Inverses made once: they are inverses, and so are their transposes of the transposes."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from gradients import inner, random_like
from jax.flatten_util import ravel_pytree

from impindiff.linear import BiCGStab, DenseLU, PackedInverse, Tridiagonal, tree


def line(fields: int, periodic: bool, cells: int = 70):
    """A dominant operator that couples fields and neighbours, and a vector for it."""
    random = np.random.default_rng(fields)
    lower, own, upper = (jnp.asarray(random.normal(size=(fields, fields, cells))) for _ in "abc")
    own = own + 12 * fields * jnp.eye(fields)[:, :, None]
    if not periodic:
        lower, upper = lower.at[..., 0].set(0), upper.at[..., -1].set(0)

    def operator(vector):
        stacked = jnp.stack([*vector.values()])
        before, after = jnp.roll(stacked, 1, -1), jnp.roll(stacked, -1, -1)
        parts = (lower, before), (own, stacked), (upper, after)
        total = jnp.stack([jnp.einsum("ijc,jc->ic", *part) for part in parts]).sum(0)
        return dict(zip(vector, total, strict=True))

    return operator, random_like({f"f{k}": jnp.zeros(cells) for k in range(fields)}, 1)


def numbers():
    matrix = jnp.asarray(np.random.default_rng(0).normal(size=(3, 3)))

    def operator(vector):
        return dict(zip(vector, matrix @ jnp.stack([*vector.values()]), strict=True))

    return operator, random_like({"a": jnp.zeros(()), "b": jnp.zeros(()), "c": jnp.zeros(())}, 1)


CASES = {
    "numbers": (DenseLU(), numbers),
    **{
        f"{fields} fields, {'periodic' if periodic else 'closed'}": (
            Tridiagonal(),
            lambda fields=fields, periodic=periodic: line(fields, periodic),
        )
        for fields in (1, 2, 3)
        for periodic in (True, False)
    },
}


@pytest.mark.parametrize("name", CASES)
def test_it_is_the_inverse_and_so_is_its_transpose(name):
    solver, make = CASES[name]
    operator, vector = make()
    inverse = solver.factorise(operator, vector)
    assert inverse is not None
    found = jax.jit(lambda v: inverse.apply(v))(operator(vector))
    assert float(tree.norm(tree.subtract(found, vector)) / tree.norm(vector)) < 1e-12
    other = random_like(vector, 2)
    turned = inverse.transpose().apply(other)
    assert float(inner(turned, vector)) == pytest.approx(
        float(inner(other, inverse.apply(vector))), rel=1e-10
    )


def test_one_array_in_place_of_many():
    operator, vector = numbers()
    inverse = DenseLU().factorise(operator, vector)
    assert inverse is not None
    flat, unpack = ravel_pytree(vector)
    packed = PackedInverse(inverse, unpack)
    np.testing.assert_array_equal(packed.apply(flat), ravel_pytree(inverse.apply(vector))[0])
    np.testing.assert_array_equal(
        packed.transpose().apply(flat), ravel_pytree(inverse.transpose().apply(vector))[0]
    )


def test_what_is_not_factorised():
    operator, vector = numbers()
    assert BiCGStab().factorise(operator, vector) is None
    assert Tridiagonal().factorise(operator, vector) is None
    assert DenseLU(max_size=2).factorise(operator, vector) is None
