"""Preconditioned steps reach the same states, in fewer iterations, with the same gradients."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from contracts import final_classes
from gradients import taylor_rate

from impindiff._errors import InputError
from impindiff.grid import Grid
from impindiff.implicit import Affine
from impindiff.integrate import CrankNicolson
from impindiff.linear import BiCGStab
from impindiff.precondition import (
    AbstractPreconditioner,
    BlockJacobi,
    BlockLine,
    ByGroup,
    Deferred,
    Fourier,
    Jacobi,
    Line,
    Multigrid,
    TransformLine,
)
from impindiff.rollout import TimeGrid, simulate
from impindiff.systems import System, advection_diffusion
from impindiff.terms import Diffusion, Source

# Random fields, at steps that are far too long for them: iterations are what is looked at.
pytestmark = pytest.mark.filterwarnings("ignore:'concentration' rings:RuntimeWarning")

STRICT = Affine(BiCGStab(1e-12, max_steps=3000), BiCGStab(1e-12, max_steps=3000))
BOUNDS = ((0.0, 1.0), (0.0, 2.0), (0.0, 0.5))
TIMES = TimeGrid.build(0.0, np.array([0.02]), 0.01)
PRECONDITIONERS = (
    BlockJacobi(),
    BlockLine(0),
    ByGroup(("concentration",), Jacobi()),
    Fourier(),
    Jacobi(),
    Line(0),
    Multigrid(),
    TransformLine(0),
)


def stiff(shape, seed=0):
    random = np.random.default_rng(seed)
    grid = Grid.uniform(shape, BOUNDS[: len(shape)], periodic=True)
    velocity = jnp.asarray(random.uniform(-1, 1, (len(shape), *shape)))
    initial = {"concentration": jnp.asarray(random.uniform(size=shape))}
    return grid, velocity, initial


def last(system, initial, preconditioner):
    trajectory = simulate(system, initial, TIMES, CrankNicolson(STRICT, preconditioner))
    return trajectory.states["concentration"][-1], trajectory.outcome


def test_every_preconditioner_is_under_contract():
    # `Deferred` puts off the making of another one.
    described = final_classes(AbstractPreconditioner) - {Deferred}
    assert {type(one) for one in PRECONDITIONERS} == described


@pytest.mark.thorough
@pytest.mark.many
@pytest.mark.parametrize(
    "preconditioner, shape",
    [(one, (16, 9)) for one in PRECONDITIONERS]
    + [(one, shape) for one in (Fourier(), Jacobi(), Line(0)) for shape in ((33,), (6, 5, 7))],
)
def test_the_state_does_not_depend_on_the_preconditioner(preconditioner, shape):
    grid, velocity, initial = stiff(shape)
    system = advection_diffusion(grid, velocity, 1.0)
    plain, _ = last(system, initial, None)
    found, outcome = last(system, initial, preconditioner)
    assert bool(outcome.converged.all())
    np.testing.assert_allclose(found, plain, rtol=1e-9, atol=1e-11)


@pytest.mark.thorough
@pytest.mark.parametrize("shape", [(33,), (16, 9), (6, 5, 7)])
def test_fourier_inverts_constant_coefficients_at_once(shape):
    grid, _, initial = stiff(shape)
    system = advection_diffusion(grid, jnp.full(len(shape), 0.7), 3.0)
    assert int(last(system, initial, Fourier())[1].iterations.max()) <= 1


@pytest.mark.thorough
def test_with_fourier_the_iterations_do_not_grow_with_the_grid():
    counts = []
    for cells in (16, 64):
        grid, _, initial = stiff((cells, cells))
        x, y = grid.centres()
        varying = jnp.asarray(1 + 0.4 * np.sin(2 * np.pi * x) * np.cos(np.pi * y))
        system = System(grid, {"concentration": [Diffusion(varying)]})
        counts.append(int(last(system, initial, Fourier())[1].iterations.max()))
    assert counts[1] <= counts[0] + 3


@pytest.mark.thorough
def test_jacobi_helps_where_coefficients_jump():
    grid, _, initial = stiff((16, 12))
    jumping = jnp.ones(grid.shape).at[4:9, 3:8].set(1e4)
    system = System(grid, {"concentration": [Diffusion(jumping)]})
    helped, alone = (last(system, initial, p)[1].iterations.max() for p in (Jacobi(), None))
    assert int(helped) < int(alone)


@pytest.mark.thorough
@pytest.mark.parametrize("axis, bound", [(0, 1.0), (1, 2.0)])
def test_line_helps_where_cells_are_thin(axis, bound):
    """Cells a hundred times as long along one axis as along the other."""
    shape = (16, 12)
    bounds = [(0.0, 100 * cells) for cells in shape]
    bounds[axis] = (0.0, bound * shape[axis])
    grid = Grid.uniform(shape, tuple(bounds), periodic=True)
    initial = stiff(shape)[2]
    varying = jnp.asarray(np.random.default_rng(1).uniform(1e3, 2e3, shape))
    system = System(grid, {"concentration": [Diffusion(varying)]})
    along, across, alone = (
        int(last(system, initial, p)[1].iterations.max())
        for p in (Line(axis), Line(1 - axis), None)
    )
    assert along <= 6
    assert along < alone / 3 and along < across / 3


@pytest.mark.thorough
def test_line_solves_one_axis_at_once():
    grid, velocity, initial = stiff((33,))
    system = advection_diffusion(grid, velocity, 1.0)
    assert int(last(system, initial, Line(0))[1].iterations.max()) <= 1


def test_preconditioners_that_say_the_same_are_equal():
    """A stepper with another one would be compiled anew."""
    assert Line(0) == Line(0) and Line(0) != Line(1)
    assert jax.tree.structure(Line(0)) == jax.tree.structure(Line(0))
    assert jax.tree.structure(Line(0)) != jax.tree.structure(Line(1))


def test_line_of_an_axis_that_is_not_there():
    grid, velocity, initial = stiff((6, 5))
    with pytest.raises(InputError, match=r"Line\(axis=2\) on a grid of 2 axes.*0...1"):
        last(advection_diffusion(grid, velocity, 1.0), initial, Line(2))


@pytest.mark.thorough
@pytest.mark.parametrize("preconditioner", [Fourier(), Jacobi(), Line(0)])
def test_a_field_without_linear_terms(preconditioner):
    """It grows by its source alone, beside one that diffuses with one coefficient everywhere."""
    grid, _, initial = stiff((6, 5))
    system = System(grid, {"heat": [Diffusion(0.5)], "made": [Source(2.0)]})
    start = {"heat": initial["concentration"], "made": initial["concentration"]}
    trajectory = simulate(system, start, TIMES, CrankNicolson(STRICT, preconditioner))
    assert bool(trajectory.outcome.converged.all())
    np.testing.assert_allclose(trajectory.states["made"][-1], start["made"] + 2 * 0.02, rtol=1e-12)


@pytest.mark.thorough
@pytest.mark.parametrize("preconditioner", [Fourier(), Jacobi(), Line(1)])
def test_gradients_through_preconditioned_steps(preconditioner):
    grid, velocity, initial = stiff((8, 6))

    def loss(point):
        velocity, diffusivity = point
        system = advection_diffusion(grid, velocity, diffusivity)
        return jnp.sum(jnp.sin(4 * last(system, initial, preconditioner)[0]))

    point = (0.5 + 0.1 * velocity, jnp.array(0.5))
    assert taylor_rate(loss, point, step=1e-2) >= 1.9


@pytest.mark.thorough
def test_single_precision_stays_single():
    grid, velocity, initial = stiff((16, 9))
    single = jax.tree.map(lambda a: a.astype(jnp.float32), (velocity, initial))
    stepper = CrankNicolson(Affine(BiCGStab(1e-5)), Fourier())
    trajectory = simulate(advection_diffusion(grid, single[0], 1.0), single[1], TIMES, stepper)
    assert trajectory.states["concentration"].dtype == jnp.float32
    assert bool(trajectory.outcome.converged.all())
