"""What every linear solver owes: the solution, an honest outcome, and an answer to every input."""

from collections.abc import Callable

import jax
import jax.numpy as jnp
import lineax as lx
import numpy as np
import pytest
from contracts import final_classes

from impindiff.linear import (
    CG,
    GMRES,
    AbstractLinearSolver,
    Automatic,
    BiCGStab,
    DenseLU,
    Lineax,
    Result,
    Tridiagonal,
)
from impindiff.linear._judgement import Arrived, Iterated
from impindiff.linear._tolerance import goal_of, tolerance_of
from impindiff.precondition import DiagonalInverse

SIZE = 40
ITERATIVE: dict[type, Callable[..., AbstractLinearSolver]] = {
    BiCGStab: BiCGStab,
    CG: CG,
    GMRES: lambda *args, **kwargs: GMRES(*args, restart=15, **kwargs),
}
DIRECT: dict[type, Callable[..., AbstractLinearSolver]] = {
    DenseLU: DenseLU,
    Lineax: lambda *args, **kwargs: Lineax(lx.LU(), *args, **kwargs),
    Tridiagonal: Tridiagonal,
}
SOLVERS = ITERATIVE | DIRECT | {Automatic: Automatic}


def system(seed: int = 0, dtype=jnp.float64, kind: type = DenseLU):
    """Symmetric and positive definite, so that every solver may be asked; a ring for one."""
    random = np.random.default_rng(seed)
    factor = random.normal(size=(SIZE, SIZE))
    matrix = factor @ factor.T / SIZE + np.eye(SIZE)
    if kind is Tridiagonal:
        apart = np.subtract.outer(np.arange(SIZE), np.arange(SIZE)) % SIZE
        matrix = np.where((apart <= 1) | (apart == SIZE - 1), matrix, 0)
    return jnp.asarray(matrix, dtype), jnp.asarray(random.normal(size=SIZE), dtype)


def run(solver: AbstractLinearSolver, matrix, rhs, guess=None, preconditioner=None):
    return jax.jit(lambda b: solver.solve(lambda v: matrix @ v, b, guess, preconditioner))(rhs)


def test_every_solver_is_under_contract():
    assert final_classes(AbstractLinearSolver) == set(SOLVERS)


