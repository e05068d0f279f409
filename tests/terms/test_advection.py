"""Advection: the donor-cell definition, its order, and what it refuses."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import runtime_types
from smooth import box, wave, winds

from impindiff._errors import InputError
from impindiff.coefficients import Corrected, evaluate_coefficients
from impindiff.grid import Axis, Grid
from impindiff.latent import CellField, Parameter, SineField, SpectralField
from impindiff.terms import (
    Advection,
    Diffusion,
    Dirichlet,
    FaceVelocity,
    Inflow,
    Neumann,
    Source,
)


def donor_cell_loop(grid: Grid, velocity: np.ndarray, field: np.ndarray) -> np.ndarray:
    """The scheme in words: each face lets through what its upwind cell sends out.

    A cell that flows towards the face sends its own velocity times its own value. Where the two
    cells of a face flow apart nothing comes, where they flow together both send.
    """
    rate = np.zeros(grid.shape)
    for axis, width in enumerate(grid.cell_widths):
        for cell in np.ndindex(grid.shape):
            upper = list(cell)
            upper[axis] = (cell[axis] + 1) % grid.shape[axis]
            flux = 0.0
            if velocity[axis][cell] > 0:
                flux += velocity[axis][cell] * field[cell]
            if velocity[axis][tuple(upper)] < 0:
                flux += velocity[axis][tuple(upper)] * field[tuple(upper)]
            rate[cell] -= flux / width
            rate[tuple(upper)] += flux / width
    return rate


@pytest.mark.thorough
@pytest.mark.parametrize(
    "grid", [box(7), box(2), box(5, 4), box(3, 2, 4)], ids=lambda g: str(g.shape)
)
def test_upwind_is_the_donor_cell_scheme(grid: Grid):
    random = np.random.default_rng(0)
    velocity = random.normal(size=(grid.num_axes, *grid.shape))
    field = random.normal(size=grid.shape)
    assert (velocity > 0).any() and (velocity < 0).any()
    found = Advection(jnp.asarray(velocity), "upwind").stencil(grid)(jnp.asarray(field))
    np.testing.assert_allclose(
        found, donor_cell_loop(grid, velocity, field), rtol=1e-12, atol=1e-12
    )


@pytest.mark.parametrize("sign", [1, -1])
def test_upwind_looks_against_the_wind(sign: int):
    """What stands downwind of a cell has no part in its rate."""
    grid = box(8)
    stencil = Advection(jnp.array([sign * 2.0]), "upwind").stencil(grid)
    pulse = jnp.zeros(8).at[3].set(1)
    width = grid.cell_widths[0]
    expected = np.zeros(8)
    expected[[3, 3 + sign]] = [-2 / width, 2 / width]
    np.testing.assert_allclose(stencil(pulse), expected, rtol=1e-13)


@pytest.mark.thorough
@pytest.mark.many
@pytest.mark.parametrize("scheme, order", [("upwind", 1), ("central", 2)])
@pytest.mark.parametrize("num_axes, sizes", [(1, (128, 256)), (2, (64, 128)), (3, (32, 64))])
def test_the_scheme_reaches_its_order(scheme, order: int, num_axes: int, sizes):
    """On smooth fields, in the mean over cells; on one and two axes the winds change sign."""
    mean_wind = 2.0 if num_axes == 3 else 0.0

    def error(num_cells: int) -> float:
        grid = box(*[num_cells] * num_axes)
        velocity, field = np.asarray(winds(grid) + mean_wind), np.asarray(wave(grid))
        exact = np.zeros(grid.shape)
        for axis in range(num_axes):
            exact -= spectral_derivative(velocity[axis] * field, grid, axis)
        found = Advection(jnp.asarray(velocity), scheme).stencil(grid)(wave(grid))
        return float(np.abs(np.asarray(found) - exact).mean())

    coarse, fine = map(error, sizes)
    assert np.log2(coarse / fine) == pytest.approx(order, abs=0.1)


def spectral_derivative(field: np.ndarray, grid: Grid, axis: int) -> np.ndarray:
    """Exact to round-off for a field of few waves."""
    modes = 2j * np.pi * np.fft.fftfreq(grid.shape[axis], grid.cell_widths[axis])
    shape = [-1 if k == axis else 1 for k in range(grid.num_axes)]
    return np.fft.ifft(np.fft.fft(field, axis=axis) * modes.reshape(shape), axis=axis).real


def test_a_uniform_wind_may_be_given_by_its_components():
    grid = box(5, 4)
    short = Advection(jnp.array([0.3, -0.7])).stencil(grid)(wave(grid))
    full = jnp.stack([jnp.full(grid.shape, 0.3), jnp.full(grid.shape, -0.7)])
    np.testing.assert_array_equal(short, Advection(full).stencil(grid)(wave(grid)))


@pytest.mark.parametrize("kind", [list, tuple])
def test_a_component_for_each_axis_may_be_of_any_kind(kind):
    """A tuple is none of velocities at faces, though on a ring these have the same shape."""
    grid = box(5, 4)
    field = np.linspace(0.1, 1.0, 20).reshape(grid.shape)
    parts = kind([CellField("v", field), 0.3])
    known = Advection(jnp.stack([jnp.asarray(field), jnp.full(grid.shape, 0.3)]))
    made = evaluate_coefficients(Advection(parts, "central"), grid).stencil(grid)(wave(grid))
    wanted = Advection(known.velocity, "central").stencil(grid)(wave(grid))
    np.testing.assert_allclose(made, wanted, rtol=1e-6, atol=1e-7)


@pytest.mark.parametrize("parts", [(0.1,), (jnp.ones((6, 4)), jnp.ones((5, 5)))])
def test_components_that_do_not_fit_point_to_velocities_at_faces(parts):
    with pytest.raises(InputError, match=r"must be 2, each one number .* FaceVelocity"):
        Advection(parts).stencil(box(5, 4))


@pytest.mark.parametrize("wrong", [None, {"x"}, Advection])
@pytest.mark.parametrize("term", [Advection, Diffusion, Source, Dirichlet, Neumann, Inflow])
def test_what_is_no_coefficient_is_refused_where_it_is_given(term, wrong):
    with pytest.raises(InputError, match="must be a number, an array of the grid's shape"):
        term(wrong)


def test_a_field_in_cells_is_no_velocity_at_faces():
    fields = (
        CellField("v", np.ones((5, 4))),
        SineField(2, ("a", "b"), key=jax.random.key(0)),
        SpectralField(2, "v", 1, (0.0, 1.0), degree=1),
    )
    for field in fields:
        with pytest.raises(InputError, match=r"values in cells .* Advection\(\w+Field\(\.\.\.\)\)"):
            FaceVelocity(field, 0.0)
    one = Parameter("v", 0.5, (0, 1))
    FaceVelocity(one, Corrected(2.0, one))
    FaceVelocity(Corrected(lambda t: 1 + t, one), 0.0)


def test_on_one_axis_the_leading_axis_may_be_left_out():
    grid = box(6)
    wind = winds(grid)
    of_field = Advection(wind).stencil(grid)(wave(grid))
    np.testing.assert_array_equal(of_field, Advection(wind[0]).stencil(grid)(wave(grid)))
    of_number = Advection(jnp.array([0.5])).stencil(grid)(wave(grid))
    for number in (0.5, jnp.array(0.5), np.float64(0.5)):
        np.testing.assert_array_equal(of_number, Advection(number).stencil(grid)(wave(grid)))


def test_no_wind_moves_nothing():
    grid = box(5, 4)
    for scheme in ("upwind", "central"):
        rate = Advection(jnp.zeros(2), scheme).stencil(grid)(wave(grid))
        np.testing.assert_array_equal(rate, np.zeros(grid.shape))


def test_a_scheme_that_does_not_exist_is_refused():
    wrong: Any = "upwards"
    message = "'upwards' is not one of upwind, central"
    with runtime_types.without(), pytest.raises(InputError, match=message):
        Advection(jnp.zeros(2), wrong)


@pytest.mark.parametrize("shape", [(), (3,), (1,), (5, 4), (4, 5), (3, 5, 4), (2, 4, 5), (2, 1, 1)])
def test_a_velocity_of_another_shape_is_refused(shape):
    with pytest.raises(InputError, match=r"must be \(2,\) or \(2, 5, 4\)") as caught:
        Advection(jnp.zeros(shape)).stencil(box(5, 4))
    assert f"has shape {shape}" in str(caught.value)


def test_between_unequal_cells_central_advection_is_right_for_what_is_linear():
    """What passes a face is the flow times the value there; and so for a velocity that varies."""
    axis = Axis.from_faces("x", [0.0, 1.0, 4.0, 4.5])
    grid, faces, centres = Grid([axis]), np.array([1.0, 4.0]), axis.centres
    for velocity, field in ((np.full(3, -2.0), 3 + centres), (3 + centres, np.full(3, -2.0))):
        term = Advection(jnp.asarray(velocity[None]), "central")
        below, above = term.face_coefficients(grid, 0)
        found = below * field + above * np.roll(field, -1)
        np.testing.assert_allclose(found[:2], -2 * (3 + faces), rtol=1e-14)
