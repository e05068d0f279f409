"""Algebraic fields that do not satisfy their equations at the start are solved for where felt."""

import jax
import jax.numpy as jnp
import pytest

from impindiff.integrate import SDIRK2, BackwardEuler, CrankNicolson
from impindiff.rollout import TimeGrid, simulate
from impindiff.systems import Field, Reaction, System
from impindiff.terms import AbstractTerm


def relaxing(equation: AbstractTerm, **known) -> System:
    fields = {"u": [Reaction(lambda p: -p)], "p": Field([equation], storage=0)}
    return System(None, fields, coefficients=known)


# u' = -p with p = (1 + t) u.
SYSTEM = relaxing(Reaction(lambda u, p, t: u * (1 + t) - p))
ROUGH = {"u": jnp.array(1.0), "p": jnp.array(0.0)}


def error(start, stepper, dt: float) -> float:
    found = simulate(SYSTEM, start, TimeGrid.build(0.0, [1.0], dt), stepper)
    return float(found.states["u"][-1] - jnp.exp(-1.5))


@pytest.mark.thorough
@pytest.mark.parametrize(
    "stepper, order", [(CrankNicolson(), 2), (SDIRK2(), 2), (BackwardEuler(), 1)]
)
def test_a_rough_start_costs_no_order(stepper, order):
    coarse, fine = (error(ROUGH, stepper, dt) for dt in (0.1, 0.05))
    assert coarse / fine == pytest.approx(2**order, rel=0.1)


@pytest.mark.thorough
def test_what_is_given_is_a_guess_and_the_saved_start_is_solved_for():
    times = TimeGrid.build(0.0, [0.0, 1.0], 0.25)
    first, second = (
        simulate(SYSTEM, ROUGH | {"p": jnp.array(guess)}, times, CrankNicolson()).states
        for guess in (0.0, 3.0)
    )
    assert first["p"][0] == pytest.approx(1.0, abs=1e-9)
    assert first["u"][0] == 1
    assert second["u"][-1] == pytest.approx(float(first["u"][-1]), rel=1e-9)


@pytest.mark.thorough
def test_the_derivative_is_that_of_the_solved_start():
    """By k of u' = -p, p = k u: one step from u = 1 gives (1 - k h / 2) / (1 + k h / 2)."""

    def last(k):
        system = relaxing(Reaction(lambda u, p, k: k * u - p), k=k)
        times = TimeGrid.build(0.0, [0.5], 0.5)
        return simulate(system, ROUGH, times, CrankNicolson()).states["u"][-1]

    exact = jax.grad(lambda k: (1 - k / 4) / (1 + k / 4))(2.0)
    for derivative in (jax.grad(last), jax.jacfwd(last), jax.jit(jax.grad(last))):
        assert derivative(2.0) == pytest.approx(float(exact), rel=1e-8)


@pytest.mark.thorough
def test_a_start_that_cannot_be_solved_for_is_warned_of():
    """At the start nothing satisfies it."""
    system = relaxing(Reaction(lambda u, p, t: jnp.where(t < 1e-3, 1 + p**2, u - p)))
    start = ROUGH | {"p": jnp.array(0.5)}
    with pytest.warns(RuntimeWarning, match="'p' does not satisfy .* could not be solved for"):
        simulate(system, start, TimeGrid.build(0.0, [1.0], 0.25), CrankNicolson())
