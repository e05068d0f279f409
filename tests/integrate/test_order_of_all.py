"""The order of every method where nothing is stiff, and what is left of it where something is."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.integrate import solve_ivp

from impindiff.grid import Grid
from impindiff.implicit import Newton
from impindiff.integrate import (
    ARK3,
    ARK4,
    ARK5,
    ESDIRK3,
    ESDIRK4,
    ESDIRK5,
    SDIRK2,
    AbstractStepper,
    BogackiShampine3,
    CrankNicolson,
    ForwardEuler,
    RungeKutta4,
    Theta,
    Tsitouras5,
)
from impindiff.linear import DenseLU
from impindiff.rollout import TimeGrid, simulate
from impindiff.systems import Field, Reaction, System
from impindiff.terms import Advection, Diffusion, Dirichlet, Source

EXACT = Newton(DenseLU(), rtol=1e-13)
# Each with its order, and with that which it keeps where the problem is stiff.
IMPLICIT = {
    "backward Euler": (Theta(1.0, EXACT), 1, 1),
    "Crank-Nicolson": (CrankNicolson(EXACT), 2, 2),
    "SDIRK-2": (SDIRK2(EXACT), 2, 1),
    "ESDIRK-3": (ESDIRK3(EXACT), 3, 2),
    "ESDIRK-4": (ESDIRK4(EXACT), 4, 2),
    "ESDIRK-5": (ESDIRK5(EXACT), 5, 2),
    "ARK-3": (ARK3(EXACT), 3, 2),
    "ARK-4": (ARK4(EXACT), 4, 3),
    "ARK-5": (ARK5(EXACT), 5, 3),
}
EXPLICIT = {
    "forward Euler": (ForwardEuler(), 1, None),
    "Runge-Kutta": (RungeKutta4(), 4, None),
    "Bogacki-Shampine": (BogackiShampine3(), 3, None),
    "Tsitouras": (Tsitouras5(), 5, None),
}
METHODS = IMPLICIT | EXPLICIT


def order_of(stepper: AbstractStepper, system: System, start: dict, exact: dict, steps: int):
    """Of the error after two units of time, by halving the steps."""

    def error(number: int) -> float:
        times = TimeGrid.build(0.0, [2.0], 2.0 / number)
        found = jax.jit(lambda start: simulate(system, start, times, stepper).states)(start)
        return max(float(np.abs(found[field][-1] - u).max()) for field, u in exact.items())

    return float(np.log2(error(steps) / error(2 * steps)))


@pytest.mark.many
@pytest.mark.parametrize("stepper, order, _", METHODS.values(), ids=METHODS)
def test_of_a_driven_pendulum(stepper, order: int, _):
    """Tsitouras chose numbers that leave little of the error of order five."""
    reference = solve_ivp(
        lambda t, y: [y[1], -np.sin(y[0]) + np.cos(2 * t)],
        (0, 2),
        [1.0, 0.0],
        method="DOP853",
        rtol=1e-13,
        atol=1e-13,
    )
    equations = {
        "x": [Reaction(lambda v: v)],
        "v": [Reaction(lambda x: -jnp.sin(x), is_explicit=True), Source(lambda t: jnp.cos(2 * t))],
    }
    exact = dict(zip("xv", reference.y[:, -1], strict=True))
    start = {"x": jnp.array(1.0), "v": jnp.array(0.0)}
    found = order_of(stepper, System(None, equations), start, exact, 32)
    assert -0.15 < found - order < (1.2 if stepper == Tsitouras5() else 0.15)


@pytest.mark.many
@pytest.mark.parametrize("stepper, _, order", IMPLICIT.values(), ids=IMPLICIT)
def test_of_what_follows_a_stiff_process(stepper, _, order: int):
    r"""Prothero and Robinson's $\dot u = -\lambda\,(u - \cos t) - \sin t$ with $\lambda = 10^6$.

    What is left is the order of the stages, and one where these begin with an implicit one. What
    drives it is explicit in additive methods: of that a larger error is left, of another order.
    """
    rate = 1e6
    driven = Source(lambda t: -jnp.sin(t), is_explicit=True)
    system = System(None, {"u": [Reaction(lambda u, t: -rate * (u - jnp.cos(t))), driven]})
    found = order_of(stepper, system, {"u": jnp.array(1.0)}, {"u": np.cos(2.0)}, 32)
    assert found == pytest.approx(order, abs=0.15)


@pytest.mark.many
@pytest.mark.parametrize("stepper, order, _", METHODS.values(), ids=METHODS)
def test_of_heat_between_walls_whose_temperature_changes(stepper, order: int, _):
    """Beside the same differences of neighbours in plain numbers, the walls half a cell away.

    Heat flows along, too, with the temperature of the walls where these are.
    """
    cells, conductivity, speed = 6, 0.05, 0.2

    def rate(t: float, u: np.ndarray) -> np.ndarray:
        beside = np.concatenate([[2 * np.cos(3 * t) - u[0]], u, [2 * np.sin(2 * t) - u[-1]]])
        at_faces = (beside[1:] + beside[:-1]) / 2
        return conductivity * cells**2 * np.diff(beside, 2) - speed * cells * np.diff(at_faces)

    first = np.linspace(1, 0, cells)
    reference = solve_ivp(rate, (0, 2), first, method="DOP853", rtol=1e-13, atol=1e-13)
    walls = Dirichlet(lambda t: jnp.cos(3 * t)), Dirichlet(lambda t: jnp.sin(2 * t))
    field = Field([Diffusion(conductivity), Advection(speed, "central")], {"x": walls})
    system = System(Grid.uniform((cells,), ((0.0, 1.0),)), {"u": field})
    exact = {"u": reference.y[:, -1]}
    found = order_of(stepper, system, {"u": jnp.asarray(first)}, exact, 64)
    assert found == pytest.approx(order, abs=0.25)
