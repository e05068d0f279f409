"""How gradients go through a root: what each adjoint owes, and what becomes of a failed one."""

import warnings
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from gradients import taylor_rate

from impindiff.implicit import (
    AbstractAdjoint,
    Affine,
    Anderson,
    ImplicitAdjoint,
    Newton,
    OneStepAdjoint,
    Picard,
    SolveContext,
    UnrolledAdjoint,
    root,
)
from impindiff.linear import CG, GMRES, BiCGStab
from impindiff.precondition import DiagonalInverse

SIZE = 12
TIGHT = BiCGStab(1e-13, max_steps=60)
HOPELESS = BiCGStab(1e-12, max_steps=1)


def system():
    """Diagonally dominant and symmetric, so that every solver may be asked."""
    random = np.random.default_rng(0)
    matrix = 0.05 * random.normal(size=(SIZE, SIZE))
    return jnp.asarray(matrix + matrix.T + np.eye(SIZE)), jnp.asarray(random.normal(size=SIZE))


def linear(unknown, inputs):
    matrix, rhs = inputs
    return matrix @ unknown - rhs


def cubic(unknown, inputs):
    matrix, rhs = inputs
    return matrix @ unknown + 0.01 * unknown**3 - rhs


def loss(rhs, solver, residual=linear, **options):
    matrix, start = system()
    found, _ = root(residual, start, (matrix, rhs), solver, **options)
    return jnp.sum(found**3)


def exact_gradient():
    matrix, rhs = system()
    return np.linalg.solve(matrix.T, 3 * np.linalg.solve(matrix, rhs) ** 2)


def test_every_adjoint_is_tested_here():
    assert set(AbstractAdjoint.__subclasses__()) == {
        ImplicitAdjoint,
        OneStepAdjoint,
        UnrolledAdjoint,
    }


def test_a_linear_solver_stands_for_implicit_differentiation_with_it():
    assert Affine(TIGHT, TIGHT).adjoint == ImplicitAdjoint(TIGHT)


class TestUnrolled:
    @pytest.mark.thorough
    @pytest.mark.parametrize(
        "linear_solver",
        [BiCGStab(1e-12, max_steps=30), CG(1e-12, max_steps=30), GMRES(1e-12, max_steps=24)],
        ids=lambda solver: type(solver).__name__,
    )
    def test_reverse_mode_through_a_linear_solver(self, linear_solver):
        _, rhs = system()
        solver = Affine(linear_solver, UnrolledAdjoint())
        gradient = jax.jit(jax.grad(partial(loss, solver=solver)))(rhs)
        np.testing.assert_allclose(gradient, exact_gradient(), rtol=1e-8)
        implicit = jax.jit(jax.grad(partial(loss, solver=Affine(linear_solver, TIGHT))))(rhs)
        assert not np.array_equal(gradient, implicit), "one of them went the other's way"

    @pytest.mark.thorough
    @pytest.mark.parametrize(
        "solver",
        [
            Picard(UnrolledAdjoint(), rtol=1e-12, max_steps=80),
            Anderson(UnrolledAdjoint(), rtol=1e-12, max_steps=30),
            Newton(BiCGStab(1e-12, max_steps=20), UnrolledAdjoint(), rtol=1e-12, max_steps=6),
        ],
        ids=lambda solver: type(solver).__name__,
    )
    def test_reverse_mode_through_a_nonlinear_solver(self, solver):
        _, rhs = system()
        gradient = jax.jit(jax.grad(partial(loss, solver=solver, residual=cubic)))(rhs)
        exact = jax.grad(partial(loss, solver=Newton(TIGHT, TIGHT, 1e-13), residual=cubic))(rhs)
        np.testing.assert_allclose(gradient, exact, rtol=1e-7)

    @pytest.mark.slow
    def test_samples_that_end_early_keep_finite_gradients(self):
        _, rhs = system()
        solver = Affine(BiCGStab(1e-12, max_steps=30), UnrolledAdjoint())
        several = jnp.stack([rhs, 0 * rhs, jnp.eye(SIZE)[0]])
        gradient = jax.jit(jax.vmap(jax.grad(partial(loss, solver=solver))))(several)
        exact = jax.vmap(jax.grad(partial(loss, solver=Affine(TIGHT, TIGHT))))(several)
        np.testing.assert_allclose(gradient, exact, rtol=1e-7, atol=1e-10)

    @pytest.mark.thorough
    def test_memory_grows_with_the_iterations_allowed(self):
        def temporaries(max_steps: int) -> int:
            solver = Affine(BiCGStab(1e-12, max_steps=max_steps), UnrolledAdjoint())
            compiled = jax.jit(jax.grad(partial(loss, solver=solver))).lower(system()[1]).compile()
            analysis = compiled.memory_analysis()
            assert analysis is not None
            return analysis.temp_size_in_bytes

        assert temporaries(500) > 5 * temporaries(50)


