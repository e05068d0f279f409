"""Over a thousand steps the total stays where it was, to round-off.

The bounds are multiples of the precision, the same for any number of steps: each step errs by a few
units of round-off of the total, and over n steps these add like a random walk, so that a thousand
steps make about thirty of them. A scheme that leaked the solver's tolerance of 1e-6 each step would
be off by 1e-3. SDIRK-2 carries on 2.4 times what its first stage did, errors included, and adds
those of its second.
"""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from smooth import box, wave, winds

from impindiff.grid import Grid
from impindiff.integrate import SDIRK2, BackwardEuler, CrankNicolson, ForwardEuler, RungeKutta4
from impindiff.rollout import TimeGrid, simulate
from impindiff.systems import advection_diffusion

STEPPERS = {
    "forward Euler": ForwardEuler(),
    "Runge-Kutta": RungeKutta4(),
    "backward Euler": BackwardEuler(),
    "Crank-Nicolson": CrankNicolson(),
    "SDIRK-2": SDIRK2(),
}
UNITS = 40


SETTINGS = {
    "1-D, central, double": (box(32), "central", jnp.float64),
    "2-D, upwind, single": (box(12, 8), "upwind", jnp.float32),
}


@pytest.mark.parametrize("grid, scheme, dtype", SETTINGS.values(), ids=SETTINGS)
@pytest.mark.parametrize("stepper", STEPPERS.values(), ids=STEPPERS)
@pytest.mark.slow
def test_the_total_is_constant_over_a_thousand_steps(stepper, grid: Grid, scheme, dtype):
    system = advection_diffusion(grid, winds(grid), 2e-3 * wave(grid), scheme=scheme)
    steps = TimeGrid.build(0.0, np.linspace(0.5, 5, 10), 0.005)
    assert steps.num_steps == 1000
    initial = {"concentration": wave(grid, 0.3).astype(dtype)}
    trajectory = jax.jit(lambda u: simulate(system, u, steps, stepper))(initial)
    trajectory.check(steps)
    found = np.asarray(trajectory.states["concentration"], np.float64)
    before = np.asarray(initial["concentration"], np.float64)
    assert np.abs(found[-1] - before).max() > 0.1  # it has moved
    drift = found.sum(axis=tuple(range(1, found.ndim))) / before.sum() - 1
    units = UNITS * (3.4 if isinstance(stepper, SDIRK2) else 1)
    assert np.abs(drift).max() < units * np.finfo(dtype).eps
