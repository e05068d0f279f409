"""What a user's own functions raise is told with the place, and as an error of the input."""

from typing import Any

import jax
import jax.numpy as jnp
import pytest

import impindiff as ipd
from impindiff._errors import InputError, NumericsError, blamed_on, numerics_errors
from impindiff.implicit import Affine, ImplicitAdjoint, root
from impindiff.linear import BiCGStab
from impindiff.terms import AbstractSource, AbstractStateTerm, AbstractTwoPointFlux

GRID = ipd.Grid.uniform((6,), ((0, 1),))
TIMES = ipd.TimeGrid.build(0.0, [0.2], 0.1)


def run(*terms, ends: Any = None, storage: Any = None, stepper=None, **options):
    field = ipd.Field([ipd.Diffusion(0.1), *terms], {"x": ends or ipd.NoFlux()}, storage=storage)
    system = ipd.System(GRID, {"c": field}, **options)
    stepper = stepper or ipd.BackwardEuler()
    return ipd.simulate(system, {"c": jnp.ones(6)}, TIMES, stepper).states["c"].sum()


FUNCTIONS = {
    "KeyError: 'a'": lambda c: c * {}["a"],
    "TypeError: .*incompatible shapes": lambda c: c + (jnp.zeros(2) + jnp.zeros(3)),
    "TypeError: unsupported operand": lambda c: c + "a",
    "ZeroDivisionError: division by zero": lambda c: c * (1 / 0),
    "AttributeError": lambda c: c.nothing,
    "ValueError: of its own": lambda c: _raise(ValueError("of its own")),
}


def _raise(error: Exception):
    raise error


@pytest.mark.thorough
@pytest.mark.many
@pytest.mark.parametrize("told, function", FUNCTIONS.items(), ids=FUNCTIONS)
def test_a_function_that_fails_is_named(told, function):
    for place in (
        lambda: run(ipd.Reaction(function)),
        lambda: run(ipd.Source(1.0), storage=function),
        lambda: run(ends=ipd.Neumann(function)),
        lambda: run(ipd.Reaction(lambda k: k), coefficients={"k": function}),
    ):
        with pytest.raises(InputError, match=rf"the function <lambda>\(c\) fails: {told}"):
            place()


class OfState(AbstractStateTerm):
    def rate(self, grid, state, field):
        return state["nothing"]


class OfNothing(AbstractSource):
    def rate(self, grid):
        raise IndexError


class Moving(AbstractTwoPointFlux):
    def face_coefficients(self, grid, axis):
        raise ValueError("no flux")


class Held(ipd.boundaries.AbstractBoundary):
    def flux(self, face):
        return 1 / 0, 0.0


def test_terms_and_conditions_of_ones_own_are_named():
    for call, told in {
        lambda: run(OfState()): "OfState in the equation of 'c' fails: KeyError: 'nothing'",
        lambda: run(OfNothing()): "OfNothing in the equation of 'c' fails: IndexError",
        lambda: run(Moving()): "Moving in the equation of 'c' fails: ValueError: no flux",
        lambda: run(ends=Held()): "Held of 'c' at the lower end of axis 'x' fails: ZeroDivision",
    }.items():
        with pytest.raises(InputError, match=told):
            call()


@pytest.mark.thorough
@pytest.mark.parametrize("stepper", [ipd.BackwardEuler(), ipd.steppers.SDIRK2()])
def test_what_is_differentiated_around_a_function_is_to_be_given_to_it(stepper):
    def captured(k):
        return run(ipd.Reaction(lambda c: -k * c**2), stepper=stepper)

    def given(k):
        return run(ipd.Reaction(lambda c, k: -k * c**2, k=k), stepper=stepper)

    point = jnp.asarray(1.0)
    for derivative in (
        jax.grad(captured),
        jax.jit(jax.grad(captured)),
        lambda k: jax.jvp(captured, (k,), (k,)),
        jax.grad(lambda k: jax.vmap(captured)(k * jnp.ones(2)).sum()),
    ):
        with pytest.raises(InputError, match=r"uses 'k' from around it.*by keyword"):
            derivative(point)
    assert jax.grad(given)(point) < -0.1
    # Where nothing is differentiated it may stay.
    assert jax.jit(captured)(point) == pytest.approx(float(given(point)))


@pytest.mark.thorough
def test_where_a_step_is_affine_what_is_around_a_function_has_its_derivative():
    """Two steps of backward Euler: 6 / (1 + k dt)^2."""
    slope = jax.grad(lambda k: run(ipd.Reaction(lambda c: -k * c)))(jnp.asarray(1.0))
    assert float(slope) == pytest.approx(-12 * 0.1 / 1.1**3, rel=1e-5)


def test_an_array_of_another_trace_is_refused_with_the_way_out():
    kept = []

    def leaking(c: Any):
        kept.append(c)
        return c * c if len(kept) == 1 else kept[0] * c * c

    with pytest.raises(
        InputError, match="a function of the system uses.*has not been given.*by keyword"
    ):
        run(ipd.Reaction(leaking))


def test_what_says_enough_is_handed_on():
    for error in (InputError("told"), NumericsError("told"), MemoryError("told")):
        with pytest.raises(type(error), match="^told$"), blamed_on("something"):
            raise error


def test_an_adjoint_that_fails_in_compiled_code_is_an_error_of_the_numerics():
    once = ImplicitAdjoint(BiCGStab(1e-6, max_steps=1))

    def loss(k):
        found, _ = root(_coupled, jnp.ones(64), k, Affine(BiCGStab(1e-6), once))
        return (found**2 * jnp.arange(64)).sum()

    at = jnp.linspace(1.0, 5.0, 64)
    with pytest.raises(NumericsError, match="^the adjoint solve ended"), numerics_errors():
        jax.jit(jax.grad(loss))(at).block_until_ready()


def _coupled(u, k):
    return k * u + (jnp.roll(u, 1) - u) - 1


def test_another_error_of_compiled_code_stays_what_it_is():
    with pytest.raises(jax.errors.JaxRuntimeError, match="another"), numerics_errors():
        raise jax.errors.JaxRuntimeError("another")