class TestOneStep:
    @pytest.mark.thorough
    def test_it_is_the_derivative_of_one_preconditioned_step(self):
        matrix, rhs = system()
        inverse = DiagonalInverse(2 * jnp.ones(SIZE))
        solver = Affine(TIGHT, OneStepAdjoint())
        gradient = jax.grad(partial(loss, solver=solver, preconditioner=inverse))(rhs)
        np.testing.assert_allclose(gradient, 3 * np.linalg.solve(matrix, rhs) ** 2 / 2, rtol=1e-10)

    def test_it_leaves_the_root_and_its_outcome_alone(self):
        matrix, rhs = system()
        for solver in (Affine(TIGHT, OneStepAdjoint()), Newton(TIGHT, OneStepAdjoint())):
            found, outcome = root(linear, rhs, (matrix, rhs), solver)
            np.testing.assert_allclose(found, np.linalg.solve(matrix, rhs), rtol=1e-5)
            assert bool(outcome.converged)

    def test_forward_mode_agrees_with_reverse_mode(self):
        _, rhs = system()
        f = partial(loss, solver=Newton(TIGHT, OneStepAdjoint()), residual=cubic)
        _, slope = jax.jvp(f, (rhs,), (jnp.ones(SIZE),))
        assert float(slope) == pytest.approx(float(jnp.sum(jax.grad(f)(rhs))), rel=1e-10)


class TestImplicit:
    def test_through_checkpoint(self):
        _, rhs = system()
        f = jax.checkpoint(partial(loss, solver=Affine(TIGHT, TIGHT)))
        np.testing.assert_allclose(jax.jit(jax.grad(f))(rhs), exact_gradient(), rtol=1e-10)

    @pytest.mark.thorough
    def test_a_hessian_vector_product_passes_the_taylor_test(self):
        _, rhs = system()
        direction = jnp.cos(jnp.arange(SIZE))
        slope = jax.grad(partial(loss, solver=Newton(TIGHT, TIGHT, 1e-13), residual=cubic))
        assert taylor_rate(lambda p: jnp.vdot(slope(p), direction), rhs, step=1e-1) >= 1.9

    @pytest.mark.thorough
    def test_a_looser_tolerance_holds_for_both_solves(self):
        matrix, rhs = system()
        solver = Affine(TIGHT, TIGHT)

        def run(rhs, probe, rtol):
            found, outcome = root(
                linear, 0 * rhs, (matrix, rhs), solver, context=SolveContext(probe, None, rtol)
            )
            return jnp.sum(found), outcome

        gradient = jax.jit(jax.grad(run, argnums=1, has_aux=True))
        probe = jnp.zeros(4)
        tight, loose = (gradient(rhs, probe, jnp.array(r)) for r in (0.0, 1e-2))
        assert 0 < int(loose[1].iterations) < int(tight[1].iterations)
        assert 1e-13 < float(loose[1].relative_residual) <= 1e-2
        assert 0 < float(loose[0][1]) < float(tight[0][1]), "adjoint iterations"
        assert bool(loose[1].converged)

    def test_a_root_that_is_known_at_run_time_only_is_where_the_solve_begins(self):
        matrix, rhs = system()

        @jax.jit
        def run(rhs, known, is_known):
            def total(rhs):
                context = SolveContext(root=known, is_known=is_known)
                solver = Newton(TIGHT, TIGHT, 1e-13)
                found, outcome = root(cubic, 0 * rhs, (matrix, rhs), solver, context=context)
                return jnp.sum(found**2), (found, outcome.steps)

            (_, (found, steps)), slope = jax.value_and_grad(total, has_aux=True)(rhs)
            return found, slope, steps

        found, slope, steps = run(rhs, jnp.full_like(rhs, 1e3), jnp.array(False))
        again, same, none = run(rhs, found, jnp.array(True))
        assert int(steps) > 1 and int(none) == 0
        np.testing.assert_array_equal(again, found)
        np.testing.assert_allclose(same, slope, rtol=1e-9)


