"""Diffusion: its order, its walls, and what it refuses."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from smooth import box, matrix_of, wave

from impindiff._errors import InputError
from impindiff.grid import Axis, Grid
from impindiff.terms import Diffusion, Source


def exact_rate(grid: Grid, diffusivity: np.ndarray, field: np.ndarray) -> np.ndarray:
    """Spectral, exact to round-off for fields of few waves."""
    rate = np.zeros(grid.shape)
    for axis in range(grid.num_axes):
        modes = 2j * np.pi * np.fft.fftfreq(grid.shape[axis], grid.cell_widths[axis])
        modes = modes.reshape([-1 if k == axis else 1 for k in range(grid.num_axes)])

        def slope(values, axis=axis, modes=modes):
            return np.fft.ifft(np.fft.fft(values, axis=axis) * modes, axis=axis).real

        rate += slope(diffusivity * slope(field))
    return rate


@pytest.mark.thorough
@pytest.mark.many
@pytest.mark.parametrize("variable", [False, True], ids=["constant", "variable"])
@pytest.mark.parametrize("num_axes, sizes", [(1, (40, 80)), (2, (24, 48)), (3, (16, 32))])
def test_it_is_of_second_order(num_axes: int, sizes, variable: bool):
    def error(num_cells: int) -> float:
        grid = box(*[num_cells] * num_axes)
        diffusivity = wave(grid, 0.4) if variable else jnp.full(grid.shape, 0.3)
        term = Diffusion(diffusivity if variable else 0.3)
        found = term.stencil(grid)(wave(grid))
        exact = exact_rate(grid, np.asarray(diffusivity), np.asarray(wave(grid)))
        return float(np.linalg.norm(np.asarray(found) - exact) / np.linalg.norm(exact))

    coarse, fine = map(error, sizes)
    assert np.log2(coarse / fine) == pytest.approx(2, abs=0.1)


def test_a_number_and_an_array_of_it_are_the_same():
    grid = box(5, 4)
    number, array = Diffusion(0.3), Diffusion(jnp.full(grid.shape, 0.3))
    np.testing.assert_allclose(
        number.stencil(grid)(wave(grid)), array.stencil(grid)(wave(grid)), atol=1e-13
    )


def test_the_face_takes_the_harmonic_mean():
    grid = Grid.uniform((4,), ((0, 4),), periodic=True)
    conductance, opposite = Diffusion(jnp.array([1.0, 3.0, 0.0, 2.0])).face_coefficients(grid, 0)
    np.testing.assert_allclose(conductance, [1.5, 0, 0, 4 / 3], rtol=1e-15)
    np.testing.assert_array_equal(opposite, -conductance)


LAYERS = Grid([Axis.from_faces("x", [0.0, 1.0, 4.0, 4.5])])


def test_through_layers_of_unequal_cells_resistances_add_up():
    """Half a cell of each layer lies between two centres."""
    diffusivity = jnp.array([1.0, 10.0, 0.2])
    conductance, _ = Diffusion(diffusivity).face_coefficients(LAYERS, 0)
    resistances = [0.5 / 1 + 1.5 / 10, 1.5 / 10 + 0.25 / 0.2]
    np.testing.assert_allclose(conductance[:2], 1 / np.array(resistances), rtol=1e-14)


def test_the_arithmetic_mean_of_what_is_linear_is_its_value_at_the_face():
    centres = LAYERS.axes[0].centres
    conductance, _ = Diffusion(jnp.asarray(centres), "arithmetic").face_coefficients(LAYERS, 0)
    np.testing.assert_allclose(conductance[:2], np.array([1, 4]) / np.diff(centres), rtol=1e-14)


@pytest.mark.parametrize("size", [1e-36, 1e-20, 1e25])
def test_no_unit_is_too_small_or_too_large_for_single_precision(size: float):
    """The mean of D and 3 D is 1.5 D, its slopes 9/8 and 1/8: the product of both is not needed."""
    grid = Grid.uniform((2,), ((0, 2),), periodic=True)

    def conductance(values):
        return Diffusion(values * jnp.float32(size)).face_coefficients(grid, 0)[0]

    given = jnp.array([1.0, 3.0], jnp.float32)
    found, slopes = conductance(given), jax.jacobian(conductance)(given)
    np.testing.assert_allclose(np.asarray(found, float) / size, 1.5, rtol=1e-6)
    np.testing.assert_allclose(np.asarray(slopes, float) / size, [[9 / 8, 1 / 8]] * 2, rtol=1e-6)


@pytest.mark.parametrize("inside", [0.0, 1e-30])
def test_a_wall_leaks_nothing(inside: float):
    """With arithmetic means, half of the conductance beside it would be left."""
    grid = Grid.uniform((12,), ((0, 1),), periodic=True)
    diffusivity = jnp.ones(12).at[jnp.array([0, 6])].set(inside)
    full = jnp.zeros(12).at[1:6].set(1.0)
    stencil = Diffusion(diffusivity).stencil(grid)
    rate = stencil(full)
    np.testing.assert_allclose(rate, 0, atol=1e-26)
    # A rough content is levelled, on its side of the walls alone.
    rough = jnp.zeros(12).at[3].set(1.0)
    assert float(jnp.abs(stencil(rough)[6:]).max()) < 1e-26
    assert float(stencil(rough)[2]) > 0


@pytest.mark.thorough
def test_a_wall_does_not_spoil_gradients():
    """The mean of two zeros divides zero by zero, were it not guarded."""
    grid = Grid.uniform((6,), ((0, 1),), periodic=True)

    def total(diffusivity):
        return jnp.sum(Diffusion(diffusivity).stencil(grid)(wave(grid)) ** 2)

    gradient = jax.grad(total)(jnp.array([1.0, 0.0, 0.0, 2.0, 1.0, 1.0]))
    assert np.isfinite(gradient).all() and float(jnp.abs(gradient).max()) > 0


@pytest.mark.thorough
def test_it_levels_and_never_amplifies():
    """Symmetric on equal cells, negative semi-definite, zero on constants only."""
    grid = box(4, 3, 3)
    matrix = matrix_of(Diffusion(wave(grid)).stencil(grid), grid.shape)
    np.testing.assert_allclose(matrix, matrix.T, rtol=1e-13)
    values = np.sort(np.linalg.eigvalsh(matrix))[::-1]
    assert abs(values[0]) < 1e-11 * abs(values[-1]) and values[1] < -1e-3 * abs(values[-1])


@pytest.mark.parametrize(
    "diffusivity",
    [
        -1e-3,
        -1,
        np.nan,
        np.inf,
        np.float32(-1),
        np.array([0.1, -0.1, 0.1]),
        jnp.array([0.1, jnp.nan, 0.1]),
        jnp.array(-1.0),
    ],
    ids=str,
)
def test_a_diffusivity_that_makes_the_problem_ill_posed_is_refused(diffusivity):
    with pytest.raises(InputError, match="must be finite and not negative"):
        Diffusion(diffusivity)


def test_a_traced_diffusivity_is_taken_as_it_comes():
    grid = box(4)
    rate = jax.jit(lambda d: Diffusion(d).stencil(grid)(wave(grid)))(jnp.array(-0.1))
    assert np.isfinite(rate).all()


@pytest.mark.parametrize("term", [Diffusion, Source])
@pytest.mark.parametrize("shape", [(1,), (3,), (4, 5), (3, 5, 4)])
def test_a_coefficient_of_another_shape_is_refused(term, shape):
    grid = box(5, 4)
    with pytest.raises(InputError, match=r"one number or of the grid's shape \(5, 4\)"):
        made = term(jnp.ones(shape))
        made.stencil(grid) if term is Diffusion else made.rate(grid)


def test_a_source_is_what_it_is_given():
    grid = box(5, 4)
    np.testing.assert_array_equal(Source(wave(grid)).rate(grid), wave(grid))
    assert float(Source(-2.5).rate(grid)) == -2.5
