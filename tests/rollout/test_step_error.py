"""Integrals over time have a part in how long steps are: their values are known in closed form."""

from collections.abc import Callable

import jax.numpy as jnp
import numpy as np
import pytest

import impindiff as ipd
from impindiff.steppers import (
    ARK4,
    ESDIRK3,
    ESDIRK4,
    ESDIRK5,
    StepControl,
    Tsitouras5,
    simulate_controlled,
)

END = 10.0


def integrated(
    rate: Callable,
    field: Callable,
    dtype: type,
    rtol: float | None = None,
    make: Callable = ESDIRK4,
) -> float:
    """The integral of a rate, beside a field that asks for no short step."""
    system = ipd.System(None, {"u": [ipd.Reaction(field)]}, integrals={"s": [ipd.Source(rate)]})
    start = {"u": jnp.ones((), dtype), "s": jnp.zeros((), dtype)}
    found = simulate_controlled(system, start, [0.0, END], make(), StepControl(rtol))
    return float(found.states["s"][-1])


def still(u):
    """Affine: integrals follow from the solved stages."""
    return 0.0 * u


def slow(u):
    """Not affine: integrals are solved for with the fields."""
    return -0.01 * u**2


RATES = {
    "waves": (lambda t: jnp.sin(3 * t) ** 2, 5 - np.sin(60) / 12),
    "steep start": (lambda t: jnp.sqrt(t), 2 / 3 * END**1.5),
    "jump": (lambda t: jnp.where(t > 3.3, 1.0, 0.0), 6.7),
    "wave of both signs": (lambda t: jnp.cos(5 * t), np.sin(50) / 5),
    "growth": (lambda t: jnp.exp(t), np.exp(END) - 1),
}


@pytest.mark.many
@pytest.mark.parametrize("field", [still, slow])
@pytest.mark.parametrize(("rate", "exact"), RATES.values(), ids=RATES)
def test_an_integral_is_as_exact_as_asked(rate, exact: float, field):
    largest = max(abs(exact), 0.2)
    assert integrated(rate, field, jnp.float64) == pytest.approx(exact, abs=1e-4 * largest)


@pytest.mark.thorough
@pytest.mark.parametrize(("rate", "exact"), RATES.values(), ids=RATES)
def test_in_single_precision(rate, exact: float):
    largest = max(abs(exact), 0.2)
    assert integrated(rate, still, jnp.float32) == pytest.approx(exact, abs=3e-3 * largest)


@pytest.mark.many
@pytest.mark.parametrize("make", [ESDIRK3, ESDIRK5, Tsitouras5, ARK4])
def test_the_error_of_an_integral_follows_the_tolerance(make):
    rate, exact = RATES["waves"]
    errors = [
        abs(integrated(rate, still, jnp.float64, rtol, make) - exact) for rtol in (1e-3, 1e-6)
    ]
    assert errors[0] < 0.1
    assert errors[1] < 1e-4


def test_the_integral_of_a_field_on_a_grid():
    r"""What leaves a rod through its ends, per area: all that was in it."""
    grid = ipd.Grid([ipd.Axis("x", 0.0, 1.0, 16)])
    ends = {"x": (ipd.Dirichlet(0.0), ipd.NoFlux())}
    rod = ipd.System(
        grid,
        {"u": ipd.Field([ipd.Diffusion(1.0)], ends)},
        integrals={"mean": [ipd.Source(lambda u: u)]},
    )
    start = {"u": jnp.ones(16), "mean": jnp.zeros(16)}
    found = simulate_controlled(rod, start, [0.0, 20.0], control=StepControl(1e-6))
    # The integral solves $-w'' = 1$, $w(0) = w'(1) = 0$. So it does in the scheme, to a constant.
    x = grid.centres()[0]
    w = x - x**2 / 2 + 1 / (8 * 16**2)
    np.testing.assert_allclose(found.states["mean"][-1], w, rtol=1e-4)
