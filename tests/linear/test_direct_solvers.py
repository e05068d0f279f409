"""Direct solvers where they are used: inside roots, with gradients, and where they do not fit."""

from functools import partial

import jax
import jax.numpy as jnp
import lineax as lx
import numpy as np
import pytest
from gradients import taylor_rate

from impindiff.implicit import Affine, Newton, root
from impindiff.linear import BiCGStab, DenseLU, Lineax, Result, Tridiagonal
from impindiff.precondition import DiagonalInverse

SOLVERS = [
    Tridiagonal(1e-12),
    DenseLU(1e-12),
    Lineax(lx.LU(), 1e-12),
    Lineax(lx.BiCGStab(1e-14, 1e-14), 1e-11),
]


def reaction_diffusion(u, inputs):
    """One backward Euler step of two fields that react, on a ring."""
    a, b = u["a"], u["b"]

    def spread(v):
        return jnp.roll(v, 1) - 2 * v + jnp.roll(v, -1)

    rate = a**2 * b
    return {"a": a - 3 * spread(a) + rate - inputs["a"], "b": b - spread(b) - rate - inputs["b"]}


@pytest.mark.parametrize("linear", SOLVERS, ids=lambda s: type(s).__name__)
def test_newton_with_it_and_its_gradient(linear):
    random = np.random.default_rng(0)
    given = {name: jnp.asarray(random.uniform(0.2, 1, 20)) for name in "ab"}

    def loss(inputs):
        found, outcome = root(reaction_diffusion, given, inputs, Newton(linear, rtol=1e-10))
        return sum(jnp.sum(leaf**3) for leaf in found.values()), outcome

    assert bool(jax.jit(loss)(given)[1].converged)
    assert taylor_rate(jax.jit(lambda inputs: loss(inputs)[0]), given) > 1.9


@pytest.mark.thorough
def test_a_wider_reach_ends_without_success():
    def operator(v):
        return 4 * v - jnp.roll(v, 1) - jnp.roll(v, 2)

    _, outcome = Tridiagonal(1e-10).solve(operator, jnp.arange(1.0, 21.0))
    assert not bool(outcome.converged)


@pytest.mark.parametrize("rhs", [{"a": jnp.ones((4, 5))}, {"a": jnp.ones(4), "b": jnp.ones(5)}])
def test_what_is_no_line_is_refused(rhs):
    with pytest.raises(ValueError, match="1-D and of one length.*BiCGStab"):
        Tridiagonal().solve(lambda v: v, rhs)


def test_too_many_unknowns_are_refused():
    with pytest.raises(ValueError, match="found 11 unknowns.*max_size=10"):
        DenseLU(max_size=10).solve(lambda v: v, jnp.ones(11))
    with pytest.raises(ValueError, match="at least 1"):
        DenseLU(max_size=0)


@pytest.mark.thorough
@pytest.mark.parametrize("solver", [DenseLU(), Tridiagonal()], ids=lambda s: type(s).__name__)
def test_a_singular_operator_is_said_to_be(solver):
    _, outcome = solver.solve(lambda v: 0 * v, jnp.ones(6))
    assert int(outcome.result) == Result.SINGULAR


@pytest.mark.thorough
@pytest.mark.many
@pytest.mark.parametrize("solver", SOLVERS, ids=lambda s: type(s).__name__)
def test_single_precision_with_tolerances_it_cannot_meet_ends(solver):
    rhs = jnp.asarray(np.random.default_rng(0).normal(size=30), jnp.float32)
    found, outcome = solver.solve(lambda v: 3 * v - jnp.roll(v, 1) - jnp.roll(v, -1), rhs)
    assert found.dtype == jnp.float32
    assert float(outcome.relative_residual) < 1e-6


class TestLineax:
    diagonal = jnp.asarray(np.geomspace(1, 1e3, 24))

    def operator(self, v):
        return self.diagonal * v + 0.5 * jnp.roll(v, 1)

    @pytest.mark.thorough
    @pytest.mark.parametrize("batched", [False, True])
    def test_gradient_where_a_right_hand_side_is_zero(self, batched):
        """lineax's own BiCGStab gives NaN there."""
        linear = Lineax(lx.BiCGStab(1e-13, 1e-13), 1e-10)

        def solve(rhs):
            found, _ = root(lambda u, b: self.operator(u) - b, 0 * rhs, rhs, Affine(linear, linear))
            return found

        def loss(rhs, factor):
            return jnp.sum(factor * (jax.vmap(solve)(rhs) if batched else solve(rhs)))

        rhs = jnp.ones((2, 24)).at[0].set(0) if batched else jnp.zeros(24)
        for factor in (0.0, 1.0):
            gradient = jax.jit(jax.grad(partial(loss, factor=factor)))(rhs)
            matrix = jax.vmap(self.operator, out_axes=1)(jnp.eye(24))
            expected = factor * np.linalg.solve(np.asarray(matrix).T, np.ones(24))
            np.testing.assert_allclose(gradient, np.broadcast_to(expected, rhs.shape), atol=1e-8)

    def test_a_preconditioner_is_handed_on(self):
        linear = Lineax(lx.BiCGStab(1e-10, 1e-10), 1e-6)
        rhs = jnp.ones(24)
        _, alone = linear.solve(self.operator, rhs)
        _, helped = linear.solve(self.operator, rhs, None, DiagonalInverse(self.diagonal))
        assert int(helped.iterations) < int(alone.iterations)

    def test_what_lineax_cannot_solve_is_an_outcome(self):
        linear = Lineax(lx.BiCGStab(1e-12, 1e-12, max_steps=2), 1e-8)
        _, outcome = linear.solve(self.operator, jnp.ones(24))
        assert not bool(outcome.converged)
        own, _ = BiCGStab(1e-10).solve(self.operator, jnp.ones(24))
        assert np.all(np.isfinite(own))
