"""What every root solver owes: a root, its gradient, and an honest outcome."""

from collections.abc import Callable
from functools import partial
from inspect import isabstract
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from gradients import taylor_rate

from impindiff._errors import InputError
from impindiff.implicit import (
    AbstractRootSolver,
    Affine,
    Anderson,
    Newton,
    Picard,
    Staggered,
    root,
    root_and_increment,
)
from impindiff.linear import BiCGStab, Result

CELLS = 24
STRICT = BiCGStab(1e-13)
SOLVERS: dict[type, Callable[..., AbstractRootSolver]] = {
    Affine: lambda **limits: Affine(BiCGStab(**limits), STRICT),
    Newton: partial(Newton, BiCGStab(1e-9), STRICT),
    Picard: partial(Picard, STRICT),
    Anderson: partial(Anderson, STRICT),
}
NONLINEAR = [kind for kind in SOLVERS if kind is not Affine]


def burgers(unknown, inputs):
    """One backward-Euler step of Burgers' equation, central differences on the unit circle."""
    viscosity, dt, before = inputs
    width = 1 / CELLS
    ahead, behind = jnp.roll(unknown, -1), jnp.roll(unknown, 1)
    advection = (ahead**2 - behind**2) / (4 * width)
    diffusion = (ahead - 2 * unknown + behind) / width**2
    return unknown - before + dt * (advection - viscosity * diffusion)


def before(dtype=jnp.float64):
    x = (np.arange(CELLS) + 0.5) / CELLS
    return jnp.asarray(np.sin(2 * np.pi * x) + 0.3 * np.cos(4 * np.pi * x), dtype)


def advance(solver, viscosity=0.01, dt=0.01, dtype=jnp.float64):
    start = before(dtype)
    inputs = (jnp.asarray(viscosity, dtype), jnp.asarray(dt, dtype), start)
    return jax.jit(lambda i: root(burgers, i[2], i, solver))(inputs), inputs


def test_every_solver_is_under_contract():
    # One of groups takes no unknown without names: see `test_staggered`.
    def below(kind: type) -> set[type]:
        found = kind.__subclasses__()
        return set(found).union(*map(below, found))

    ours = {k for k in below(AbstractRootSolver) if k.__module__.startswith("impindiff.")}
    assert {k for k in ours if not isabstract(k)} == {*SOLVERS, Staggered}


