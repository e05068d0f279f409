"""What every preconditioner owes a solver: it is linear, and it comes with its transpose."""

from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from contracts import final_classes
from gradients import inner, random_like

from impindiff._types import AbstractTendency
from impindiff.implicit import Affine, root as find_root
from impindiff.integrate._quadrature import FieldsInverse
from impindiff.linear import (
    AbstractInverse,
    AdjointOutcome,
    BiCGStab,
    BlockStencil,
    DenseInverse,
    LineElimination,
    PackedInverse,
    Stencil,
    TransposedInverse,
)
from impindiff.linear._inverse import IdentityInverse, RestrictedInverse
from impindiff.precondition import (
    AbstractPreconditioner,
    BalancedInverse,
    BlockInverse,
    BlockLineInverse,
    DeferredInverse,
    DiagonalInverse,
    GroupInverse,
    LinearisedStep,
    LineInverse,
    MultigridCycle,
    ScaledInverse,
    SpectralInverse,
    TransformLineInverse,
)


class Example(NamedTuple):
    preconditioner: AbstractInverse
    unknown: Any


SINGLE = {"f": jnp.float32, "c": jnp.complex64}
UNKNOWN = {"a": jnp.zeros((3, 4)), "b": jnp.zeros(5)}


def coupled() -> tuple[BlockStencil, dict]:
    """Two fields on a plane, every coefficient different."""
    unknown = {name: jnp.zeros((4, 3)) for name in "ab"}
    blocks = [random_like(jnp.zeros((2, 2, 4, 3)), k) for k in range(5)]
    centre = blocks[4] + 9 * jnp.eye(2)[:, :, None, None]
    sides = ((blocks[0], blocks[1]), (blocks[2], blocks[3]))
    return BlockStencil(centre, sides, jax.tree.structure(unknown)), unknown


def block_line() -> Example:
    operator, unknown = coupled()
    return Example(
        BlockLineInverse(operator.sides[0][0], operator.centre, operator.sides[0][1], 0), unknown
    )


def transform_line() -> Example:
    operator, unknown = coupled()
    return Example(TransformLineInverse(operator, 1, ("periodic", "neumann")), unknown)


class OfStencil(AbstractPreconditioner):
    """The blocks of a stencil, whatever the system is."""

    stencil: BlockStencil

    def make(self, operator: LinearisedStep) -> BlockInverse:
        return BlockInverse(self.stencil.centre)


class Decay(AbstractTendency):
    """u' = -u."""

    def __call__(self, state):
        return jax.tree.map(jnp.negative, state)


def deferred() -> Example:
    stencil, unknown = coupled()
    operator = LinearisedStep(Decay(), jnp.ones(()), unknown)
    return Example(DeferredInverse(OfStencil(stencil), operator), unknown)


def balanced() -> Example:
    """Exchange along both axes of a ring, and what decays."""
    side, decay = 0.3 + random_like(jnp.zeros((5, 2)), 0) ** 2, jnp.linspace(0.1, 1.0, 10)
    ring = ((side, jnp.roll(side, -1, 0)), (side, jnp.roll(side, -1, 1)))
    centre = -sum(a + b for a, b in ring) - decay.reshape(5, 2)
    inner = DiagonalInverse({"u": 1 - 2.0 * centre})
    stencil, weight = {"u": Stencil(centre, ring)}, jnp.asarray(2.0)
    return Example(
        BalancedInverse.of(inner, stencil, weight, (5, 2), None), {"u": jnp.zeros((5, 2))}
    )


def dense() -> DenseInverse:
    """Of all 17 unknowns."""
    return DenseInverse(random_like(jnp.zeros((17, 17)), 0))


def unpack(array: jax.Array) -> dict:
    return {"a": array[:12].reshape(3, 4), "b": array[12:]}


def line_elimination() -> Example:
    """Two fields on a line, every coefficient different."""
    unknown = {name: jnp.zeros(6) for name in "ab"}
    blocks = [random_like(jnp.zeros((2, 2, 6)), k) for k in range(3)]
    lower, upper = blocks[0].at[..., 0].set(0), blocks[1].at[..., -1].set(0)
    centre = blocks[2] + 9 * jnp.eye(2)[:, :, None]

    def product(vector: dict) -> dict:
        u = jnp.stack([vector["a"], vector["b"]])
        bands = (lower, 1), (centre, 0), (upper, -1)
        parts = [jnp.einsum("ijx,jx->ix", one, jnp.roll(u, shift, 1)) for one, shift in bands]
        return dict(zip("ab", sum(parts, jnp.zeros_like(u)), strict=True))

    return Example(LineElimination.of(product, unknown), unknown)


