"""Solves in the space of modes agree with dense ones, whatever an axis ends in."""

from functools import partial
from itertools import product

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from gradients import random_like

from impindiff.implicit import Affine, ImplicitAdjoint, root
from impindiff.linear import CG, AdjointOutcome
from impindiff.precondition import (
    SpectralInverse,
    _modes as spectral,
    eigenvalues,
    laplacian_symbol,
)

KINDS = ("periodic", "neumann", "dirichlet", "dirichlet-neumann", "neumann-dirichlet")


def second_difference(kind: str, cells: int) -> np.ndarray:
    """The matrix, by ghost cells: minus the end's value, or the end's value again."""
    matrix = np.zeros((cells, cells))
    of_ghost = {"neumann": 1.0, "dirichlet": -1.0}
    ends = kind.split("-") if "-" in kind else [kind, kind]
    for cell in range(cells):
        matrix[cell, cell] -= 2
        for beyond, end in ((cell - 1, ends[0]), (cell + 1, ends[1])):
            if 0 <= beyond < cells:
                matrix[cell, beyond] += 1
            elif end == "periodic":
                matrix[cell, beyond % cells] += 1
            else:
                matrix[cell, cell] += of_ghost[end]
    return matrix


def along(matrix, field, axis):
    return jnp.moveaxis(jnp.tensordot(matrix, field, (1, axis)), 0, axis)


def laplacian(kinds, weights, field):
    matrices = map(second_difference, kinds, field.shape)
    return sum(
        w * along(m, field, a) for a, (w, m) in enumerate(zip(weights, matrices, strict=True))
    )


@pytest.mark.parametrize("cells", [1, 2, 3, 8, 9])
@pytest.mark.parametrize("kind", KINDS)
def test_eigenvalues_are_those_of_the_matrix(kind: str, cells: int):
    expected = np.linalg.eigvalsh(second_difference(kind, cells))
    np.testing.assert_allclose(np.sort(eigenvalues(kind, cells)), expected, atol=1e-13)


LINES = [((kind,), (cells,)) for kind, cells in product(KINDS, (6, 7))]
PLANES = [(kinds, (4, 5)) for kinds in product(KINDS, KINDS)]
VOLUMES = [
    (("neumann", "periodic", "dirichlet"), (3, 5, 4)),
    (("periodic", "dirichlet-neumann", "periodic"), (4, 3, 5)),
    (("neumann-dirichlet", "dirichlet", "neumann"), (3, 2, 5)),
]


# As in use, short axes by matrix product, and all of them by Fourier transforms.
@pytest.mark.many
@pytest.mark.parametrize(
    "longest_product, kinds, shape",
    [(512, *case) for case in LINES + PLANES + VOLUMES] + [(0, *case) for case in LINES + VOLUMES],
)
def test_a_solve_is_the_dense_one(longest_product, kinds, shape, monkeypatch):
    monkeypatch.setattr(spectral, "_LONGEST_PRODUCT", longest_product)
    weights = (0.7, 1.9, 0.4)[: len(shape)]
    matrix = np.eye(int(np.prod(shape)))
    for axis, (kind, cells) in enumerate(zip(kinds, shape, strict=True)):
        before, after = int(np.prod(shape[:axis])), int(np.prod(shape[axis + 1 :]))
        one = np.kron(np.kron(np.eye(before), second_difference(kind, cells)), np.eye(after))
        matrix -= weights[axis] * one
    rhs = random_like(jnp.zeros(shape), 0)
    found = SpectralInverse(1 - laplacian_symbol(kinds, shape, weights), kinds).apply(rhs)
    expected = np.linalg.solve(matrix, np.ravel(rhs)).reshape(shape)
    np.testing.assert_allclose(found, expected, rtol=1e-11, atol=1e-13)


def test_a_symbol_may_be_complex_along_a_periodic_axis_beside_one_that_is_not():
    """Upwind along the first axis, diffusion between walls along the second."""
    shape, kinds = (7, 6), ("periodic", "dirichlet")
    upwind = np.eye(7) - np.roll(np.eye(7), 1, axis=0)
    turn = 1 - np.exp(-2j * np.pi * np.fft.rfftfreq(7))
    symbol = 1 + 2 * jnp.asarray(turn)[:, None] - 3 * jnp.asarray(eigenvalues("dirichlet", 6))
    rhs = random_like(jnp.zeros(shape), 0)
    for preconditioner, matrix in (
        (SpectralInverse(symbol, kinds), upwind),
        (SpectralInverse(symbol, kinds).transpose(), upwind.T),
    ):
        x = preconditioner.apply(rhs)
        of_walls = along(second_difference("dirichlet", 6), x, 1)
        product = x + 2 * along(matrix, x, 0) - 3 * of_walls
        np.testing.assert_allclose(product, rhs, atol=1e-12)


