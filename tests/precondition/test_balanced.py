"""Preconditioners with the total of each field right."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from impindiff.linear import Stencil, neighbour
from impindiff.precondition import BalancedInverse, DiagonalInverse, LineInverse

SHAPE, WEIGHT = (6, 5), jnp.asarray(30.0)
VOLUMES = np.random.default_rng(1).uniform(0.5, 2.0, SHAPE)


def closed(seed: int = 0, decay: float = 0.0) -> Stencil:
    """Exchange through faces, per volume; the last cells exchange nothing with the first."""
    random = np.random.default_rng(seed)
    centre, sides = -decay * jnp.ones(SHAPE), []
    for axis in range(2):
        through = random.uniform(0.1, 2.0, SHAPE)
        np.moveaxis(through, axis, 0)[-1] = 0
        upper = jnp.asarray(through)
        lower = neighbour(upper, axis, -1)
        centre = centre - (upper + lower) / VOLUMES
        sides.append((lower / VOLUMES, upper / VOLUMES))
    return Stencil(centre, tuple(sides))


def vector(seed: int):
    return {"u": jnp.asarray(np.random.default_rng(seed).normal(size=SHAPE))}


def made(
    stencil: Stencil, inner: str = "jacobi", volumes: np.ndarray | None = VOLUMES
) -> BalancedInverse:
    operator = stencil.shifted_identity(WEIGHT)
    if inner == "jacobi":
        return BalancedInverse.of(
            DiagonalInverse({"u": operator.centre}), {"u": stencil}, WEIGHT, SHAPE, volumes
        )
    lower, upper = operator.sides[1]
    line = LineInverse({"u": lower}, {"u": operator.centre}, {"u": upper}, 1)
    return BalancedInverse.of(line, {"u": stencil}, WEIGHT, SHAPE, volumes)


@pytest.mark.parametrize("inner", ["jacobi", "line"])
@pytest.mark.parametrize("decay", [0.0, 0.3])
def test_a_total_of_zero_stays_zero(inner: str, decay: float):
    """And any other is multiplied by one number, the same for every vector."""
    stencil = closed(decay=decay)
    operator, balanced = stencil.shifted_identity(WEIGHT), made(stencil, inner)

    def total(v) -> float:
        return float((v * VOLUMES).sum())

    ratios = []
    for seed in range(3):
        some = vector(seed)
        still = {"u": some["u"] - total(some["u"]) / VOLUMES.sum()}
        assert abs(total(operator(balanced.apply(still)["u"]))) < 1e-12
        ratios.append(total(operator(balanced.apply(some)["u"])) / total(some["u"]))
    np.testing.assert_allclose(ratios, ratios[0], rtol=1e-9)
    assert 0 < ratios[0] <= 1


@pytest.mark.parametrize("inner", ["jacobi", "line"])
def test_its_transpose_is_its_transpose(inner: str):
    balanced = made(closed(decay=0.1), inner)
    left, right = vector(3), vector(4)
    there = jnp.vdot(left["u"], balanced.apply(right)["u"])
    back = jnp.vdot(balanced.transpose().apply(left)["u"], right["u"])
    assert float(there) == pytest.approx(float(back), rel=1e-12)


def test_what_is_symmetric_stays_so():
    """With equal cells, as CG needs it."""
    even = closed()
    even = Stencil(even.centre * VOLUMES, tuple((a * VOLUMES, b * VOLUMES) for a, b in even.sides))
    balanced = made(even, volumes=None)
    left, right = vector(3), vector(4)
    there = jnp.vdot(left["u"], balanced.apply(right)["u"])
    back = jnp.vdot(balanced.apply(left)["u"], right["u"])
    assert float(there) == pytest.approx(float(back), rel=1e-12)


def test_cells_that_exchange_nothing_are_divided_by_their_diagonal():
    stencil = closed(decay=0.2)
    alone = np.zeros(SHAPE, bool)
    alone[2, 2] = True
    cut = jax.tree.map(lambda part: jnp.where(alone, 0, part), stencil)
    sides = tuple(
        (jnp.where(np.roll(alone, 1, a), 0, lower), jnp.where(np.roll(alone, -1, a), 0, upper))
        for a, (lower, upper) in enumerate(cut.sides)
    )
    balanced = made(Stencil(cut.centre, sides))
    some = vector(5)
    assert balanced.apply(some)["u"][2, 2] == some["u"][2, 2]


def test_a_field_that_nothing_moves_is_left_to_the_preconditioner():
    inner = DiagonalInverse({"u": 2 * jnp.ones(SHAPE)})
    balanced = BalancedInverse.of(inner, {"u": None}, WEIGHT, SHAPE, None)
    some = vector(6)
    np.testing.assert_array_equal(balanced.apply(some)["u"], some["u"] / 2)
