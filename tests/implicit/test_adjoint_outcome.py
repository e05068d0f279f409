"""What becomes of an adjoint solve is told; a gradient that it spoils is not handed out."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from impindiff.implicit import Affine, ImplicitAdjoint, root
from impindiff.linear import AdjointOutcome, BiCGStab, Outcome, Result

SIZE = 16
TIGHT = BiCGStab(1e-12)
HOPELESS = BiCGStab(1e-12, max_steps=1)
QUIET = ImplicitAdjoint(HOPELESS, on_failure="nan")


def system(dtype=jnp.float64):
    """Stiff: condition number 100."""
    random = np.random.default_rng(0)
    matrix = np.diag(np.geomspace(1, 100, SIZE)) + 0.1 * random.normal(size=(SIZE, SIZE))
    return jnp.asarray(matrix, dtype), jnp.asarray(random.normal(size=SIZE), dtype)


def residual(unknown, inputs):
    matrix, rhs = inputs
    return matrix @ unknown - rhs


def loss(rhs, probe, matrix, weight, solver):
    found, _ = root(residual, jnp.zeros_like(rhs), (matrix, rhs), solver, probe=probe)
    return weight * jnp.sum(found)


gradients = jax.jit(jax.grad(loss, (0, 1)))


def gradient_and_report(solver: Affine, weight=1.0, dtype=jnp.float64):
    matrix, rhs = system(dtype)
    probe = AdjointOutcome.probe()
    gradient, report = gradients(rhs, probe, matrix, jnp.asarray(weight, dtype), solver)
    return gradient, AdjointOutcome.from_cotangent(report)


def exact_gradient(weight=1.0):
    return np.linalg.solve(system()[0].T, np.full(SIZE, weight))


def test_a_solve_is_reported():
    gradient, report = gradient_and_report(Affine(TIGHT, TIGHT))
    assert (report.solves, report.failures) == (1, 0)
    assert 1 < report.iterations <= 3 * SIZE
    assert 0 < report.relative_residual <= 1e-12
    np.testing.assert_allclose(gradient, exact_gradient(), rtol=1e-9)


def test_a_failed_adjoint_gives_nan_and_says_so():
    """The forward solve is good; only the gradient is not."""
    gradient, report = gradient_and_report(Affine(TIGHT, HOPELESS))
    assert (report.solves, report.iterations, report.failures) == (1, 1, 1)
    assert report.relative_residual > 1e-12
    assert np.isnan(gradient).all()


def test_a_failed_tangent_solve_gives_nan_where_that_is_asked_for():
    matrix, rhs = system()

    def solution(rhs):
        return root(residual, jnp.zeros(SIZE), (matrix, rhs), Affine(TIGHT, QUIET))[0]

    value, tangent = jax.jit(partial(jax.jvp, solution))((rhs,), (rhs,))
    np.testing.assert_allclose(value, np.linalg.solve(matrix, rhs), rtol=1e-8)
    assert np.isnan(tangent).all()


def test_the_probe_may_be_left_out():
    matrix, rhs = system()
    without = jax.jit(jax.grad(lambda rhs, solver: loss(rhs, None, matrix, 1.0, solver)))
    np.testing.assert_array_equal(
        without(rhs, Affine(TIGHT, TIGHT)), gradient_and_report(Affine(TIGHT, TIGHT))[0]
    )
    assert np.isnan(without(rhs, Affine(TIGHT, QUIET))).all()


@pytest.mark.parametrize("weight", [np.nan, np.inf])
def test_a_cotangent_that_is_not_finite_counts_as_a_failure(weight: float):
    gradient, report = gradient_and_report(Affine(TIGHT, TIGHT), weight)
    assert (report.solves, report.failures) == (1, 1)
    assert report.iterations <= 1
    assert np.isnan(gradient).all()


@pytest.mark.parametrize("dtype, rtol", [(jnp.float64, 1e-9), (jnp.float32, 2e-4)])
@pytest.mark.parametrize("weight", [1e-30, 1e-20, 1e-10, 1e10, 1e20])
def test_tiny_and_huge_cotangents_are_solved_as_well_as_others(weight: float, dtype, rtol: float):
    """In single precision the square of 1e-30 is zero, and any answer would seem right."""
    solver = Affine(TIGHT, TIGHT) if dtype == jnp.float64 else Affine()
    gradient, report = gradient_and_report(solver, weight, dtype)
    assert report.failures == 0 and report.iterations > 1
    np.testing.assert_allclose(
        gradient / weight, exact_gradient(), rtol=rtol, atol=rtol * np.abs(exact_gradient()).max()
    )


def test_a_cotangent_of_zero_gives_a_gradient_of_zero():
    gradient, report = gradient_and_report(Affine(TIGHT, TIGHT), 0.0)
    assert (report.solves, report.iterations, report.failures) == (1, 0, 0)
    np.testing.assert_array_equal(gradient, np.zeros(SIZE))


def test_a_report_gives_the_mean_residual_of_its_solves():
    """What several solves leave is added up on the way back, their residuals too."""
    outcomes = [
        Outcome(jnp.array(int(result)), jnp.array(iterations), jnp.array(residual))
        for result, iterations, residual in (
            (Result.CONVERGED, 3, 1e-6),
            (Result.STALLED, 5, 3e-2),
            (Result.CONVERGED, 4, 2e-6),
        )
    ]
    dtype = jnp.dtype("float64")
    total = sum(AdjointOutcome.cotangent(outcome, dtype) for outcome in outcomes)
    report = AdjointOutcome.from_cotangent(jnp.asarray(total))
    assert (report.solves, report.iterations, report.failures) == (3, 12, 1)
    assert report.relative_residual == pytest.approx((3e-2 + 3e-6) / 3, rel=1e-12)
    assert AdjointOutcome.from_cotangent(AdjointOutcome.probe()).relative_residual == 0


@pytest.mark.thorough
def test_reports_add_up_over_samples_and_solves():
    matrix, rhs = system()
    several = jnp.stack([rhs, 0 * rhs, 3 * rhs])

    @partial(jax.jit, static_argnums=2)
    def loss(rhs, probe, linear):
        def one(rhs):
            once, _ = root(residual, rhs, (matrix, rhs), Affine(TIGHT, linear), probe=probe)
            twice, _ = root(residual, rhs, (matrix, once), Affine(TIGHT, linear), probe=probe)
            return jnp.sum(twice**2)

        return jnp.sum(jax.vmap(one)(rhs))

    report = AdjointOutcome.from_cotangent(
        jax.grad(loss, 1)(several, AdjointOutcome.probe(), TIGHT)
    )
    assert (report.solves, report.failures) == (6, 0)
    assert report.iterations > 4
    failed = AdjointOutcome.from_cotangent(
        jax.grad(loss, 1)(several, AdjointOutcome.probe(), HOPELESS)
    )
    # The sample of zero has nothing to solve.
    assert (failed.solves, failed.failures) == (6, 4)


def test_a_failed_sample_leaves_the_others_their_gradients():
    matrix, rhs = system()

    @jax.jit
    @jax.vmap
    @jax.grad
    def gradient(rhs):
        quiet = Affine(TIGHT, ImplicitAdjoint(TIGHT, on_failure="nan"))
        found, _ = root(residual, jnp.zeros(SIZE), (matrix, rhs), quiet)
        return jnp.sum(found**2)

    found = gradient(jnp.stack([rhs, rhs.at[0].set(jnp.nan), rhs]))
    assert np.isnan(found[1]).all() and np.isfinite(found[::2]).all()


def test_outcomes_that_are_as_good_as_can_be_count_as_converged():
    results = jnp.arange(len(Result))
    outcome = Outcome(results, jnp.zeros(results.size, int), jnp.zeros(results.size))
    assert [Result(r) for r in np.flatnonzero(outcome.converged)] == [
        Result.CONVERGED,
        Result.ROUND_OFF,
    ]
    assert bool(Outcome.exact().converged)
