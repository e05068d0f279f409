"""BiCGStab finds what a direct solve finds, and says so; what has no solution it does not claim."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.flatten_util import ravel_pytree

from impindiff.linear import BiCGStab, Outcome, Result

PRECISIONS = [(jnp.float32, 1e-6), (jnp.float64, 1e-13)]


@jax.jit
def solve(solver: BiCGStab, matrix, rhs, guess=None):
    """Compiled once for each solver, size and precision."""
    return solver.solve(lambda vector: matrix @ vector, rhs, guess)


def random_system(seed: int, size: int = 20) -> tuple[np.ndarray, np.ndarray]:
    """A well-conditioned system without any symmetry."""
    random = np.random.default_rng(seed)
    matrix = 3 * np.eye(size) + 0.3 * random.normal(size=(size, size))
    return matrix, random.normal(size=size)


def ended(outcome: Outcome) -> tuple[Result, int]:
    return Result(int(outcome.result)), int(outcome.iterations)


@pytest.mark.parametrize("dtype, rtol", PRECISIONS)
@pytest.mark.parametrize("seed", range(4))
def test_agrees_with_a_direct_solve(seed: int, dtype, rtol: float):
    matrix, rhs = random_system(seed)
    found, outcome = solve(BiCGStab(rtol), matrix.astype(dtype), jnp.asarray(rhs, dtype))
    assert found.dtype == dtype
    assert bool(outcome.converged) and 0 < int(outcome.iterations) < 20
    residual = np.linalg.norm(matrix @ np.asarray(found, float) - rhs) / np.linalg.norm(rhs)
    assert residual < 3 * rtol
    assert float(outcome.relative_residual) == pytest.approx(residual, abs=rtol)
    exact = np.linalg.solve(matrix, rhs)
    assert np.linalg.norm(found - exact) < 5 * rtol * np.linalg.norm(exact)


@pytest.mark.thorough
def test_the_unknown_may_be_a_tree_of_arrays():
    matrix, rhs = map(jnp.asarray, random_system(0, 17))
    _, unravel = ravel_pytree({"a": jnp.zeros((3, 4)), "b": (jnp.zeros(5),)})
    found, outcome = BiCGStab(1e-13).solve(
        lambda tree: unravel(matrix @ ravel_pytree(tree)[0]), unravel(rhs)
    )
    assert bool(outcome.converged)
    np.testing.assert_allclose(ravel_pytree(found)[0], np.linalg.solve(matrix, rhs), rtol=1e-10)


@pytest.mark.parametrize("guess", [None, jnp.ones(20)])
def test_a_right_hand_side_of_zero_gives_exactly_zero(guess):
    matrix, _ = random_system(0)
    found, outcome = solve(BiCGStab(1e-6), matrix, jnp.zeros(20), guess)
    assert ended(outcome) == (Result.CONVERGED, 0)
    assert float(outcome.relative_residual) == 0
    np.testing.assert_array_equal(found, np.zeros(20))


def test_an_exact_guess_is_returned_as_it_is():
    matrix, rhs = random_system(1)
    guess = jnp.asarray(np.linalg.solve(matrix, rhs))
    found, outcome = solve(BiCGStab(1e-10), matrix, jnp.asarray(rhs), guess)
    assert ended(outcome) == (Result.CONVERGED, 0)
    np.testing.assert_array_equal(found, guess)


def test_a_good_guess_saves_iterations():
    matrix, rhs = random_system(2)
    near = jnp.asarray(np.linalg.solve(matrix, rhs) + 1e-6)
    _, cold = solve(BiCGStab(1e-10), matrix, jnp.asarray(rhs))
    found, warm = solve(BiCGStab(1e-10), matrix, jnp.asarray(rhs), near)
    assert bool(warm.converged) and int(warm.iterations) < int(cold.iterations)
    np.testing.assert_allclose(found, np.linalg.solve(matrix, rhs), rtol=1e-8)


@pytest.mark.parametrize("size", [1e-30, 1e-20, 1e-13, 1e13, 1e20, 1e30, 1e35])
def test_the_size_of_the_right_hand_side_does_not_matter(size: float):
    """In single precision the squares of most of these are zero or infinite."""
    matrix, rhs = random_system(3)
    operator = matrix.astype(np.float32)
    one, of_one = solve(BiCGStab(1e-6), operator, jnp.asarray(rhs, jnp.float32))
    found, outcome = solve(BiCGStab(1e-6), operator, jnp.asarray(size * rhs, jnp.float32))
    assert ended(outcome) == ended(of_one)
    np.testing.assert_allclose(found / size, one, rtol=1e-4, atol=1e-5)


def test_the_absolute_tolerance_is_in_units_of_the_right_hand_side():
    matrix, rhs = random_system(3)
    loose = BiCGStab(rtol=0.0, atol=1e-2)
    for size in (1.0, 1e3):
        found, outcome = solve(loose, matrix, jnp.asarray(size * rhs))
        assert bool(outcome.converged)
        assert np.linalg.norm(matrix @ np.asarray(found) - size * rhs) <= 1e-2
    _, nothing_to_do = solve(loose, matrix, jnp.asarray(1e-3 * rhs))
    assert ended(nothing_to_do) == (Result.CONVERGED, 0)


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("where", ["rhs", "guess", "operator", "one entry"])
def test_what_is_not_finite_is_found_at_once(where: str, value: float):
    matrix, rhs = random_system(4)
    guess = np.zeros(20)
    if where == "rhs":
        rhs = np.full(20, value)
    elif where == "guess":
        guess = np.full(20, value)
    elif where == "operator":
        matrix = matrix * value
    else:
        rhs[7] = value
    found, outcome = solve(
        BiCGStab(1e-10), matrix, jnp.asarray(rhs), None if where == "rhs" else jnp.asarray(guess)
    )
    result, iterations = ended(outcome)
    assert np.isnan(found).all(), "the guess must not pass as a solution"
    blamed = Result.GUESS_NOT_FINITE if where == "guess" else Result.NOT_FINITE
    assert result == blamed and iterations <= 1
    assert not bool(outcome.converged)


def test_iterations_run_out():
    matrix, rhs = random_system(5)
    found, outcome = solve(BiCGStab(1e-12, max_steps=2), matrix, jnp.asarray(rhs))
    assert ended(outcome) == (Result.MAX_STEPS, 2)
    residual = np.linalg.norm(matrix @ np.asarray(found) - rhs) / np.linalg.norm(rhs)
    assert float(outcome.relative_residual) == pytest.approx(residual) and residual > 1e-12


def test_below_round_off_the_outcome_says_so_and_counts_as_converged():
    matrix, rhs = random_system(6)
    _, outcome = solve(BiCGStab(1e-9), matrix.astype(np.float32), jnp.asarray(rhs, jnp.float32))
    assert Result(int(outcome.result)) == Result.ROUND_OFF and bool(outcome.converged)
    assert 1e-9 < float(outcome.relative_residual) < 1e-5


def test_a_recurrence_that_lost_the_true_residual_begins_again():
    """The second half step here is by 4e15, along a direction that is nothing but round-off."""
    matrix, rhs = np.array([[-1.0, 0, 2], [1, 2, -2], [0, 1, -1]]), np.array([1.0, 0, 0])
    found, outcome = solve(BiCGStab(1e-12), matrix, jnp.asarray(rhs))
    residual = np.linalg.norm(matrix @ np.asarray(found) - rhs)
    assert bool(outcome.converged) and residual <= 1e-12
    assert float(outcome.relative_residual) == pytest.approx(residual, abs=1e-16)


@pytest.mark.parametrize(
    "weight, attainable", [(80.0, True), pytest.param(8000.0, False, marks=pytest.mark.slow)]
)
@pytest.mark.slow
def test_drift_in_single_precision(weight, attainable):
    """Upwind advection-diffusion from rough right-hand sides: of 64 solves some drift far."""
    rhs = np.random.default_rng(0).normal(size=(64, 128, 64)) + 1

    def operator(u):
        total = u
        for axis in (0, 1):
            total -= weight * (jnp.roll(u, 1, axis) + jnp.roll(u, -1, axis) - 2 * u)
        return total + 0.3 * weight * (u - jnp.roll(u, 1, 0))

    @jax.jit
    @jax.vmap
    def outcome_of(rhs):
        return BiCGStab(1e-5, max_steps=1000).solve(operator, rhs)[1]

    outcome = outcome_of(jnp.asarray(rhs, jnp.float32))
    assert bool(outcome.converged.all()) == attainable
    np.testing.assert_array_equal(outcome.converged, outcome.relative_residual < 1.2e-4)


@pytest.mark.parametrize(
    "matrix, rhs",
    [
        ([[0, 1.0], [-1, 0]], [1.0, 0]),  # a rotation: the first step has length zero
        ([[0, 1.0], [1, 0]], [1.0, 0]),
        ([[0.0, 0], [0, 0]], [1.0, 1]),
        ([[1.0, 0, 0], [0, 2, 0], [0, 0, 0]], [1.0, 1, 1]),  # singular, and no solution
    ],
)
def test_a_breakdown_is_reported(matrix, rhs):
    solver = BiCGStab(1e-10, max_steps=50)
    found, outcome = solve(solver, jnp.asarray(matrix), jnp.asarray(rhs))
    assert ended(outcome) == (Result.MAX_STEPS, 50)
    assert np.isfinite(found).all() and float(outcome.relative_residual) > 1e-3


@pytest.mark.parametrize(
    "matrix",
    [
        # After one step the true residual is orthogonal to the shadow one: rho is exactly zero.
        [[2.0, 2, -1], [1, 2, 1], [2, 1, 1]],
        [[2.0, 0, -2], [2, 2, -2], [0, 2, 1]],
        [[-1.0, 0, 0], [2, 1, 1], [-2, -1, 2]],
    ],
)
def test_an_orthogonal_shadow_starts_anew(matrix):
    rhs = np.array([1.0, 0, 0])
    found, outcome = solve(BiCGStab(1e-12), jnp.asarray(matrix), jnp.asarray(rhs))
    assert bool(outcome.converged)
    np.testing.assert_allclose(found, np.linalg.solve(matrix, rhs), rtol=1e-10, atol=1e-12)


def test_a_singular_system_that_has_a_solution_is_solved():
    singular = np.diag([1.0, 2.0, 0.0])
    found, outcome = solve(BiCGStab(1e-12), singular, jnp.array([1.0, 1.0, 0.0]))
    assert bool(outcome.converged)
    np.testing.assert_allclose(singular @ found, [1, 1, 0], atol=1e-12)


def test_an_identity_with_a_large_rotation_is_solved():
    """What central advection without diffusion gives at long steps."""
    random = np.random.default_rng(0).normal(size=(12, 12))
    matrix, rhs = np.eye(12) + 5 * (random - random.T), random[0]
    found, outcome = solve(BiCGStab(1e-10), matrix, jnp.asarray(rhs))
    assert bool(outcome.converged)
    np.testing.assert_allclose(found, np.linalg.solve(matrix, rhs), rtol=1e-7)


def test_the_total_is_kept_however_loose_the_tolerance():
    """Where guess, right-hand side and operator agree on it."""
    random = np.random.default_rng(0)
    exchange = random.uniform(size=(30, 30))
    matrix = np.eye(30) + 0.5 * (np.diag(exchange.sum(0)) - exchange)  # columns sum to 1
    rhs, guess = random.uniform(size=(2, 30))
    guess *= rhs.sum() / guess.sum()
    found, outcome = solve(
        BiCGStab(1e-12, max_steps=2), matrix, jnp.asarray(rhs), jnp.asarray(guess)
    )
    assert not bool(outcome.converged)
    assert float(found.sum()) == pytest.approx(rhs.sum(), rel=1e-14)


@jax.jit
def solve_local(diagonal, rhs):
    """Products entry by entry, so that batched and unbatched rounding are the same."""
    return BiCGStab(1e-10).solve(lambda v: diagonal * v + 0.1 * jnp.roll(v, 1), rhs)


class TestABatch:
    """An easy and a hard system side by side, each as if it were alone."""

    random = np.random.default_rng(0)
    rhs = jnp.asarray(random.normal(size=(3, 40)))
    diagonals = jnp.asarray(
        [np.full(40, 2.0), random.uniform(1, 2, size=40), np.geomspace(1, 300, 40)]
    )
    solve_batch = staticmethod(jax.jit(jax.vmap(solve_local)))

    def test_each_sample_takes_its_own_iterations(self):
        _, outcome = self.solve_batch(self.diagonals, self.rhs)
        alone = [solve_local(d, b)[1] for d, b in zip(self.diagonals, self.rhs, strict=True)]
        counts = [int(one.iterations) for one in alone]
        assert list(outcome.iterations) == counts
        assert counts[0] < counts[1] < counts[2] and counts[2] > 3 * counts[0]
        assert bool(outcome.converged.all())

    def test_a_sample_is_frozen_once_it_has_converged(self):
        mixed, _ = self.solve_batch(self.diagonals, self.rhs)
        easy, _ = self.solve_batch(jnp.stack([self.diagonals[0]] * 3), self.rhs)
        np.testing.assert_array_equal(mixed[0], easy[0])
        for row, diagonal, rhs in zip(mixed, self.diagonals, self.rhs, strict=True):
            np.testing.assert_allclose(row, solve_local(diagonal, rhs)[0], rtol=1e-8, atol=1e-12)

    def test_a_sample_that_is_not_finite_harms_no_other(self):
        _, before = self.solve_batch(self.diagonals, self.rhs)
        found, outcome = self.solve_batch(self.diagonals, self.rhs.at[1, 3].set(jnp.nan))
        assert list(outcome.result) == [Result.CONVERGED, Result.NOT_FINITE, Result.CONVERGED]
        assert list(outcome.iterations[::2]) == list(before.iterations[::2])
        assert np.isfinite(found[::2]).all()

    def test_zero_and_tiny_right_hand_sides_stand_beside_ordinary_ones(self):
        rhs = self.rhs * jnp.array([1.0, 0.0, 1e-200])[:, None]
        found, outcome = self.solve_batch(self.diagonals, rhs)
        assert bool(outcome.converged.all()) and int(outcome.iterations[1]) == 0
        exact, _ = solve_local(self.diagonals[2], self.rhs[2])
        np.testing.assert_allclose(found[2] * 1e200, exact, rtol=1e-8)


@pytest.mark.parametrize(
    "arguments, said",
    [
        ({"rtol": -1e-6}, "tolerances must not be negative"),
        ({"atol": -1.0}, "tolerances must not be negative"),
        ({"rtol": 0.0}, "one of them must be positive"),
        ({"max_steps": 0}, "at least 1 step"),
    ],
)
def test_tolerances_that_cannot_be_met_are_refused(arguments, said: str):
    with pytest.raises(ValueError, match=said):
        BiCGStab(**arguments)