EXAMPLES: dict[type, Callable[[], Example]] = {
    DenseInverse: lambda: Example(dense(), UNKNOWN),
    PackedInverse: lambda: Example(PackedInverse(dense(), unpack), jnp.zeros(17)),
    LineElimination: line_elimination,
    BalancedInverse: balanced,
    DeferredInverse: deferred,
    IdentityInverse: lambda: Example(IdentityInverse(), UNKNOWN),
    DiagonalInverse: lambda: Example(
        DiagonalInverse(
            {"a": random_like(UNKNOWN["a"], 0).at[1, 2].set(0), "b": random_like(UNKNOWN["b"], 1)}
        ),
        UNKNOWN,
    ),
    BlockInverse: lambda: Example(
        # One block of rank one, and one of nothing.
        BlockInverse(
            random_like(jnp.zeros((3, 3, 5, 2)), 0).at[..., 1, 1].set(1).at[..., 4, 0].set(0)
        ),
        {name: jnp.zeros((5, 2)) for name in "abc"},
    ),
    BlockLineInverse: block_line,
    TransformLineInverse: transform_line,
    GroupInverse: lambda: Example(
        GroupInverse(
            ("b", ("a", "c")),
            [
                DiagonalInverse({"b": random_like(UNKNOWN["b"], 0)}),
                BlockInverse(random_like(jnp.zeros((2, 2, 5, 2)), 1)),
            ],
        ),
        {"a": jnp.zeros((5, 2)), "b": UNKNOWN["b"], "c": jnp.zeros((5, 2))},
    ),
    FieldsInverse: lambda: Example(
        FieldsInverse(BlockInverse(random_like(jnp.zeros((2, 2, 5, 2)), 0)), ("b",)),
        {"a": jnp.zeros((5, 2)), "b": UNKNOWN["b"], "c": jnp.zeros((5, 2))},
    ),
    RestrictedInverse: lambda: Example(
        RestrictedInverse(
            BlockInverse(random_like(jnp.zeros((3, 3, 5, 2)), 0)), {"b": jnp.zeros((5, 2))}
        ),
        {name: jnp.zeros((5, 2)) for name in "ac"},
    ),
    TransposedInverse: lambda: Example(block_line().preconditioner.transpose(), coupled()[1]),
    LineInverse: lambda: Example(
        LineInverse(
            random_like(UNKNOWN, 0),
            {"a": (5 + random_like(UNKNOWN["a"], 1)).at[1, 2].set(0), "b": jnp.array(5.0)},
            random_like(UNKNOWN, 2),
            axis=0,
        ),
        UNKNOWN,
    ),
    MultigridCycle: lambda: Example(
        MultigridCycle.build(
            {
                name: Stencil(
                    4 + random_like(field, 0), (tuple(-abs(random_like(field, k)) for k in (1, 2)),)
                )
                for name, field in {"a": jnp.zeros(11), "b": jnp.zeros(11)}.items()
            },
            (11,),
        ),
        {"a": jnp.zeros(11), "b": jnp.zeros(11)},
    ),
    ScaledInverse: lambda: Example(
        # Powers of two, which are inverted without round-off.
        ScaledInverse(
            DiagonalInverse(random_like(UNKNOWN, 0)),
            {"a": jnp.array(2.0**-9), "b": jnp.array(4.0)},
            {"a": jnp.array(2.0), "b": jnp.array(0.5)},
        ),
        UNKNOWN,
    ),
    SpectralInverse: lambda: Example(
        SpectralInverse(
            {
                "a": jnp.fft.rfft(random_like(UNKNOWN["a"], 0)).at[1, 2].set(0),
                "b": jnp.fft.rfftn(random_like(UNKNOWN["b"], 1)).at[0].set(0),
            },
            {"a": ("dirichlet-neumann", "periodic"), "b": "periodic"},
        ),
        UNKNOWN,
    ),
}


def test_every_preconditioner_is_under_contract():
    assert final_classes(AbstractInverse) == set(EXAMPLES)


