"""A system computes with what stands around its functions when it is built."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import impindiff as ipd
from impindiff.coefficients import Closure

RATE = 2.0
STEPS = ipd.TimeGrid.build(0.0, [1.0], 0.25)


@jax.jit
def end(system: ipd.System):
    start = {"u": jnp.array(1.0)}
    return ipd.simulate(system, start, STEPS, ipd.steppers.ForwardEuler()).states["u"][-1]


def at_the_top(u):
    return -RATE * u


def by_a_helper(u):
    return at_the_top(u)


class Law:
    """Of a rate that can be changed."""

    def __init__(self, rate):
        self.rate = rate

    def method(self, u):
        return -self.rate * u

    def __call__(self, u):
        return self.method(u)


def ways():
    """Functions, and what changes the rate in each."""
    rate, box, array, law = 2.0, {"rate": 2.0}, np.array([2.0, 0.0]), Law(2.0)

    def rebind(value):
        nonlocal rate
        rate = value

    yield "a global", at_the_top, lambda value: globals().update(RATE=value)
    yield "a helper's", by_a_helper, lambda value: globals().update(RATE=value)
    yield "of the function outside", lambda u: -rate * u, rebind
    yield "in a dictionary", lambda u: -box["rate"] * u, lambda value: box.update(rate=value)
    yield "in place", lambda u: -jnp.asarray(array)[0] * u, lambda value: array.fill(value)
    yield "of a method", law.method, lambda value: setattr(law, "rate", value)
    yield "of an object", law, lambda value: setattr(law, "rate", value)
    yield "of a jax array", law, lambda value: setattr(law, "rate", jnp.asarray(value))


@pytest.mark.parametrize("way", range(8))
def test_a_system_that_is_built_again_has_the_new_value(way: int):
    """Of u' = -k u by explicit Euler: (1 - k h)^n."""
    _, function, change = list(ways())[way]
    for rate in (2.0, 1.0):
        change(rate)
        system = ipd.System(None, {"u": [ipd.Reaction(function)]})
        assert float(end(system)) == pytest.approx((1 - rate / 4) ** 4, rel=1e-6)
    change(2.0)


def test_nothing_changed_is_the_same_system():
    """So that a program is compiled once, and members of an ensemble have one structure."""
    for _, function, change in ways():
        change(1.5)
        first, again = Closure(function), Closure(function)
        assert jax.tree.structure(first) == jax.tree.structure(again)
        change(2.0)
        assert jax.tree.structure(first) != jax.tree.structure(Closure(function))


def test_what_is_traced_around_a_function_is_not_looked_at():
    @jax.jit
    def slope(rate):
        return Closure(lambda u: -rate * u).evaluate(None, values={"u": jnp.array(3.0)})

    assert float(slope(2.0)) == -6.0