@pytest.mark.parametrize("kind", SOLVERS, ids=lambda kind: kind.__name__)
class TestContract:
    @pytest.mark.thorough
    @pytest.mark.many
    @pytest.mark.parametrize("dtype, rtol", [(jnp.float64, 1e-12), (jnp.float32, 1e-5)])
    def test_it_solves(self, kind, dtype, rtol):
        matrix, rhs = system(dtype=dtype, kind=kind)
        found, outcome = run(SOLVERS[kind](rtol), matrix, rhs)
        exact = np.linalg.solve(np.asarray(matrix, np.float64), np.asarray(rhs, np.float64))
        assert found.dtype == dtype
        assert int(outcome.result) == Result.CONVERGED
        np.testing.assert_allclose(found, exact, rtol=0, atol=20 * rtol)
        true = np.linalg.norm(rhs - matrix @ found) / np.linalg.norm(rhs)
        assert float(outcome.relative_residual) == pytest.approx(float(true), rel=0.1)

    @pytest.mark.thorough
    @pytest.mark.many
    def test_unknowns_may_be_trees(self, kind):
        matrix, rhs = system(kind=kind)
        cut = SIZE // 3
        if kind is Tridiagonal:
            cut = SIZE // 2
            matrix = jnp.kron(jnp.array([[3.0, 1.0], [1.0, 2.0]]), jnp.eye(cut)) + jnp.eye(SIZE)

        def operator(tree):
            whole = matrix @ jnp.concatenate([tree["a"], tree["b"]])
            return {"a": whole[:cut], "b": whole[cut:]}

        found, _ = SOLVERS[kind](1e-12).solve(operator, {"a": rhs[:cut], "b": rhs[cut:]})
        joined = np.concatenate([found["a"], found["b"]])
        np.testing.assert_allclose(matrix @ joined, rhs, atol=1e-10)

    @pytest.mark.thorough
    @pytest.mark.many
    def test_zero_gives_zero_whatever_the_guess(self, kind):
        matrix, rhs = system(kind=kind)
        found, outcome = run(SOLVERS[kind](1e-10), matrix, 0 * rhs, guess=rhs)
        assert not np.any(found)
        assert int(outcome.iterations) == 0 and bool(outcome.converged)

    @pytest.mark.thorough
    @pytest.mark.many
    def test_an_exact_guess_needs_no_iteration(self, kind):
        matrix, rhs = system(kind=kind)
        exact = jnp.linalg.solve(matrix, rhs)
        _, outcome = run(SOLVERS[kind](1e-10), matrix, rhs, guess=exact)
        assert int(outcome.iterations) == 0 and bool(outcome.converged)

    # Squares of the one are zero in single precision, the other has no reciprocal.
    @pytest.mark.thorough
    @pytest.mark.many
    @pytest.mark.parametrize("power", [-80, 125])
    def test_the_scale_of_the_right_hand_side_does_not_matter(self, kind, power):
        matrix, rhs = system(dtype=jnp.float32, kind=kind)
        plain, _ = run(SOLVERS[kind](1e-5), matrix, rhs)
        scaled, outcome = run(SOLVERS[kind](1e-5), matrix, rhs * 2.0**power)
        assert bool(outcome.converged)
        np.testing.assert_allclose(scaled * 2.0**-power, plain, rtol=1e-5, atol=1e-6)

    @pytest.mark.thorough
    @pytest.mark.parametrize("power", [-80, 80])
    def test_nor_does_that_of_the_operator(self, kind, power):
        matrix, rhs = system(dtype=jnp.float32, kind=kind)
        plain, _ = run(SOLVERS[kind](1e-5), matrix, rhs)
        scaled, outcome = run(SOLVERS[kind](1e-5), matrix * 2.0**power, rhs)
        assert bool(outcome.converged)
        np.testing.assert_allclose(scaled * 2.0**power, plain, rtol=1e-4, atol=1e-5)

    @pytest.mark.thorough
    @pytest.mark.many
    def test_the_floor_of_the_precision_counts_as_converged(self, kind):
        matrix, rhs = system(dtype=jnp.float32, kind=kind)
        _, outcome = run(SOLVERS[kind](1e-10), matrix, rhs)
        assert int(outcome.result) == Result.ROUND_OFF

    @pytest.mark.thorough
    @pytest.mark.many
    @pytest.mark.parametrize("bad", [np.nan, np.inf])
    def test_what_is_not_finite_is_said_and_ends(self, kind, bad):
        matrix, rhs = system(kind=kind)
        solver = SOLVERS[kind](1e-10)
        _, outcome = run(solver, matrix, rhs.at[3].set(bad))
        assert int(outcome.result) == Result.NOT_FINITE
        _, outcome = run(solver, matrix.at[3, 3].set(bad), rhs)
        assert int(outcome.result) == Result.NOT_FINITE

    @pytest.mark.thorough
    @pytest.mark.many
    def test_a_singular_operator_ends_without_success(self, kind):
        matrix, rhs = system(kind=kind)
        _, outcome = run(SOLVERS[kind](1e-12), matrix.at[5].set(0), rhs)
        assert not bool(outcome.converged)

    @pytest.mark.thorough
    def test_a_batch_counts_and_freezes_each_sample(self, kind):
        matrix, rhs = system(kind=kind)
        solver = SOLVERS[kind](1e-10)
        diagonals = jnp.stack([jnp.zeros(SIZE), jnp.linspace(0, 50, SIZE)])

        def solve(diagonal):
            return solver.solve(lambda v: matrix @ v + diagonal * v, rhs)

        together, outcome = jax.jit(jax.vmap(solve))(diagonals)
        for sample, diagonal in enumerate(diagonals):
            alone, expected = jax.jit(solve)(diagonal)
            assert int(outcome.iterations[sample]) == int(expected.iterations)
            np.testing.assert_allclose(together[sample], alone, rtol=1e-9, atol=1e-11)

    @pytest.mark.parametrize(
        "arguments, said",
        [
            ({"rtol": -1.0}, "negative"),
            ({"rtol": 0.0}, "positive"),
            ({"atol": np.nan}, "finite"),
            ({"max_steps": 0}, "at least"),
        ],
    )
    def test_limits_that_cannot_be_met_are_refused(self, kind, arguments, said):
        if kind is Lineax and "max_steps" in arguments:
            pytest.skip("counted by the solver of lineax itself")
        with pytest.raises(ValueError, match=said):
            SOLVERS[kind](**arguments)


@pytest.mark.parametrize("kind", ITERATIVE, ids=lambda kind: kind.__name__)
class TestIterations:
    @pytest.mark.thorough
    def test_too_few_steps_are_said(self, kind):
        matrix, rhs = system(kind=kind)
        _, outcome = run(SOLVERS[kind](1e-12, max_steps=2), matrix, rhs)
        assert int(outcome.result) == Result.MAX_STEPS
        assert int(outcome.iterations) == 2

    @pytest.mark.thorough
    def test_a_preconditioner_saves_iterations(self, kind):
        matrix, rhs = system(kind=kind)
        scaling = jnp.asarray(np.geomspace(1, 1e4, SIZE))
        hard = jnp.diag(jnp.sqrt(scaling)) @ matrix @ jnp.diag(jnp.sqrt(scaling))
        solver = SOLVERS[kind](1e-8, max_steps=2000)
        found, helped = run(solver, hard, rhs, preconditioner=DiagonalInverse(jnp.diag(hard)))
        _, alone = run(solver, hard, rhs)
        assert bool(helped.converged)
        assert int(helped.iterations) < int(alone.iterations)
        residual = np.linalg.norm(rhs - hard @ found) / np.linalg.norm(rhs)
        assert residual < 2e-8