@pytest.mark.parametrize("kind", NONLINEAR, ids=lambda kind: kind.__name__)
class TestContract:
    @pytest.mark.parametrize("dtype, rtol", [(jnp.float64, 1e-12), (jnp.float32, 1e-5)])
    def test_it_finds_a_root(self, kind, dtype, rtol):
        (found, outcome), inputs = advance(SOLVERS[kind](rtol=rtol), dtype=dtype)
        assert found.dtype == dtype
        assert int(outcome.result) == Result.CONVERGED
        at_guess = np.linalg.norm(burgers(inputs[2], inputs))
        relative = np.linalg.norm(burgers(found, inputs)) / at_guess
        assert relative <= 2 * rtol
        assert float(outcome.relative_residual) == pytest.approx(relative, rel=0.5, abs=2e-6)

    @pytest.mark.thorough
    @pytest.mark.parametrize("of", ["viscosity", "dt", "before"])
    def test_its_gradient_passes_the_taylor_test(self, kind, of):
        solver = SOLVERS[kind](rtol=1e-13)
        point = {"viscosity": jnp.array(0.02), "dt": jnp.array(0.005), "before": before()}

        def loss(value):
            now = point | {of: value}
            inputs = (now["viscosity"], now["dt"], now["before"])
            return jnp.sum(root(burgers, before(), inputs, solver)[0] ** 4)

        scale = 1e-3 if of != "before" else 1e-2
        assert taylor_rate(loss, point[of], step=scale) >= 1.9

    @pytest.mark.thorough
    def test_it_agrees_with_newton(self, kind):
        (found, _), _ = advance(SOLVERS[kind](rtol=1e-12))
        (expected, _), _ = advance(SOLVERS[Newton](rtol=1e-13))
        np.testing.assert_allclose(found, expected, atol=1e-10)

    @pytest.mark.thorough
    def test_a_root_as_guess_needs_hardly_a_step(self, kind):
        (exact, _), inputs = advance(SOLVERS[Newton](rtol=1e-14))
        found, outcome = root(burgers, exact, inputs, SOLVERS[kind](rtol=1e-10))
        assert int(outcome.steps) <= 2 and bool(outcome.converged)
        np.testing.assert_allclose(found, exact, atol=1e-14)

    @pytest.mark.thorough
    def test_a_guess_at_round_off_is_kept_where_zero_is_a_root_too(self, kind):
        guess = jnp.full(3, 1 + 4 * np.finfo(float).eps)
        found, outcome = root(lambda u, _: u**3 - u, guess, None, SOLVERS[kind](rtol=1e-10))
        assert bool(outcome.converged)
        np.testing.assert_allclose(found, guess, rtol=1e-14)

    @pytest.mark.thorough
    def test_changes_far_below_the_digits_of_the_unknown_are_found(self, kind):
        """(u - g)(1 + 1e-4 (u + g)) = s from g = 1e3: a thousandth of the last digit."""
        offset = jnp.full(4, 1e3, jnp.float32)
        change = jnp.asarray([1e-7, 2e-7, 0, -3e-7], jnp.float32)

        def shifted(unknown, inputs):
            guess, wanted = inputs
            return (unknown - guess) * (1 + 1e-4 * (unknown + guess)) - wanted

        found = root_and_increment(shifted, offset, (offset, 1.2 * change), SOLVERS[kind]())
        assert bool(found.outcome.converged)
        np.testing.assert_allclose(found.increment, change, atol=1e-11)

    # The squares of one are zero in single precision, those of the other infinite.
    @pytest.mark.thorough
    @pytest.mark.parametrize("power", [-80, 80])
    def test_units_do_not_matter(self, kind, power):
        inputs = tuple(jnp.asarray(i, jnp.float32) for i in (0.01, 0.01, before()))
        unit, solver = 2.0**power, SOLVERS[kind](rtol=1e-5)
        found, outcome = root(
            lambda u, i: unit * burgers(u / unit, i), unit * inputs[2], inputs, solver
        )
        plain, expected = root(burgers, inputs[2], inputs, solver)
        assert bool(outcome.converged) and int(outcome.steps) == int(expected.steps) > 0
        np.testing.assert_allclose(found / unit, plain, atol=1e-4)

    @pytest.mark.thorough
    @pytest.mark.many
    @pytest.mark.parametrize("guess, result", [(np.nan, Result.GUESS_NOT_FINITE), (1.0, None)])
    def test_where_there_is_no_root_it_ends_without_success(self, kind, guess, result):
        def never_zero(unknown, inputs):
            return unknown**2 + inputs

        start, one = jnp.array([guess]), jnp.ones(1)
        _, outcome = root(never_zero, start, one, SOLVERS[kind](rtol=1e-10))
        assert not bool(outcome.converged)
        assert result is None or int(outcome.result) == result

    @pytest.mark.thorough
    def test_too_few_steps_are_said(self, kind):
        (_, outcome), _ = advance(SOLVERS[kind](rtol=1e-14, max_steps=1))
        assert int(outcome.result) == Result.MAX_STEPS and int(outcome.steps) == 1

    @pytest.mark.thorough
    def test_a_batch_counts_each_sample(self, kind):
        solver = SOLVERS[kind](rtol=1e-11)

        def steps(strength):
            inputs = (jnp.array(0.01), jnp.array(0.01), strength * before())
            return root(burgers, inputs[2], inputs, solver)[1].steps

        strengths = jnp.array([0.0, 0.1, 1.0])
        together = jax.jit(jax.vmap(steps))(strengths)
        assert [int(n) for n in together] == [int(steps(s)) for s in strengths]
        assert int(together[0]) == 0 < int(together[1]) <= int(together[2])

    @pytest.mark.parametrize(
        "limits, said",
        [({"rtol": -1.0}, "negative"), ({"rtol": 0.0}, "positive"), ({"max_steps": 0}, "at least")],
    )
    def test_limits_that_cannot_be_met_are_refused(self, kind, limits, said):
        with pytest.raises(ValueError, match=said):
            kind(**limits)


def test_what_they_are_by_default():
    assert [kind().max_steps for kind in NONLINEAR] == [30, 200, 100]
    assert all(kind().rtol is None and kind().atol == 0 for kind in NONLINEAR)
    assert Picard().relaxation == 1
    anderson = Anderson()
    assert (anderson.memory, anderson.mixing, anderson.regularisation) == (5, 1, 1e-10)


def test_newton_converges_quadratically_near_the_root():
    residuals = []
    for steps in (1, 2, 3):
        solver = Newton(BiCGStab(1e-14), STRICT, rtol=1e-15, max_steps=steps)
        residuals.append(float(advance(solver, dt=0.003)[0][1].relative_residual))
    first, second, third = np.log(residuals)
    assert (third - second) / (second - first) > 1.5


@pytest.mark.thorough
@pytest.mark.parametrize("dtype", [jnp.float32, jnp.float64])
def test_newton_ends_at_once_where_no_step_lowers_the_residual(dtype):
    flat = jnp.zeros(3, dtype)
    _, outcome = root(lambda u, _: u**2 - 1, flat, None, Newton(BiCGStab(max_steps=5)))
    assert int(outcome.result) == Result.STALLED and int(outcome.steps) == 1