@pytest.mark.many
@pytest.mark.parametrize("kind", KINDS)
def test_both_ways_of_transforming_are_one_in_single_precision(kind, monkeypatch):
    symbol = 1 - jnp.asarray(laplacian_symbol(kind, (40, 33), (50.0, 50.0)), jnp.float32)
    rhs = jnp.asarray(random_like(jnp.zeros((40, 33)), 0), jnp.float32)
    by_product = SpectralInverse(symbol, kind).apply(rhs)
    monkeypatch.setattr(spectral, "_LONGEST_PRODUCT", 0)
    by_fourier = SpectralInverse(symbol, kind).apply(rhs)
    assert kind == "periodic" or not np.array_equal(by_product, by_fourier)
    assert by_product.dtype == by_fourier.dtype == jnp.float32
    np.testing.assert_allclose(by_product, by_fourier, atol=2e-6)


def test_each_leaf_may_have_ends_of_its_own():
    unknown = {"pressure": random_like(jnp.zeros((4, 5)), 0), "velocity": jnp.ones((4, 5))}
    kinds = {"pressure": ("neumann", "periodic"), "velocity": "dirichlet"}
    symbols = {name: 1 - laplacian_symbol(kind, (4, 5), (1.0, 2.0)) for name, kind in kinds.items()}
    together = SpectralInverse(symbols, kinds).apply(unknown)
    for name, kind in kinds.items():
        alone = SpectralInverse(symbols[name], kind).apply(unknown[name])
        np.testing.assert_array_equal(together[name], alone)


def test_what_has_no_eigenvalue_is_left_as_it_is():
    """No-flux walls alone leave the mean undetermined."""
    symbol = -laplacian_symbol("neumann", (6, 5), (1.0, 1.0))
    rhs = random_like(jnp.zeros((6, 5)), 0)
    x = SpectralInverse(symbol, "neumann").apply(rhs)
    assert float(x.mean()) == pytest.approx(float(rhs.mean()))
    product = -laplacian(("neumann", "neumann"), (1.0, 1.0), x)
    np.testing.assert_allclose(product, rhs - rhs.mean(), atol=1e-12)


def test_vmap_over_symbols_and_right_hand_sides():
    symbols = 1 - jnp.stack([w * laplacian_symbol("dirichlet", (5, 4), (1, 1)) for w in (1, 2)])
    rhs = random_like(jnp.zeros((2, 5, 4)), 0)
    batched = jax.vmap(lambda s, v: SpectralInverse(s, "dirichlet").apply(v))(symbols, rhs)
    for symbol, v, found in zip(symbols, rhs, batched, strict=True):
        np.testing.assert_allclose(SpectralInverse(symbol, "dirichlet").apply(v), found, atol=1e-14)


class TestInASolve:
    """Diffusion that varies by a factor of two, between walls; the mean's inverse helps."""

    kinds = ("dirichlet", "neumann")

    def run(self, cells, preconditioned):
        shape = (cells, cells)
        weight = cells**2 / 100
        x = (np.arange(cells) + 0.5) / cells
        varying = jnp.asarray(1 + 0.3 * np.sin(2 * np.pi * x)[:, None] * np.cos(np.pi * x))
        symbol = 1 - weight * laplacian_symbol(self.kinds, shape, (1.0, 1.0))
        solver = CG(1e-10, max_steps=1000)

        def residual(u, inputs):
            # Symmetric: the coefficient's root on both sides.
            scale = jnp.sqrt(inputs[0])
            return u - scale * weight * laplacian(self.kinds, (1.0, 1.0), scale * u) - inputs[1]

        @jax.jit
        @partial(jax.value_and_grad, argnums=(0, 1), has_aux=True)
        def loss(rhs, probe):
            found, outcome = root(
                residual,
                jnp.zeros(shape),
                (varying, rhs),
                Affine(solver, ImplicitAdjoint(solver)),
                preconditioner=SpectralInverse(symbol, self.kinds) if preconditioned else None,
                probe=probe,
            )
            return jnp.sum(jnp.sin(found)), outcome

        (_, forward), (gradient, report) = loss(
            random_like(jnp.zeros(shape), 0), AdjointOutcome.probe()
        )
        adjoint = AdjointOutcome.from_cotangent(report)
        assert bool(forward.converged) and adjoint.failures == 0
        return int(forward.iterations), adjoint.iterations, gradient

    @pytest.mark.thorough
    def test_iterations_are_saved_and_do_not_grow_with_the_grid(self):
        plain_forward, plain_adjoint, exact = self.run(32, preconditioned=False)
        forward, adjoint, gradient = self.run(32, preconditioned=True)
        assert forward < plain_forward / 3 and adjoint < plain_adjoint / 3
        np.testing.assert_allclose(gradient, exact, rtol=1e-6, atol=1e-9)
        coarse = self.run(16, preconditioned=True)
        assert forward <= coarse[0] + 2 and adjoint <= coarse[1] + 2


class TestRefusals:
    def test_another_word(self):
        for attempt in (
            lambda: eigenvalues("robin", 4),
            lambda: SpectralInverse(jnp.ones(4), "robin"),
        ):
            with pytest.raises(ValueError, match=r"'robin'.*periodic, neumann"):
                attempt()

    def test_another_number_of_axes(self):
        with pytest.raises(ValueError, match="name 1 axes, but the grid has 2"):
            SpectralInverse(jnp.ones((3, 4)), ("neumann",)).apply(jnp.ones((3, 4)))

    def test_a_complex_symbol_of_real_modes(self):
        with pytest.raises(ValueError, match="Give the real part"):
            SpectralInverse(jnp.ones(4, complex), "neumann")
