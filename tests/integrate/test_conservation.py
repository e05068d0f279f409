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

from impindiff.grid import Axis, Grid
from impindiff.implicit import Affine, Newton
from impindiff.integrate import (
    ARK4,
    ESDIRK4,
    SDIRK2,
    BackwardEuler,
    CrankNicolson,
    DiagonallyImplicit,
    ForwardEuler,
    RungeKutta4,
    Tsitouras5,
)
from impindiff.linear import BiCGStab
from impindiff.precondition import (
    BlockJacobi,
    BlockLine,
    Fourier,
    Jacobi,
    Line,
    Multigrid,
    TransformLine,
)
from impindiff.rollout import TimeGrid, simulate
from impindiff.systems import Field, System, advection_diffusion
from impindiff.terms import Advection, Diffusion, NoFlux

STEPPERS = {
    "forward Euler": ForwardEuler(),
    "Runge-Kutta": RungeKutta4(),
    "Tsitouras": Tsitouras5(),
    "backward Euler": BackwardEuler(),
    "Crank-Nicolson": CrankNicolson(),
    "SDIRK-2": SDIRK2(),
    "ESDIRK-4": ESDIRK4(),
    "ARK-4": ARK4(),
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
    units = UNITS * (3.4 if isinstance(stepper, DiagonallyImplicit) else 1)
    assert np.abs(drift).max() < units * np.finfo(dtype).eps


CLOSED = {
    "even": Grid([Axis("x", 0, 1, 12), Axis("y", 0, 1, 9)]),
    "stretched": Grid([Axis.graded("x", 0, 1, 12, 6.0), Axis.graded("y", 0, 1, 9, 3.0)]),
    "pipe": Grid([Axis("r", 0, 1, 12), Axis("z", 0, 1, 9)], "cylindrical"),
    "obstacle": Grid([Axis("x", 0, 1, 12), Axis("y", 0, 1, 9)], solid=np.eye(12, 9, -4) > 0),
    "ring": box(12, 9),
}
PRECONDITIONERS = {
    "none": None,
    "jacobi": Jacobi(),
    "fourier": Fourier(),
    "line": Line(0),
    "multigrid": Multigrid(),
    "cycle": Multigrid("V", 1),
    "block": BlockJacobi(),
    "block line": BlockLine(1),
    "modes and lines": TransformLine(0),
}


def closed(grid: Grid, diffusivity) -> System:
    walls = {
        name: NoFlux()
        for name, axis in zip(grid.names, grid.axes, strict=True)
        if not axis.periodic
    }
    moving = [Diffusion(diffusivity), Advection(3 * winds(grid))]
    return System(grid, {"u": Field(moving, walls)})


@pytest.mark.thorough
@pytest.mark.parametrize("preconditioner", PRECONDITIONERS.values(), ids=PRECONDITIONERS)
@pytest.mark.parametrize("grid", CLOSED.values(), ids=CLOSED)
def test_no_preconditioner_leaks(grid: Grid, preconditioner):
    """Though steps are stiff, coefficients vary a hundredfold, and a solve ends at 1e-4."""
    random = np.random.default_rng(0)
    system = closed(grid, 10.0 ** random.uniform(-1, 1, grid.shape))
    loose = Affine(BiCGStab(1e-4, max_steps=500))
    steps = TimeGrid.build(0.0, [0.15], 0.05)
    start = {"u": jnp.asarray(random.uniform(0, 1, grid.shape))}
    found = jax.jit(lambda u: simulate(system, u, steps, BackwardEuler(loose, preconditioner)))(
        start
    )
    found.check(steps)
    assert found.outcome.relative_residual.max() > 1e-6  # left over, and more than round-off
    before, after = (
        float((np.asarray(u) * grid.cell_volumes()).sum())
        for u in (start["u"], found.states["u"][-1])
    )
    assert after == pytest.approx(before, rel=2e-13)
    if grid.solid is not None:
        still = np.asarray(start["u"])[grid.solid]
        np.testing.assert_array_equal(np.asarray(found.states["u"][-1])[grid.solid], still)


@pytest.mark.thorough
@pytest.mark.parametrize("preconditioner", [Jacobi(), Line(0), Multigrid(), TransformLine(0)])
def test_nor_does_one_made_for_a_nonlinear_step(preconditioner):
    """Made from the products with a Jacobian, on cells of different sizes."""
    grid = CLOSED["stretched"]
    system = closed(grid, lambda u: 0.1 + u**2)
    steps = TimeGrid.build(0.0, [0.1], 0.05)
    start = {"u": jnp.asarray(np.random.default_rng(0).uniform(0, 1, grid.shape))}
    stepper = BackwardEuler(Newton(BiCGStab(1e-3), rtol=1e-4), preconditioner)
    found = jax.jit(lambda u: simulate(system, u, steps, stepper))(start)
    found.check(steps)
    before, after = (
        float((np.asarray(u) * grid.cell_volumes()).sum())
        for u in (start["u"], found.states["u"][-1])
    )
    assert after == pytest.approx(before, rel=2e-13)
