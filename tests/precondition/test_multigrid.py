"""Multigrid: iterations that do not grow, on any grid; its transpose; what coarse grids keep."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from impindiff.linear import CG, AbstractLinearSolver, BiCGStab, Stencil
from impindiff.precondition import MultigridCycle
from impindiff.precondition._coarsening import Faces, coarsen


def operator(shape, number, *, jump=1.0, peclet=0.0, periodic=True, seed=0) -> Stencil:
    """Backward Euler for diffusion in blocks of 1 and `jump`, and a wind along the diagonal."""
    random = np.random.default_rng(seed)
    # Four blocks along each axis, whatever the grid: refinement resolves the same medium.
    blocks = random.integers(0, 2, (4,) * len(shape))
    for axis, n in enumerate(shape):
        blocks = np.take(blocks, 4 * np.arange(n) // n, axis)
    diffusivity = np.where(blocks, 1.0, jump)
    centre, sides = np.ones(shape), []
    for axis in range(len(shape)):
        other = np.roll(diffusivity, -1, axis)
        at_upper = number * 2 * diffusivity * other / (diffusivity + other)
        carried = number * peclet
        if not periodic:
            np.moveaxis(at_upper, axis, 0)[-1] = 0
            carried = 0.0
        at_lower = np.roll(at_upper, 1, axis)
        centre += at_upper + at_lower + carried
        sides.append((jnp.asarray(-at_lower - carried), jnp.asarray(-at_upper)))
    return Stencil(jnp.asarray(centre), tuple(sides))


def iterations(stencil, shape, solver: AbstractLinearSolver | None = None, **settings) -> int:
    solver = solver or BiCGStab(1e-6)
    rhs = jnp.asarray(np.random.default_rng(1).normal(size=shape))

    @jax.jit
    def solve(stencil, rhs):
        return solver.solve(stencil, rhs, None, MultigridCycle.build(stencil, shape, **settings))

    found, outcome = solve(stencil, rhs)
    assert bool(outcome.converged)
    assert np.linalg.norm(rhs - stencil(found)) <= 1.01e-6 * np.linalg.norm(rhs)
    return int(outcome.iterations)


@pytest.mark.thorough
@pytest.mark.parametrize("number", [1.0, pytest.param(1e2, marks=pytest.mark.slow), 1e4])
@pytest.mark.parametrize(
    "case",
    [
        {},
        pytest.param({"jump": 1e4}, marks=pytest.mark.slow),
        {"jump": 1e4, "periodic": False},
        {"peclet": 10.0},
    ],
)
def test_iterations_do_not_grow_with_the_grid(number, case):
    few, many = (iterations(operator((n, n), number, **case), (n, n)) for n in (32, 128))
    assert many <= 12 and many <= few + 3


@pytest.mark.thorough
@pytest.mark.parametrize(
    "shape",
    [
        pytest.param((200,), marks=pytest.mark.slow),
        (101, 37),
        pytest.param((63, 65), marks=pytest.mark.slow),
        pytest.param((7, 6), marks=pytest.mark.slow),
        (3, 5),
        (2, 40),
        (21, 13, 10),
    ],
)
def test_any_size_of_grid_will_do(shape):
    assert iterations(operator(shape, 1e2, jump=1e2), shape) <= 12


@pytest.mark.slow
def test_diffusion_needs_one_sweep_of_a_v_cycle_only_and_cg_may_use_it():
    shape = (64, 48)
    stencil = operator(shape, 1e3, jump=1e4)
    assert iterations(stencil, shape, CG(1e-6), cycle="V", sweeps=1) <= 20
    cycle = MultigridCycle.build(stencil, shape, cycle="V", sweeps=1)
    x, y = jnp.asarray(np.random.default_rng(0).normal(size=(2, *shape)))
    assert np.vdot(y, cycle.apply(x)) == pytest.approx(np.vdot(cycle.apply(y), x), rel=1e-9)
    assert np.vdot(x, cycle.apply(x)) > 0


@pytest.mark.thorough
@pytest.mark.parametrize("sweeps", [1, 2])
def test_a_v_cycle_is_symmetric_where_the_operator_is(sweeps: int):
    """Smoothing afterwards takes the colours in the opposite order."""
    shape = (9, 7)
    stencil = operator(shape, 20.0, jump=50.0, periodic=False)
    cycle = MultigridCycle.build(stencil, shape, cycle="V", sweeps=sweeps)
    columns = jax.jit(jax.vmap(cycle.apply))(jnp.eye(63).reshape(63, *shape))
    matrix = np.asarray(columns).reshape(63, 63)
    np.testing.assert_allclose(matrix, matrix.T, atol=1e-13 * np.abs(matrix).max())
    assert np.linalg.eigvalsh(matrix).min() > 0


@pytest.mark.slow
def test_thin_cells_are_coarsened_along_their_short_side_first():
    """Cells a hundred times as long as wide: coarsened alike, the cycle hardly helps."""
    shape = (64, 64)
    plain = operator(shape, 1e4)
    thin = Stencil(
        plain.centre - (1 - 1e-4) * -(plain.sides[0][0] + plain.sides[0][1]),
        ((1e-4 * plain.sides[0][0], 1e-4 * plain.sides[0][1]), plain.sides[1]),
    )
    aware = iterations(thin, shape, spacing=(100.0, 1.0))
    assert aware <= 12
    assert aware < iterations(thin, shape, BiCGStab(1e-6, max_steps=400)) / 2


@pytest.mark.thorough
@pytest.mark.parametrize("settings", [{}, {"cycle": "V", "sweeps": 1}])
@pytest.mark.parametrize(
    "shape", [(19,), (16, 13), pytest.param((9, 8, 7), marks=pytest.mark.slow)]
)
def test_the_transpose_is_the_transpose(shape, settings):
    cycle = MultigridCycle.build(operator(shape, 50.0, peclet=10.0), shape, **settings)
    x, y = np.random.default_rng(0).normal(size=(2, *shape))
    transposed = cycle.transpose()
    forward = jax.jit(lambda v: cycle.apply(v))(x)
    adjoint = jax.jit(lambda v: transposed.apply(v))(y)
    assert np.vdot(y, forward) == pytest.approx(np.vdot(adjoint, x), rel=1e-10)


@pytest.mark.thorough
@pytest.mark.parametrize("cells", [8, 9])
def test_a_coarse_grid_keeps_what_is_conserved(cells):
    """Column sums are what a cell keeps for itself; those of a pair are summed."""
    shape = (cells, 6)
    faces = Faces.of(operator(shape, 10.0, jump=100.0, peclet=3.0), shape)
    coarse, transfer = coarsen(faces, 0)
    assert coarse.kept.shape == (-(-cells // 2), 6)
    np.testing.assert_allclose(coarse.kept.sum(), faces.kept.sum())
    ones = jnp.ones(coarse.kept.shape)
    np.testing.assert_allclose(transfer.prolong(ones), 1, rtol=1e-14)
    # What leaves all cells together is what they keep.
    x = jnp.asarray(np.random.default_rng(0).normal(size=coarse.kept.shape))
    np.testing.assert_allclose(coarse.stencil()(x).sum(), (coarse.kept * x).sum(), rtol=1e-10)


def test_a_stencil_survives_being_taken_apart():
    shape = (7, 5)
    stencil = operator(shape, 10.0, jump=100.0, peclet=3.0)
    x = jnp.asarray(np.random.default_rng(0).normal(size=shape))
    np.testing.assert_allclose(Faces.of(stencil, shape).stencil()(x), stencil(x), rtol=1e-12)


def test_a_uniform_conductance_is_halved():
    faces = Faces.of(operator((16,), 10.0), (16,))
    np.testing.assert_allclose(coarsen(faces, 0)[0].conductance[0], 5.0)


@pytest.mark.thorough
def test_a_singular_operator_gives_finite_numbers():
    """Pure diffusion around a ring has no inverse."""
    plain = operator((12, 10), 1.0)
    cycle = MultigridCycle.build(Stencil(plain.centre - 1, plain.sides), (12, 10))
    assert np.all(np.isfinite(cycle.apply(jnp.ones((12, 10)))))


@pytest.mark.thorough
@pytest.mark.parametrize("settings", [{"cycle": "F"}, {"sweeps": 0}])
def test_refusals(settings):
    with pytest.raises(ValueError, match="'V' or 'W'.*at least 1 sweep"):
        MultigridCycle.build(operator((8,), 1.0), (8,), **settings)