class TestPolicy:
    @pytest.mark.thorough
    @pytest.mark.parametrize("compiled", [True, False])
    def test_a_failed_adjoint_raises_by_default_and_says_why(self, compiled: bool):
        _, rhs = system()
        gradient = jax.grad(partial(loss, solver=Affine(TIGHT, HOPELESS)))
        with pytest.raises(Exception, match="adjoint solve ended with 'max steps' after 1 iter"):
            (jax.jit(gradient) if compiled else gradient)(rhs).block_until_ready()

    def test_a_failed_tangent_raises_too(self):
        _, rhs = system()
        f = partial(loss, solver=Affine(TIGHT, HOPELESS))
        with pytest.raises(Exception, match="the tangent solve ended"):
            jax.jit(lambda r: jax.jvp(f, (r,), (r,)))(rhs)[1].block_until_ready()

    @pytest.mark.thorough
    def test_the_message_says_which_step_and_how_many_samples(self):
        matrix, rhs = system()

        def last(rhs):
            def advance(state, number):
                context = SolveContext(number=number, noun="step")
                # The third step alone is hard.
                steep = jnp.where(number == 2, matrix @ matrix, jnp.eye(SIZE))
                inputs = (steep, state)
                return root(linear, state, inputs, Affine(TIGHT, HOPELESS), context=context)[0], 0

            return jnp.sum(jax.lax.scan(advance, rhs, jnp.arange(4))[0] ** 2)

        several = jnp.stack([rhs, 0 * rhs, 2 * rhs])
        with pytest.raises(Exception, match=r"solve of step 3 .*\(2 of 3 samples failed\)"):
            jax.jit(jax.vmap(jax.grad(last)))(several).block_until_ready()

    def test_a_warning_comes_with_the_gradient_there_is(self):
        _, rhs = system()
        solver = Affine(TIGHT, ImplicitAdjoint(HOPELESS, on_failure="warn"))
        with pytest.warns(RuntimeWarning, match="is not to be trusted"):
            gradient = jax.jit(jax.grad(partial(loss, solver=solver)))(rhs).block_until_ready()
        assert np.isfinite(gradient).all()

    @pytest.mark.parametrize("policy", ["raise", "warn"])
    def test_nothing_is_said_where_all_is_well(self, policy):
        _, rhs = system()
        solver = Affine(TIGHT, ImplicitAdjoint(TIGHT, on_failure=policy))
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            gradient = jax.jit(jax.grad(partial(loss, solver=solver)))(rhs)
        np.testing.assert_allclose(gradient, exact_gradient(), rtol=1e-10)

    def test_with_a_probe_the_failure_is_reported_there(self):
        _, rhs = system()
        f = partial(loss, solver=Affine(TIGHT, HOPELESS))
        gradient, report = jax.jit(jax.grad(lambda r, p: f(r, probe=p), argnums=(0, 1)))(
            rhs, jnp.zeros(4)
        )
        assert np.isnan(gradient).all() and int(report[2]) == 1

    def test_an_unknown_policy_is_refused(self):
        with pytest.raises((ValueError, TypeError), match="on_failure.*'ignore'|'ignore'"):
            ImplicitAdjoint(TIGHT, on_failure="ignore")  # pyright: ignore[reportArgumentType]


def test_a_preconditioner_of_another_size_is_refused():
    matrix, rhs = system()
    for wrong in (DiagonalInverse(jnp.ones(SIZE + 1)), DiagonalInverse({"a": jnp.ones(SIZE)})):
        with pytest.raises(ValueError, match="the preconditioner .*made for this grid"):
            root(linear, rhs, (matrix, rhs), Affine(), preconditioner=wrong)
