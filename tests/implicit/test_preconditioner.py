"""What every preconditioner owes a solver: it is linear, and it comes with its transpose."""

from collections.abc import Callable
from functools import partial
from typing import NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from gradients import inner, random_like

import impindiff
from impindiff.implicit import (
    AbstractPreconditioner,
    AdjointOutcome,
    Affine,
    BiCGStab,
    Fourier,
    Jacobi,
)
from impindiff.implicit import root as find_root


class Example(NamedTuple):
    preconditioner: AbstractPreconditioner
    unknown: dict


SINGLE = {"f": jnp.float32, "c": jnp.complex64}
UNKNOWN = {"a": jnp.zeros((3, 4)), "b": jnp.zeros(5)}

EXAMPLES: dict[type, Callable[[], Example]] = {
    Jacobi: lambda: Example(
        Jacobi(
            {"a": random_like(UNKNOWN["a"], 0).at[1, 2].set(0), "b": random_like(UNKNOWN["b"], 1)}
        ),
        UNKNOWN,
    ),
    Fourier: lambda: Example(
        Fourier(
            {
                name: jnp.fft.rfftn(random_like(leaf, seed)).at[(0,) * leaf.ndim].set(0)
                for seed, (name, leaf) in enumerate(UNKNOWN.items())
            }
        ),
        UNKNOWN,
    ),
}


def final_classes(interface: type) -> set[type]:
    below = set().union(*(final_classes(sub) for sub in interface.__subclasses__()), set())
    inside = interface.__module__.split(".")[0] == impindiff.__name__
    return below or ({interface} if inside else set())


def test_every_preconditioner_is_under_contract():
    assert final_classes(AbstractPreconditioner) == set(EXAMPLES)


@pytest.mark.parametrize("kind", EXAMPLES, ids=lambda kind: kind.__name__)
class TestContract:
    def test_the_transpose_is_the_adjoint(self, kind: type):
        preconditioner, unknown = EXAMPLES[kind]()
        x, y = random_like(unknown, 2), random_like(unknown, 3)
        left = inner(preconditioner.apply(x), y)
        right = inner(x, preconditioner.transpose().apply(y))
        assert float(left) == pytest.approx(float(right), rel=1e-12)

    def test_the_transpose_of_the_transpose_is_itself(self, kind: type):
        preconditioner, unknown = EXAMPLES[kind]()
        x = random_like(unknown, 2)
        twice = preconditioner.transpose().transpose()
        assert eqx.tree_equal(preconditioner.apply(x), twice.apply(x))

    def test_it_is_linear(self, kind: type):
        preconditioner, unknown = EXAMPLES[kind]()
        x, y = random_like(unknown, 2), random_like(unknown, 3)
        combined = preconditioner.apply(jax.tree.map(lambda a, b: 2 * a - 3 * b, x, y))
        apart = jax.tree.map(
            lambda a, b: 2 * a - 3 * b, preconditioner.apply(x), preconditioner.apply(y)
        )
        for found, expected in zip(*map(jax.tree.leaves, (combined, apart)), strict=True):
            np.testing.assert_allclose(found, expected, rtol=1e-12, atol=1e-12)

    def test_it_keeps_structure_shapes_and_precision(self, kind: type):
        single = jax.tree.map(lambda a: a.astype(SINGLE[a.dtype.kind]), EXAMPLES[kind]())
        for example in (EXAMPLES[kind](), single):
            applied = example.preconditioner.apply(example.unknown)
            assert jax.eval_shape(lambda a=applied: a) == jax.eval_shape(lambda e=example: e[1])


def test_fourier_inverts_a_periodic_operator_of_constant_coefficients():
    kernel = random_like(jnp.zeros((5, 6)), 0).at[0, 0].add(20)
    symbol = jnp.fft.rfftn(kernel)
    x = random_like(jnp.zeros((5, 6)), 1)
    product = sum(
        float(kernel[i, j]) * jnp.roll(x, (i, j), (0, 1)) for i in range(5) for j in range(6)
    )
    np.testing.assert_allclose(Fourier(symbol).apply(product), x, atol=1e-12)


def test_jacobi_divides_by_the_diagonal_and_leaves_what_has_none():
    applied = Jacobi(jnp.array([2.0, 0.0, -4.0])).apply(jnp.array([1.0, 3.0, 2.0]))
    np.testing.assert_array_equal(applied, [0.5, 3.0, -0.5])


class TestInASolve:
    """A nonsymmetric system whose rows differ by four orders of magnitude."""

    random = np.random.default_rng(0)
    scales = np.geomspace(1, 1e4, 30)
    matrix = jnp.asarray(np.diag(scales) + 0.02 * random.normal(size=(30, 30)) * scales[:, None])
    rhs = jnp.asarray(random.normal(size=30))
    solver = Affine(BiCGStab(1e-11, max_steps=500), BiCGStab(1e-11, max_steps=500))

    def run(self, preconditioned: bool):
        preconditioner = Jacobi(jnp.diag(self.matrix)) if preconditioned else None

        @jax.jit
        @partial(jax.value_and_grad, argnums=(0, 1), has_aux=True)
        def loss(rhs, probe):
            found, outcome = find_root(
                lambda u, inputs: inputs[0] @ u - inputs[1],
                jnp.zeros(30),
                (self.matrix, rhs),
                self.solver,
                preconditioner=preconditioner,
                probe=probe,
            )
            return jnp.sum(jnp.sin(found)), outcome

        (_, forward), (gradient, report) = loss(self.rhs, AdjointOutcome.probe())
        return forward, gradient, AdjointOutcome.from_cotangent(report)

    def test_jacobi_saves_iterations_forward_and_adjoint(self):
        plain, exact, of_plain = self.run(preconditioned=False)
        forward, gradient, adjoint = self.run(preconditioned=True)
        assert bool(plain.converged) and bool(forward.converged)
        assert of_plain.failures == adjoint.failures == 0
        assert int(forward.iterations) < int(plain.iterations) / 2
        assert adjoint.iterations < of_plain.iterations / 2
        np.testing.assert_allclose(gradient, exact, rtol=1e-6, atol=1e-12)
