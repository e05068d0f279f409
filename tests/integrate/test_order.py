"""Each method reaches its order in time, against the exact solution of the semi-discrete system."""

from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from smooth import box, evolve, matrix_of, wave, winds

from impindiff._types import Scalar
from impindiff.grid import Grid
from impindiff.implicit import Affine
from impindiff.integrate import (
    ARK3,
    ARK4,
    ARK5,
    ESDIRK3,
    ESDIRK4,
    ESDIRK5,
    SDIRK2,
    BackwardEuler,
    BogackiShampine3,
    CrankNicolson,
    ForwardEuler,
    RungeKutta4,
    Theta,
)
from impindiff.latent import AbstractLatent
from impindiff.linear import BiCGStab
from impindiff.rollout import TimeGrid, simulate
from impindiff.systems import Reaction, System
from impindiff.terms import Advection, Diffusion, Source

TIGHT = Affine(BiCGStab(1e-14), BiCGStab(1e-12))
# Of `Tsitouras5` in stable steps only round-off is left here: see `test_order_of_all.py`.
METHODS = [
    (ForwardEuler(), 1, 64),
    (BackwardEuler(TIGHT), 1, 64),
    (Theta(0.75, TIGHT), 1, 64),
    (CrankNicolson(TIGHT), 2, 32),
    (SDIRK2(TIGHT), 2, 32),
    (ESDIRK3(TIGHT), 3, 32),
    (ESDIRK4(TIGHT), 4, 16),
    (ESDIRK5(TIGHT), 5, 8),
    (ARK3(TIGHT), 3, 32),
    (ARK4(TIGHT), 4, 16),
    (ARK5(TIGHT), 5, 8),
    (RungeKutta4(), 4, 16),
    (BogackiShampine3(), 3, 32),
]
NAMES = [
    "forward Euler",
    "backward Euler",
    "theta",
    "Crank-Nicolson",
    "SDIRK-2",
    "ESDIRK-3",
    "ESDIRK-4",
    "ESDIRK-5",
    "ARK-3",
    "ARK-4",
    "ARK-5",
    "Runge-Kutta",
    "Bogacki-Shampine",
]
UNTIL = 0.4


def advance(stepper, system: System, initial, until: float, num_steps: int) -> dict[str, Any]:
    dynamics = system.prepare(jnp.dtype("float64"))
    dt = jnp.asarray(until / num_steps)

    def step(state, time):
        return stepper.step(dynamics, time, dt, state)

    times = dt * jnp.arange(num_steps)
    state, outcome = jax.jit(lambda initial: jax.lax.scan(step, initial, times))(initial)
    assert bool(outcome.converged.all())
    return state


@pytest.mark.parametrize(
    "grid",
    [box(12), pytest.param(box(4, 3), marks=pytest.mark.slow)],
    ids=["1-D", "2-D"],
)
@pytest.mark.parametrize("stepper, order, num_steps", METHODS, ids=NAMES)
def test_order_for_steady_coefficients(stepper, order: int, num_steps: int, grid: Grid):
    system = System(grid, {"c": [Advection(winds(grid), "central"), Diffusion(0.02 * wave(grid))]})
    tendency = system.prepare(jnp.dtype("float64")).at(jnp.zeros(()))
    matrix = matrix_of(lambda u: tendency({"c": u})["c"], grid.shape)
    exact = evolve(matrix, wave(grid), UNTIL)

    def error(num_steps: int) -> float:
        state = advance(stepper, system, {"c": wave(grid)}, UNTIL, num_steps)
        return float(np.linalg.norm(state["c"] - exact))

    coarse, fine = error(num_steps), error(2 * num_steps)
    assert np.log2(coarse / fine) == pytest.approx(order, abs=0.1)


class Pulsating(AbstractLatent):
    """$1 + \\cos(3 t)$ in every cell."""

    names: tuple[str, ...] = eqx.field(static=True)

    @property
    def is_steady(self) -> bool:
        return False

    def evaluate(self, grid: Grid, time: Scalar | None = None) -> Any:
        return 1 + jnp.cos(3 * (jnp.zeros(()) if time is None else time))


@pytest.mark.thorough
@pytest.mark.parametrize("stepper, order, num_steps", METHODS, ids=NAMES)
def test_order_for_coefficients_that_change(stepper, order: int, num_steps: int):
    """Each method must ask for them at its own times, or it loses its order."""
    grid = box(8)
    mode = 1 + 0.5 * np.cos(2 * np.pi * np.arange(8) / 8)
    system = System(grid, {"c": [Diffusion(Pulsating(("d",))), Source(Pulsating(("s",)))]})
    decay = -4 / grid.cell_widths[0] ** 2 * np.sin(np.pi / 8) ** 2

    # The strength integrated over time: of the source, and of the decay of the mode's amplitude.
    dose = UNTIL + np.sin(3 * UNTIL) / 3
    exact = (1 + dose) + (mode - 1) * np.exp(decay * dose)

    def error(num_steps: int) -> float:
        state = advance(stepper, system, {"c": jnp.asarray(mode)}, UNTIL, num_steps)
        return float(np.linalg.norm(state["c"] - exact))

    coarse, fine = error(4 * num_steps), error(8 * num_steps)
    assert np.log2(coarse / fine) == pytest.approx(order, abs=0.1)


@pytest.mark.parametrize("stepper", [ForwardEuler(substeps=4), RungeKutta4(substeps=4)])
def test_the_parts_of_a_step_are_taken_at_their_own_times(stepper):
    """One step of 2 from t = 1 along the rate t^3, in four: sums that are written out."""
    system = System(None, {"u": [Reaction(lambda t: t**3)]})
    times = TimeGrid.build(1.0, [3.0], 2.0)
    found = simulate(system, {"u": jnp.array(0.0)}, times, stepper).states["u"][0]
    starts = np.array([1.0, 1.5, 2.0, 2.5])
    # Runge and Kutta's is Simpson's rule, which is exact for a cubic.
    expected = 0.5 * np.sum(starts**3) if stepper == ForwardEuler(4) else (3**4 - 1) / 4
    assert float(found) == pytest.approx(expected, rel=1e-12)
