"""Chord steps: the inverse of a Jacobian nearby finds the same root, or hands over to Newton."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from gradients import taylor_rate

from impindiff.implicit import Newton, SolveContext, root_and_increment
from impindiff.linear import Automatic, DenseInverse, DenseLU, Tridiagonal

SOLVER = Newton(DenseLU(1e-13), DenseLU(1e-13), rtol=1e-12)


def cubic(unknown, inputs):
    """A root that does not depend on the path, monotone in each unknown."""
    a, b = unknown["a"], unknown["b"]
    return {"a": a + a**3 + 0.3 * b - inputs, "b": 2 * b + b**3 - 0.5 * a - 1}


GUESS = {"a": jnp.array(0.5), "b": jnp.array(0.5)}
NEARBY = {"a": jnp.array(0.9), "b": jnp.array(0.6)}


def inverse_at(point, strength=1.0):
    _, jacobian = jax.linearize(lambda u: cubic(u, 2.0), point)
    return DenseInverse(strength * DenseInverse.of(jacobian, point).matrix)


def solve(inputs, inverse=None, solver=SOLVER, start=None):
    context = SolveContext(inverse=inverse, start=start)
    return root_and_increment(cubic, GUESS, inputs, solver, context=context)


def test_the_root_is_the_same_and_judged_by_its_own_residual():
    plain, chord = solve(2.0), solve(2.0, inverse_at(NEARBY))
    assert bool(chord.outcome.converged)
    jax.tree.map(
        lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-11), plain.value, chord.value
    )
    left, whole = (jnp.hypot(*cubic(u, 2.0).values()) for u in (chord.value, GUESS))
    assert float(chord.outcome.relative_residual) == pytest.approx(float(left / whole), rel=1e-2)
    # It has gone another way: linearly, by one product with the inverse in each step.
    assert int(chord.outcome.steps) > int(plain.outcome.steps)
    assert int(chord.outcome.steps) == int(chord.outcome.iterations)


def test_a_linear_equation_takes_one_step():
    found = root_and_increment(
        lambda u, b: 3 * u - b,
        jnp.ones(2),
        jnp.array([1.0, 2.0]),
        SOLVER,
        context=SolveContext(inverse=DenseInverse(jnp.eye(2) / 3)),
    )
    np.testing.assert_allclose(found.value, [1 / 3, 2 / 3], rtol=1e-15)
    assert int(found.outcome.steps) == 1


@pytest.mark.parametrize("strength", [-1.0, 0.01, 1e6, np.nan])
def test_an_inverse_of_something_else_costs_steps_and_no_digit(strength):
    plain, found = solve(2.0), solve(2.0, inverse_at(GUESS, strength))
    assert bool(found.outcome.converged)
    assert int(found.outcome.steps) > int(plain.outcome.steps)
    jax.tree.map(
        lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-11), plain.value, found.value
    )


def test_a_start_outside_of_the_domain_is_not_taken():
    def log(unknown, _):
        return jnp.log(unknown) + unknown - 1

    found = root_and_increment(
        log,
        jnp.array([0.5]),
        None,
        SOLVER,
        context=SolveContext(inverse=DenseInverse(jnp.eye(1) / 3), start=jnp.array([-3.0])),
    )
    np.testing.assert_allclose(found.value, 1, rtol=1e-11)
    assert bool(found.outcome.converged)


def test_a_failure_is_still_one():
    found = root_and_increment(
        lambda u, _: u**2 + 1,
        jnp.ones(1),
        None,
        SOLVER,
        context=SolveContext(inverse=DenseInverse(jnp.eye(1) / 2)),
    )
    assert not bool(found.outcome.converged)


def test_gradient_leaves_a_second_order_remainder():
    def loss(inputs):
        found = solve(inputs, inverse_at(NEARBY)).value
        return found["a"] ** 2 + found["b"] ** 3

    assert taylor_rate(loss, jnp.array(2.0)) == pytest.approx(2, abs=0.1)


def test_few_unknowns_in_one_array_or_in_many_are_solved_alike():
    """A solver that has to see a line gets the parts; it refuses numbers, as it always did."""
    with pytest.raises(ValueError, match="Tridiagonal"):
        solve(2.0, solver=Newton(Tridiagonal()))
    stacked = root_and_increment(
        lambda u, b: jnp.stack([*cubic({"a": u[0], "b": u[1]}, b).values()]),
        jnp.full(2, 0.5),
        2.0,
        SOLVER,
    )
    found = solve(2.0)
    np.testing.assert_allclose([*found.value.values()], stacked.value, rtol=1e-15)
    np.testing.assert_allclose([*found.increment.values()], stacked.increment, rtol=1e-15)
    assert int(found.outcome.steps) == int(stacked.outcome.steps)


def test_what_is_chosen_for_few_unknowns_is_factorised():
    _, jacobian = jax.linearize(lambda u: cubic(u, 2.0), GUESS)
    found = Automatic().factorise(jacobian, GUESS)
    assert found is not None
    there = found.apply(jacobian({"a": jnp.array(2.0), "b": jnp.array(-1.0)}))
    np.testing.assert_allclose([*there.values()], [2, -1], rtol=1e-14)
