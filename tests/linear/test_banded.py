"""Elimination along lines and rings, against matrices written out."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from impindiff.linear._banded import (
    solve_block_tridiagonal,
    solve_tridiagonal,
    solve_tridiagonal_pivoted,
)
from impindiff.linear._blocks import invert_blocks

SIZES = [1, 2, 3, 4, 5, 64, 65, 129, 200]


def ring(size: int, fields: int, periodic: bool, seed: int = 0):
    """Blocks of a dominant system, (cells, fields, fields) each, and the matrix they stand for."""
    random = np.random.default_rng(seed)
    lower, diagonal, upper = random.normal(size=(3, size, fields, fields))
    diagonal += 6 * fields * np.eye(fields)
    if not periodic:
        lower[0], upper[-1] = 0, 0
    matrix = np.zeros((size, fields, size, fields))
    for cell in range(size):
        matrix[cell, :, (cell - 1) % size] += lower[cell]
        matrix[cell, :, cell] += diagonal[cell]
        matrix[cell, :, (cell + 1) % size] += upper[cell]
    return (lower, diagonal, upper), matrix.reshape(size * fields, size * fields)


@pytest.mark.parametrize("solve", [solve_tridiagonal, solve_tridiagonal_pivoted])
@pytest.mark.parametrize("periodic", [True, False])
@pytest.mark.parametrize("size", SIZES)
def test_one_field(size, periodic, solve):
    bands, matrix = ring(size, 1, periodic)
    rhs = np.random.default_rng(1).normal(size=size)
    found = solve(*(jnp.asarray(band[:, 0, 0]) for band in bands), jnp.asarray(rhs))
    np.testing.assert_allclose(found, np.linalg.solve(matrix, rhs), rtol=1e-11, atol=1e-13)


@pytest.mark.many
@pytest.mark.parametrize("periodic", [True, False])
@pytest.mark.parametrize("size, fields", [(1, 2), (2, 3), (5, 2), (65, 2), (131, 3), (70, 5)])
def test_several_fields(size, fields, periodic):
    bands, matrix = ring(size, fields, periodic)
    rhs = np.random.default_rng(1).normal(size=(size, fields))
    found = jax.jit(solve_block_tridiagonal)(*map(jnp.asarray, bands), jnp.asarray(rhs))
    expected = np.linalg.solve(matrix, rhs.ravel()).reshape(size, fields)
    np.testing.assert_allclose(found, expected, rtol=1e-10, atol=1e-12)


def test_batches_and_single_precision():
    (lower, diagonal, upper), matrix = ring(100, 1, periodic=True)
    rhs = np.random.default_rng(1).normal(size=(3, 100))
    bands = [jnp.asarray(band[:, 0, 0], jnp.float32) for band in (lower, diagonal, upper)]
    found = solve_tridiagonal(bands[0], bands[1], bands[2], jnp.asarray(rhs, jnp.float32))
    assert found.dtype == jnp.float32
    np.testing.assert_allclose(found, np.linalg.solve(matrix, rhs.T).T, rtol=1e-4, atol=1e-6)


def test_a_pivot_of_zero_is_no_trouble_to_the_one_that_pivots():
    """Two fields of a saddle point: each diagonal entry zero, the whole regular."""
    size = 8
    lower, upper = np.arange(1.0, 9.0), np.arange(3.0, 11.0)
    lower[0] = upper[-1] = 0
    matrix = np.diag(lower[1:], -1) + np.diag(upper[:-1], 1)
    rhs = np.random.default_rng(0).normal(size=size)
    bands = (jnp.asarray(lower), jnp.zeros(size), jnp.asarray(upper))
    found = solve_tridiagonal_pivoted(*bands, jnp.asarray(rhs))
    np.testing.assert_allclose(found, np.linalg.solve(matrix, rhs), rtol=1e-10)


@pytest.mark.thorough
@pytest.mark.parametrize("row", [0, 1, 2])
def test_any_row_of_a_block_may_be_the_only_pivot(row: int):
    """The first column of each diagonal block has one entry; alone, and in a line."""
    block = np.roll(np.eye(3), row, axis=0) * [2.0, 3.0, 5.0]
    lower, upper = (0.1 * np.random.default_rng(k).normal(size=(3, 3)) for k in (0, 1))
    lower[:, 0] = upper[:, 0] = 0
    size = 4
    matrix = np.kron(np.eye(size), block)
    matrix += np.kron(np.eye(size, k=-1), lower) + np.kron(np.eye(size, k=1), upper)
    rhs = np.arange(12.0).reshape(size, 3) + 1
    below, own, above = (np.tile(part, (size, 1, 1)) for part in (lower, block, upper))
    below[0], above[-1] = 0, 0
    bands = jnp.asarray(below), jnp.asarray(own), jnp.asarray(above)
    found = solve_block_tridiagonal(*bands, jnp.asarray(rhs))
    np.testing.assert_allclose(found.ravel(), np.linalg.solve(matrix, rhs.ravel()), rtol=1e-12)
    inverses = invert_blocks(jnp.asarray(np.stack([block, 7 * np.eye(3)], -1)))
    np.testing.assert_allclose(inverses[..., 0], np.linalg.inv(block), rtol=1e-14, atol=1e-15)
    np.testing.assert_allclose(inverses[..., 1], np.eye(3) / 7, rtol=1e-14)


@pytest.mark.parametrize("periodic", [True, False])
def test_a_singular_system_gives_no_finite_numbers(periodic):
    bands = (jnp.zeros(5), jnp.ones(5).at[2].set(0), jnp.zeros(5))
    if periodic:
        bands = (-jnp.ones(4), 2 * jnp.ones(4), -jnp.ones(4))
    found = solve_tridiagonal(*bands, jnp.arange(1.0, 1 + bands[0].size))
    # What is left of a determinant of zero is round-off: at best the numbers are absurd.
    assert not np.all(np.abs(found) < 1e10)