@pytest.mark.parametrize("kind", EXAMPLES, ids=lambda kind: kind.__name__)
class TestContract:
    def test_the_transpose_is_the_adjoint(self, kind: type):
        preconditioner, unknown = EXAMPLES[kind]()
        x, y = random_like(unknown, 2), random_like(unknown, 3)
        left = inner(preconditioner.apply(x), y)
        right = inner(x, preconditioner.transpose().apply(y))
        assert float(left) == pytest.approx(float(right), rel=1e-12)

    @pytest.mark.many
    def test_the_transpose_of_the_transpose_is_itself(self, kind: type):
        preconditioner, unknown = EXAMPLES[kind]()
        x = random_like(unknown, 2)
        twice = preconditioner.transpose().transpose()
        assert eqx.tree_equal(preconditioner.apply(x), twice.apply(x))

    @pytest.mark.many
    def test_it_is_linear(self, kind: type):
        preconditioner, unknown = EXAMPLES[kind]()
        x, y = random_like(unknown, 2), random_like(unknown, 3)
        combined = preconditioner.apply(jax.tree.map(lambda a, b: 2 * a - 3 * b, x, y))
        apart = jax.tree.map(
            lambda a, b: 2 * a - 3 * b, preconditioner.apply(x), preconditioner.apply(y)
        )
        for found, expected in zip(*map(jax.tree.leaves, (combined, apart)), strict=True):
            np.testing.assert_allclose(found, expected, rtol=1e-12, atol=1e-12)

    @pytest.mark.many
    def test_it_keeps_structure_shapes_and_precision(self, kind: type):
        single = jax.tree.map(lambda a: a.astype(SINGLE[a.dtype.kind]), EXAMPLES[kind]())
        for example in (EXAMPLES[kind](), single):
            applied = example.preconditioner.apply(example.unknown)
            assert jax.eval_shape(lambda a=applied: a) == jax.eval_shape(lambda e=example: e[1])


@pytest.mark.thorough
def test_spectral_inverts_a_periodic_operator_of_constant_coefficients():
    kernel = random_like(jnp.zeros((5, 6)), 0).at[0, 0].add(20)
    symbol = jnp.fft.rfftn(kernel)
    x = random_like(jnp.zeros((5, 6)), 1)
    product = sum(
        float(kernel[i, j]) * jnp.roll(x, (i, j), (0, 1)) for i in range(5) for j in range(6)
    )
    np.testing.assert_allclose(SpectralInverse(symbol).apply(product), x, atol=1e-12)


def test_scaled_is_the_inverse_of_the_scaled_operator():
    matrix = np.asarray(4 * np.eye(3) + random_like(jnp.zeros((3, 3)), 0))
    columns, rows = np.array([1e-4, 2.0, 3e5]), np.array([7.0, 1e-6, 1e3])

    class Inverse(AbstractInverse):
        matrix: jax.Array

        def apply(self, vector):
            return jnp.linalg.solve(self.matrix, vector)

        def transpose(self):
            return Inverse(self.matrix.T)

    scaled = ScaledInverse(Inverse(jnp.asarray(matrix)), jnp.asarray(columns), jnp.asarray(rows))
    operator = matrix * columns / rows[:, None]
    np.testing.assert_allclose(scaled.apply(jnp.asarray(operator[:, 1])), [0, 1, 0], atol=1e-10)
    transposed = scaled.transpose().apply(jnp.asarray(operator[2]))
    np.testing.assert_allclose(transposed, [0, 0, 1], atol=1e-10)


def test_jacobi_divides_by_the_diagonal_and_leaves_what_has_none():
    applied = DiagonalInverse(jnp.array([2.0, 0.0, -4.0])).apply(jnp.array([1.0, 3.0, 2.0]))
    np.testing.assert_array_equal(applied, [0.5, 3.0, -0.5])


class TestBlockJacobi:
    @pytest.mark.thorough
    @pytest.mark.parametrize("num_fields", [1, 2, 3, 5])
    def test_each_cell_is_solved_for(self, num_fields: int):
        blocks = random_like(jnp.zeros((num_fields, num_fields, 4, 3)), 0)
        # Without an exchange of rows there is no pivot to begin with.
        blocks = blocks.at[0, 0].set(0 if num_fields > 1 else 1)
        v = list(random_like(jnp.zeros((num_fields, 4, 3)), 1))
        found = BlockInverse(blocks).apply(v)
        of_cells = np.moveaxis(blocks, (0, 1), (-2, -1))
        expected = np.linalg.solve(of_cells, np.stack(v, -1)[..., None])[..., 0]
        np.testing.assert_allclose(np.stack(found, -1), expected, rtol=1e-10)

    @pytest.mark.thorough
    def test_units_do_not_make_a_block_singular(self):
        """A pressure of 1e5 beside a mass fraction of 1e-6, in single precision."""
        block = jnp.array([[2.0, 1.0], [1.0, 3.0]])
        units = jnp.array([1e5, 1e-6])
        scaled = jnp.asarray(units[:, None] * block / units, jnp.float32)
        found = BlockInverse(scaled).apply([jnp.float32(1e5), jnp.float32(1e-6)])
        expected = np.linalg.solve(block, np.ones(2))
        np.testing.assert_allclose(np.array(found) / units, expected, rtol=1e-6)

    @pytest.mark.many
    @pytest.mark.parametrize(
        "block", [np.ones((2, 2)), np.zeros((2, 2)), np.full((2, 2), np.nan), [[1e-310, 0], [0, 1]]]
    )
    def test_where_there_is_no_inverse_the_cell_is_left_as_it_is(self, block):
        blocks = jnp.stack([jnp.asarray(block), 2 * jnp.eye(2)], -1)
        first, second = BlockInverse(blocks).apply((jnp.array([3.0, 4.0]), jnp.array([5.0, 6.0])))
        np.testing.assert_array_equal(first, [3.0, 2.0])
        np.testing.assert_array_equal(second, [5.0, 3.0])

    def test_refusals(self):
        with pytest.raises(ValueError, match="first two axes must be equal"):
            BlockInverse(jnp.ones((2, 3, 4)))
        with pytest.raises(ValueError, match="has 1 leaves, the blocks of BlockInverse are for 2"):
            BlockInverse(jnp.ones((2, 2, 4))).apply(jnp.ones(4))