@pytest.mark.thorough
@pytest.mark.parametrize("dtype", [jnp.float32, jnp.float64])
def test_anderson_survives_residuals_that_are_multiples_of_each_other(dtype):
    start = jnp.zeros(8, dtype)
    found, outcome = root(lambda u, _: u + 0.3 * u**3 - 1, start, None, Anderson(rtol=1e-5))
    assert int(outcome.result) == Result.CONVERGED
    np.testing.assert_allclose(found + 0.3 * found**3, 1, atol=1e-4)


def test_newton_is_damped_where_the_full_step_leads_away():
    """From 3, the full Newton step for arctan goes further and further out."""
    found, outcome = root(
        lambda u, shift: jnp.arctan(u) - shift, jnp.array([3.0]), jnp.array([0.1]), Newton()
    )
    assert bool(outcome.converged)
    np.testing.assert_allclose(found, np.tan(0.1), rtol=1e-5)


def test_anderson_needs_fewer_steps_than_picard():
    (_, plain), _ = advance(Picard(STRICT, rtol=1e-10), viscosity=0.005, dt=0.004)
    (_, fast), _ = advance(Anderson(STRICT, rtol=1e-10), viscosity=0.005, dt=0.004)
    assert bool(plain.converged) and bool(fast.converged)
    assert int(fast.steps) < int(plain.steps)


def anderson_written_out(residual, u, steps: int, memory: int, mixing: float) -> np.ndarray:
    """Walker & Ni's form of it, with the differences of all iterates kept."""
    points, moves = [np.asarray(u)], [-np.asarray(residual(u))]
    for _ in range(steps):
        change = moves[-1] * mixing
        if len(points) > 1:
            along, differences = np.diff(points, axis=0), np.diff(moves, axis=0)
            along, differences = along[-memory:].T, differences[-memory:].T
            gamma = np.linalg.lstsq(differences, moves[-1], rcond=None)[0]
            change = change - (along + mixing * differences) @ gamma
        points.append(points[-1] + change)
        moves.append(-np.asarray(residual(points[-1])))
    return points[-1]


@pytest.mark.thorough
@pytest.mark.parametrize("mixing", [1.0, 0.4])
def test_anderson_is_what_it_is_written_out(mixing: float):
    def residual(u, _=None):
        return u + 0.3 * jnp.sin(jnp.roll(u, 1)) - jnp.arange(1.0, 7.0)

    solver = Anderson(memory=2, mixing=mixing, rtol=1e-14, max_steps=5)
    found, outcome = root(residual, jnp.zeros(6), None, solver)
    expected = anderson_written_out(residual, np.zeros(6), 5, 2, mixing)
    assert int(outcome.steps) == 5 and float(outcome.relative_residual) > 1e-8
    # Its regularisation, 1e-10, is left out of what is written out.
    np.testing.assert_allclose(found, expected, rtol=1e-7)


def test_linear_iterations_are_summed_over_newtons_steps():
    """A solver stopped after two iterations does two in each step but for the last."""
    solver = Newton(BiCGStab(max_steps=2), STRICT, rtol=1e-12)
    (_, outcome), _ = advance(solver)
    steps, iterations = int(outcome.steps), int(outcome.iterations)
    assert steps >= 4 and 2 * steps - 2 <= iterations <= 2 * steps


@pytest.mark.parametrize("relaxation", [0.0, 2.0, -1.0])
def test_picard_refuses_a_relaxation_that_cannot_work(relaxation):
    with pytest.raises(ValueError, match="relaxation"):
        Picard(relaxation=relaxation)


@pytest.mark.parametrize("wrong", [{"memory": 0}, {"mixing": 0.0}, {"regularisation": -1.0}])
def test_anderson_refuses_what_cannot_work(wrong):
    with pytest.raises(ValueError, match=next(iter(wrong))):
        Anderson(**wrong)


@pytest.mark.thorough
@pytest.mark.parametrize("dtype", [jnp.float32, jnp.float64])
def test_a_residual_that_is_not_finite_at_zero_is_solved_from_a_good_guess_too(dtype):
    """A tolerance relative to the residual at the guess would ask for more than there is."""

    def residual(unknown, inputs):
        return unknown * jnp.log(unknown) - inputs

    exact = jnp.asarray(np.linspace(1.5, 3.0, CELLS), dtype)
    inputs = exact * jnp.log(exact)
    for off in (1e-1, 1e-5, 0.0):
        found, outcome = root(residual, exact * (1 + off), inputs, Newton(BiCGStab(1e-6), STRICT))
        assert bool(outcome.converged), off
        np.testing.assert_allclose(found, exact, rtol=1e-5)


@pytest.mark.parametrize(
    "residual, said",
    [
        (lambda u, inputs: {}["k"], "the residual fails: KeyError: 'k'"),
        (lambda u, inputs: "u", "the residual returns str"),
        (lambda u, inputs: u[:2], r"the residual returns float64\[2\]"),
    ],
)
def test_a_residual_that_is_none_is_refused(residual: Any, said: str):
    with pytest.raises(InputError, match=said):
        root(residual, jnp.ones(3), None, Newton())
