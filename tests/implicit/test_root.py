"""The gradient of a root is the one that the implicit function theorem gives."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from gradients import inner, random_like, taylor_rate

from impindiff.implicit import Affine, root
from impindiff.linear import BiCGStab

SIZE = 8
TIGHT = Affine(BiCGStab(1e-14), BiCGStab(1e-13))


def system(seed: int = 0):
    random = np.random.default_rng(seed)
    matrix = 3 * np.eye(SIZE) + 0.3 * random.normal(size=(SIZE, SIZE))
    return jnp.asarray(matrix), jnp.asarray(random.normal(size=SIZE))


def residual(unknown, inputs):
    matrix, rhs = inputs
    return matrix @ unknown - rhs


def solution(matrix, rhs, solver: Affine = TIGHT):
    return root(residual, jnp.zeros_like(rhs), (matrix, rhs), solver)[0]


def loss(matrix, rhs, solver: Affine = TIGHT):
    return jnp.sum(jnp.sin(solution(matrix, rhs, solver)))


gradients = jax.jit(jax.grad(loss, (0, 1)))


def dense_loss(matrix, rhs):
    return jnp.sum(jnp.sin(jnp.linalg.solve(matrix, rhs)))


def test_the_root_solves_the_equation():
    matrix, rhs = system()
    found, outcome = root(residual, jnp.zeros(SIZE), (matrix, rhs), TIGHT)
    assert bool(outcome.converged)
    np.testing.assert_allclose(residual(found, (matrix, rhs)), 0, atol=1e-13)


def test_the_gradient_is_the_analytic_one():
    r"""$A^T \lambda = g$; with respect to $b$ it is $\lambda$, to $A$ it is $-\lambda u^T$."""
    matrix, rhs = system()
    of_matrix, of_rhs = gradients(matrix, rhs)
    u = np.linalg.solve(matrix, rhs)
    adjoint = np.linalg.solve(matrix.T, np.cos(u))
    np.testing.assert_allclose(of_rhs, adjoint, rtol=1e-12)
    np.testing.assert_allclose(of_matrix, -np.outer(adjoint, u), rtol=1e-11)


def test_the_gradient_comes_from_the_rule_and_not_from_unrolling():
    """Were the rule not in force, the two would agree to the last digit."""
    matrix, rhs = system()
    implicit = gradients(matrix, rhs)[0]
    unrolled = jax.jit(jax.grad(dense_loss))(matrix, rhs)
    np.testing.assert_allclose(implicit, unrolled, rtol=1e-11)
    assert not np.array_equal(implicit, unrolled)


@pytest.mark.thorough
@pytest.mark.parametrize("seed", range(3))
def test_the_gradient_leaves_a_second_order_remainder(seed: int):
    assert taylor_rate(lambda inputs: loss(*inputs), system(seed), seed=seed) == pytest.approx(
        2, abs=0.1
    )


def test_forward_and_reverse_mode_agree():
    inputs = system()
    along, across = random_like(inputs, 1), random_like(inputs[1], 2)
    _, pushed = jax.jit(partial(jax.jvp, solution))(inputs, along)
    pulled = jax.jit(lambda inputs, across: jax.vjp(solution, *inputs)[1](across))(inputs, across)
    assert float(jnp.vdot(across, pushed)) == pytest.approx(float(inner(pulled, along)), rel=1e-12)


def of_matrix_alone(f):
    matrix, rhs = system()
    return partial(f, rhs=rhs), matrix


def of_rhs_alone(f):
    matrix, rhs = system()
    return partial(f, matrix), rhs


@pytest.mark.thorough
@pytest.mark.parametrize("restrict", [of_matrix_alone, of_rhs_alone])
@pytest.mark.parametrize(
    "outer, inner",
    [
        (jax.jacfwd, jax.jacrev),
        pytest.param(jax.jacrev, jax.jacrev, marks=pytest.mark.slow),
        pytest.param(jax.jacrev, jax.jacfwd, marks=pytest.mark.slow),
        pytest.param(jax.jacfwd, jax.jacfwd, marks=pytest.mark.slow),
    ],
)
def test_second_derivatives(outer, inner, restrict):
    """With respect to the right-hand side alone the operator has no tangent: a path of its own."""
    f, at = restrict(loss)
    dense, _ = restrict(dense_loss)
    found, exact = jax.jit(outer(inner(f)))(at), jax.jit(jax.hessian(dense))(at)
    np.testing.assert_allclose(found, exact, rtol=1e-9, atol=1e-11)


@pytest.mark.thorough
def test_a_hessian_vector_product_is_the_slope_of_the_gradient():
    inputs = system()
    direction = random_like(inputs, 3)
    gradient = jax.jit(jax.grad(lambda inputs: loss(*inputs)))
    _, product = jax.jit(partial(jax.jvp, gradient))((inputs,), (direction,))

    def moved(h: float):
        return gradient(jax.tree.map(lambda p, d: p + h * d, inputs, direction))

    slope = jax.tree.map(lambda a, b: (a - b) / 2e-4, moved(1e-4), moved(-1e-4))
    for found, expected in zip(product, slope, strict=True):
        np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-7)


@pytest.mark.slow
def test_third_derivatives():
    matrix, rhs = system()
    third = jax.jit(jax.jacfwd(jax.hessian(partial(loss, matrix))))(rhs)
    exact = jax.jit(jax.jacfwd(jax.hessian(partial(dense_loss, matrix))))(rhs)
    np.testing.assert_allclose(third, exact, rtol=1e-8, atol=1e-11)


def test_rematerialisation_changes_nothing():
    inputs = system()
    wrapped = jax.jit(jax.grad(jax.checkpoint(loss), (0, 1)))(*inputs)
    for found, exact in zip(wrapped, gradients(*inputs), strict=True):
        np.testing.assert_allclose(found, exact, rtol=1e-10, atol=1e-14)


@pytest.mark.thorough
def test_a_batch_of_gradients():
    matrix, rhs = system()
    several = jnp.stack([rhs, -2 * rhs, jnp.zeros(SIZE)])
    batched = jax.jit(jax.vmap(jax.grad(loss, (0, 1)), (None, 0)))(matrix, several)
    for k, one in enumerate(several):
        for found, exact in zip(batched, gradients(matrix, one), strict=True):
            np.testing.assert_allclose(found[k], exact, rtol=1e-10, atol=1e-13)


@pytest.mark.thorough
def test_the_gradient_of_a_batch_is_the_sum():
    matrix, rhs = system()
    several = jnp.stack([rhs, -2 * rhs])
    whole = jax.jit(jax.grad(lambda m: jnp.sum(jax.vmap(loss, (None, 0))(m, several))))(matrix)
    parts = sum(gradients(matrix, one)[0] for one in several)
    np.testing.assert_allclose(whole, parts, rtol=1e-10)


class TestTwoFields:
    """A tree of unknowns, one of which an input leaves alone."""

    @staticmethod
    def residual(unknown, inputs):
        a, b = inputs
        return {"a": a * unknown["a"] - 1, "b": b * unknown["b"] + jnp.roll(unknown["b"], 1) - 2}

    @classmethod
    def loss(cls, a, b):
        guess = {"a": jnp.ones(3), "b": jnp.ones(4)}
        found, _ = root(cls.residual, guess, (a, b), TIGHT)
        return jnp.sum(found["a"] ** 2) + jnp.sum(jnp.sin(found["b"]))

    @pytest.mark.thorough
    @pytest.mark.parametrize("argument", [0, 1])
    def test_derivatives_with_respect_to_one_of_them(self, argument: int):
        inputs = (jnp.array([2.0, 3.0, 4.0]), jnp.array([3.0, 4.0, 5.0, 6.0]))

        def f(x):
            return self.loss(*(x if k == argument else v for k, v in enumerate(inputs)))

        assert taylor_rate(f, inputs[argument]) == pytest.approx(2, abs=0.1)
        if argument == 0:
            hessian = jax.jit(jax.hessian(f))(inputs[0])
            np.testing.assert_allclose(hessian, np.diag(6 / inputs[0] ** 4), rtol=1e-9, atol=1e-13)


def test_no_gradient_flows_through_the_guess():
    matrix, rhs = system()

    @jax.jit
    @jax.grad
    def gradient(guess):
        return jnp.sum(root(residual, guess, (matrix, rhs), TIGHT)[0])

    np.testing.assert_array_equal(gradient(rhs), np.zeros(SIZE))


def test_inputs_may_hold_numbers_integers_and_strings():
    matrix, rhs = system()

    def mixed(unknown, inputs):
        return inputs["m"] @ unknown - inputs["k"] * inputs["x"] * inputs["rhs"]

    @jax.jit
    def gradient(rhs, k):
        inputs = {"m": np.asarray(matrix), "rhs": rhs, "k": k, "x": 2.0, "name": "c", "none": None}
        return jax.grad(
            lambda rhs: jnp.sum(root(mixed, jnp.zeros(SIZE), inputs | {"rhs": rhs}, TIGHT)[0])
        )(rhs)

    exact = 6 * np.linalg.solve(matrix.T, np.ones(SIZE))
    np.testing.assert_allclose(gradient(rhs, jnp.array(3)), exact, rtol=1e-11)


def test_single_precision_stays_single():
    matrix, rhs = (array.astype(jnp.float32) for array in system())
    gradient = jax.jit(jax.grad(lambda rhs: loss(matrix, rhs, Affine())))(rhs)
    assert gradient.dtype == jnp.float32
    _, exact = gradients(*system())
    np.testing.assert_allclose(gradient, exact, rtol=1e-4, atol=1e-5)


@pytest.mark.thorough
def test_memory_does_not_grow_with_the_iterations_allowed():
    """No iterate is stored: the temporaries of a gradient are those of one product."""
    matrix, rhs = system()

    def temporaries(max_steps: int) -> int:
        linear = BiCGStab(1e-13, max_steps=max_steps)
        gradient = jax.jit(jax.grad(lambda m: loss(m, rhs, Affine(linear, linear))))
        analysis = gradient.lower(matrix).compile().memory_analysis()
        assert analysis is not None
        return analysis.temp_size_in_bytes

    assert temporaries(5) == temporaries(50) == temporaries(500)


@pytest.mark.parametrize(
    "wrong, guess, said",
    [
        (lambda u, _: u[:, None] - u, jnp.zeros(3), r"returns float64\[3, 3\] for .* float64\[3\]"),
        (lambda u, _: jnp.sum(u), jnp.zeros(3), "as many equations as unknowns"),
        (lambda u, _: u + jnp.ones(3), jnp.zeros(3, jnp.float32), "float64.*float32.*dtype"),
        (lambda u, _: {"a": u["a"]}, {"a": jnp.zeros(2), "b": jnp.zeros(2)}, "same structure"),
    ],
)
def test_a_residual_unlike_its_unknown_is_refused(wrong, guess, said: str):
    with pytest.raises(ValueError, match=said):
        root(wrong, guess, None, TIGHT)


@pytest.mark.parametrize(
    "guess, found",
    [
        ({"a": jnp.zeros(3), "b": jnp.zeros(3, jnp.float32)}, "float64.*float32"),
        ({}, "{}"),
        (jnp.zeros((0, 4)), "float64.0, 4."),
    ],
)
def test_what_is_no_vector_is_refused(guess, found: str):
    with pytest.raises(ValueError, match=f"the guess is .*{found}.*real numbers"):
        root(lambda u, _: u, guess, None, TIGHT)


def test_an_unknown_may_be_a_number_or_have_an_empty_part():
    guess = {"number": jnp.array(0.0), "empty": jnp.zeros(0)}
    found, outcome = root(
        lambda u, p: {"number": 2 * u["number"] - p, "empty": u["empty"]}, guess, 3.0, TIGHT
    )
    assert bool(outcome.converged) and float(found["number"]) == pytest.approx(1.5)