def solved(residual, guess, inputs, solver, preconditioner):
    """Iterations forward and adjoint, and the gradient in the inputs, of a loss of the root."""

    @jax.jit
    @partial(jax.value_and_grad, argnums=(0, 1), has_aux=True)
    def loss(inputs, probe):
        found, outcome = find_root(
            residual, guess, inputs, solver, preconditioner=preconditioner, probe=probe
        )
        return sum(jnp.sum(jnp.sin(leaf)) for leaf in jax.tree.leaves(found)), outcome

    (_, forward), (gradient, report) = loss(inputs, AdjointOutcome.probe())
    adjoint = AdjointOutcome.from_cotangent(report)
    assert bool(forward.converged) and adjoint.failures == 0
    return int(forward.iterations), adjoint.iterations, gradient


@pytest.mark.thorough
def test_block_jacobi_saves_iterations_where_fields_are_coupled_fast():
    """Two fields that diffuse slowly and turn into each other fast, at rates that vary."""
    rate = jnp.asarray(np.geomspace(1, 1e4, 40))
    blocks = jnp.stack([jnp.stack([1 + rate, -2 * rate]), jnp.stack([-rate, 1 + 2 * rate])])
    # Near round-off, DiagonalInverse would only just converge, or not: by the order of additions.
    solver = Affine(BiCGStab(1e-9, max_steps=2000), BiCGStab(1e-9, max_steps=2000))

    def residual(u, inputs):
        def equation(row, name):
            spread = 2 * u[name] - jnp.roll(u[name], 1) - jnp.roll(u[name], -1)
            return blocks[row, 0] * u["a"] + blocks[row, 1] * u["b"] + spread - inputs[name]

        return {name: equation(row, name) for row, name in enumerate(("a", "b"))}

    guess = {"a": jnp.zeros(40), "b": jnp.zeros(40)}
    diagonal = DiagonalInverse({"a": 2 + blocks[0, 0], "b": 2 + blocks[1, 1]})
    whole = BlockInverse(blocks.at[0, 0].add(2).at[1, 1].add(2))
    inputs = random_like(guess, 0)
    *by_diagonal, exact = solved(residual, guess, inputs, solver, diagonal)
    *by_block, gradient = solved(residual, guess, inputs, solver, whole)
    assert all(b < d / 2 for b, d in zip(by_block, by_diagonal, strict=True))
    for name in guess:
        np.testing.assert_allclose(gradient[name], exact[name], rtol=1e-6, atol=1e-9)


class TestInASolve:
    """A nonsymmetric system whose rows differ by four orders of magnitude."""

    random = np.random.default_rng(0)
    scales = np.geomspace(1, 1e4, 30)
    matrix = jnp.asarray(np.diag(scales) + 0.02 * random.normal(size=(30, 30)) * scales[:, None])
    rhs = jnp.asarray(random.normal(size=30))
    solver = Affine(BiCGStab(1e-11, max_steps=500), BiCGStab(1e-11, max_steps=500))

    def run(self, preconditioner: AbstractInverse | None):
        def residual(u, inputs):
            return self.matrix @ u - inputs

        return solved(residual, jnp.zeros(30), self.rhs, self.solver, preconditioner)

    @pytest.mark.thorough
    def test_jacobi_saves_iterations_forward_and_adjoint(self):
        *plain, exact = self.run(None)
        *helped, gradient = self.run(DiagonalInverse(jnp.diag(self.matrix)))
        assert all(few < many / 2 for few, many in zip(helped, plain, strict=True))
        np.testing.assert_allclose(gradient, exact, rtol=1e-6, atol=1e-12)