@pytest.mark.thorough
def test_gmres_solves_what_bicgstab_cannot():
    """A skew-symmetric operator, whose eigenvalues are imaginary."""
    random = np.random.default_rng(1)
    factor = jnp.asarray(random.normal(size=(SIZE, SIZE)))
    rhs = jnp.asarray(random.normal(size=SIZE))
    skew = factor - factor.T
    _, lost = run(BiCGStab(1e-10), skew, rhs)
    found, outcome = run(GMRES(1e-10, restart=SIZE), skew, rhs)
    assert not bool(lost.converged)
    assert bool(outcome.converged)
    np.testing.assert_allclose(skew @ found, rhs, atol=1e-8)


@pytest.mark.slow
def test_gmres_never_lets_the_residual_grow():
    matrix, rhs = system(3)
    skewed = matrix + 2 * (jnp.triu(matrix) - jnp.tril(matrix))
    residuals = [
        float(run(GMRES(1e-14, max_steps=n, restart=5), skewed, rhs)[1].relative_residual)
        for n in range(1, 16)
    ]
    assert np.all(np.diff(residuals) <= 1e-12)


@pytest.mark.thorough
@pytest.mark.parametrize("shift", [3.0, 100.0])
def test_cg_says_so_where_the_operator_is_not_definite(shift):
    matrix, rhs = system()
    _, outcome = run(CG(1e-10), matrix - shift * jnp.eye(SIZE), rhs)
    assert int(outcome.result) == Result.NOT_SYMMETRIC


@pytest.mark.thorough
def test_gmres_says_so_where_more_iterations_do_not_help():
    matrix, rhs = system()
    singular = matrix.at[0].set(0)
    _, outcome = run(GMRES(1e-10), singular, rhs)
    assert int(outcome.result) == Result.STALLED
    assert int(outcome.iterations) < GMRES().max_steps


def test_what_they_are_by_default():
    assert [kind().max_steps for kind in (BiCGStab, CG, GMRES)] == [200, 500, 300]
    assert [kind().max_steps for kind in (DenseLU, Tridiagonal)] == [2, 3]
    assert GMRES().restart == 30 and DenseLU().max_size == 2000 and CG().check_symmetry
    assert all(kind().rtol is None and kind().atol == 0 for kind in ITERATIVE)


def test_goals_are_relative_to_what_the_precision_allows():
    """Unless a looser tolerance is enough this once; one that is tighter is the solver's own."""
    assert tolerance_of(None, jnp.dtype("float32")) == 1e-5
    assert tolerance_of(None, jnp.dtype("float64")) == 1e-10
    assert tolerance_of(1e-3, jnp.dtype("float64")) == 1e-3
    two = jnp.array(2.0)
    for loosest, atol, goal in ((None, 0.0, 2e-6), (1e-2, 0.0, 2e-2), (1e-9, 0.0, 2e-6)):
        enough = None if loosest is None else jnp.array(loosest)
        assert float(goal_of(1e-6, atol, two, enough)) == pytest.approx(goal, rel=1e-12)
    assert float(goal_of(1e-6, 0.5, two, jnp.array(1e-2))) == 0.5
    assert float(goal_of(None, 0.0, two, None)) == pytest.approx(2e-10, rel=1e-12)


def test_all_passes_are_counted_and_one_that_brings_nothing_is_not_kept():
    """A solve that begins again where its recurrence was mistaken: three iterations, then four."""
    here, there, residual = jnp.zeros(2), jnp.ones(2), jnp.full(2, 0.5)
    arrived = Arrived.at_start(here, residual, jnp.array(1.0))
    for iterations, norm2, point in ((3, 0.1, there), (4, 0.05, 2 * there)):
        found = Iterated(point, jnp.array(1e-20), jnp.array(iterations))
        arrived = arrived.moved(point, residual, jnp.array(norm2), found)
    assert int(arrived.iterations) == 7 and int(arrived.passes) == 2
    assert not bool(arrived.went_on) and float(arrived.norm2) == 0.1
    np.testing.assert_array_equal(arrived.x, there)
