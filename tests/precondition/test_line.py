"""Solves along lines: exact for each, and the cure where one axis is coupled far more strongly."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from gradients import random_like

from impindiff.implicit import Affine, root
from impindiff.linear import AdjointOutcome, BiCGStab, Stencil
from impindiff.precondition import DiagonalInverse, LineInverse


def coefficients(shape, axis, periodic, seed=0):
    """A diagonal that dominates, and two sides that may be as large as half of it."""
    random = np.random.default_rng(seed)
    lower, upper = random.uniform(-1, 1, (2, *shape))
    if not periodic:
        lower[(slice(None),) * axis + (0,)] = 0
        upper[(slice(None),) * axis + (-1,)] = 0
    return jnp.asarray(lower), jnp.asarray(2.2 + random.uniform(size=shape)), jnp.asarray(upper)


def dense(lower, diagonal, upper):
    """The matrix of one line."""
    cells = len(diagonal)
    matrix = np.zeros((cells, cells))
    for cell in range(cells):
        matrix[cell, cell] += diagonal[cell]
        matrix[cell, cell - 1] += lower[cell]
        matrix[cell, (cell + 1) % cells] += upper[cell]
    return matrix


@pytest.mark.many
@pytest.mark.parametrize("periodic", [True, False])
@pytest.mark.parametrize(
    "shape, axis", [((7,), 0), ((4, 6), 0), ((4, 5), 1), ((3, 5, 4), 1), ((2, 3), 0)]
)
def test_each_line_is_solved_exactly(shape, axis, periodic):
    parts = coefficients(shape, axis, periodic)
    v = random_like(jnp.zeros(shape), 1)
    found = LineInverse(*parts, axis).apply(v)

    def lines(field):
        return np.moveaxis(field, axis, -1).reshape(-1, shape[axis])

    expected = [
        np.linalg.solve(dense(*line), of_v)
        for *line, of_v in zip(*map(lines, (*parts, v)), strict=True)
    ]
    np.testing.assert_allclose(lines(found), expected, rtol=1e-11, atol=1e-13)


def test_numbers_stand_for_the_same_coefficient_in_every_cell():
    v = random_like(jnp.zeros((4, 5)), 0)
    as_numbers = LineInverse(*map(jnp.array, (-1.0, 3.0, -1.5)), axis=1)
    as_arrays = LineInverse(*(jnp.full((4, 5), part) for part in (-1.0, 3.0, -1.5)), axis=1)
    for one, other in ((as_numbers, as_arrays), (as_numbers.transpose(), as_arrays.transpose())):
        np.testing.assert_allclose(one.apply(v), other.apply(v), rtol=1e-14)


def test_a_cell_without_a_diagonal_is_left_as_it_is():
    lower, diagonal, upper = coefficients((6,), 0, True)
    v = random_like(jnp.zeros(6), 1)
    matrix = dense(lower, diagonal, upper)
    matrix[2] = np.eye(6)[2]
    preconditioner = LineInverse(lower, diagonal.at[2].set(0), upper, 0)
    np.testing.assert_allclose(preconditioner.apply(v), np.linalg.solve(matrix, v), rtol=1e-12)
    of_transpose = np.linalg.solve(matrix.T, v)
    np.testing.assert_allclose(preconditioner.transpose().apply(v), of_transpose, rtol=1e-12)


@pytest.mark.thorough
def test_under_vmap_and_in_single_precision():
    parts = [
        jnp.stack(p).astype(jnp.float32)
        for p in zip(*(coefficients((4, 6), 1, True, seed) for seed in (0, 1)), strict=True)
    ]
    v = random_like(jnp.zeros((2, 4, 6), jnp.float32), 2)

    def apply(low, own, up, v):
        return LineInverse(low, own, up, 1).apply(v)

    batched = jax.vmap(apply)(parts[0], parts[1], parts[2], v)
    assert batched.dtype == jnp.float32
    for sample in (0, 1):
        low, own, up = (part[sample] for part in parts)
        alone = apply(low, own, up, v[sample])
        np.testing.assert_allclose(batched[sample], alone, rtol=1e-5, atol=1e-6)


class TestAnisotropy:
    """Diffusion that varies, between walls along the stiff axis; upwind advection across it."""

    shape = (20, 16)
    ratios = (1.0, 1e2, 1e4)

    def stencil(self, ratio) -> Stencil:
        """The operator of a step, the first axis coupled `ratio` times as strongly."""
        random = np.random.default_rng(0)
        faces = jnp.asarray(random.uniform(0.5, 1.5, (2, *self.shape)))
        strong = ratio * faces[0].at[0].set(0)
        above = jnp.roll(strong, -1, 0)
        weak, next_weak = faces[1], jnp.roll(faces[1], -1, 1)
        diffusion = Stencil(
            -(strong + above + weak + next_weak), ((strong, above), (weak, next_weak))
        )
        zero, one = jnp.zeros(()), jnp.ones(())
        advection = Stencil(-one, ((zero, zero), (one, zero)))
        return (diffusion + advection).shifted_identity(1.0)

    def iterations(self, make):
        """Forward and adjoint, for each ratio."""
        solver = BiCGStab(1e-9, max_steps=5000)
        rhs = random_like(jnp.zeros(self.shape), 0)

        @jax.jit
        def run(ratio):
            operator = self.stencil(ratio)

            def loss(rhs, probe):
                found, outcome = root(
                    lambda u, inputs: inputs[0](u) - inputs[1],
                    jnp.zeros(self.shape),
                    (operator, rhs),
                    Affine(solver, solver),
                    preconditioner=make(operator),
                    probe=probe,
                )
                return jnp.sum(jnp.sin(found)), outcome

            return jax.grad(loss, 1, has_aux=True)(rhs, AdjointOutcome.probe())

        forward, adjoint = [], []
        for ratio in self.ratios:
            report, outcome = run(jnp.array(ratio))
            of_adjoint = AdjointOutcome.from_cotangent(report)
            assert bool(outcome.converged) and of_adjoint.failures == 0
            forward.append(int(outcome.iterations))
            adjoint.append(of_adjoint.iterations)
        return forward, adjoint

    @pytest.mark.thorough
    def test_iterations_stay_bounded_where_those_of_jacobi_grow(self):
        by_line = self.iterations(
            lambda s: LineInverse(s.sides[0][0], s.centre, s.sides[0][1], axis=0)
        )
        by_diagonal = self.iterations(lambda s: DiagonalInverse(s.centre))
        for line, diagonal in zip(by_line, by_diagonal, strict=True):
            assert max(line) <= line[0] + 2
            assert diagonal[-1] > 3 * diagonal[0]
            assert line[-1] < diagonal[-1] / 5
