"""What passes an outer face under each condition, against formulas written out."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from impindiff._errors import InputError
from impindiff.coefficients import evaluate_coefficients
from impindiff.grid import Axis, Grid
from impindiff.terms import (
    AbstractBoundary,
    AbstractTwoPointFlux,
    Advection,
    BoundaryFace,
    Diffusion,
    Dirichlet,
    FaceVelocity,
    FluxParts,
    Inflow,
    Neumann,
    NoFlux,
    Outflow,
    Robin,
)

# Conductance, outward speed, distance, and the value in the cell.
K, DISTANCE, U = 3.0, 0.1, 1.7


def flux(condition: AbstractBoundary, speed: float, *, upwind: bool = False) -> float:
    carried = (max(speed, 0.0), min(speed, 0.0)) if upwind else (0.0, speed)
    const, slope = condition.flux(BoundaryFace(K, *carried, DISTANCE))
    return float(const + slope * U)


@pytest.mark.parametrize("speed", [0.0, 2.0, -2.0])
def test_a_held_value(speed: float):
    assert flux(Dirichlet(0.4), speed) == pytest.approx(K * (U - 0.4) + speed * 0.4)
    carried = speed * (U if speed > 0 else 0.4)
    assert flux(Dirichlet(0.4), speed, upwind=True) == pytest.approx(K * (U - 0.4) + carried)


@pytest.mark.parametrize("speed", [0.0, 2.0, -2.0])
def test_a_given_gradient(speed: float):
    """A field that grows outwards diffuses in."""
    at_face = U + 5.0 * DISTANCE
    assert flux(Neumann(5.0), speed) == pytest.approx(-K * DISTANCE * 5.0 + speed * at_face)


@pytest.mark.parametrize("speed", [0.0, 2.0, -2.0])
def test_an_exchange_with_the_outside(speed: float):
    """What diffuses to the face is what is handed on there."""
    at_face = (K * U + 0.5 * 0.2) / (K + 0.5)
    assert K * (U - at_face) == pytest.approx(0.5 * (at_face - 0.2))
    expected = 0.5 * (at_face - 0.2) + speed * at_face
    assert flux(Robin(0.5, 0.2), speed) == pytest.approx(expected)


def test_robin_lies_between_a_wall_and_a_held_value():
    assert flux(Robin(0.0, 9.0), 0.0) == pytest.approx(0.0)
    assert flux(Robin(1e9, 0.4), 0.0) == pytest.approx(flux(Dirichlet(0.4), 0.0))
    const, slope = Robin(0.0, 9.0).flux(BoundaryFace(0.0, 0.0, 1.0, DISTANCE))
    assert (float(const), float(slope)) == (0.0, 1.0)


@pytest.mark.parametrize("upwind", [True, False])
def test_what_flows_in_is_given_and_what_flows_out_is_not(upwind: bool):
    assert flux(Inflow(0.4), -2.0, upwind=upwind) == pytest.approx(-2.0 * 0.4)
    assert flux(Inflow(0.4), 2.0, upwind=upwind) == pytest.approx(2.0 * U)
    assert flux(Outflow(), 2.0, upwind=upwind) == pytest.approx(2.0 * U)
    assert flux(NoFlux(), 2.0, upwind=upwind) == 0.0


@pytest.mark.parametrize("axis", [0, 1])
@pytest.mark.parametrize("side, sign", [(0, -1.0), (1, 1.0)])
def test_terms_see_the_flow_and_the_distance_at_either_end(axis: int, side: int, sign: float):
    grid = Grid([Axis.graded("x", 0, 1, 5, 3.0), Axis.from_faces("y", [0, 1, 3])])
    half = float(grid.axes[axis].widths[-side]) / 2
    diffusive = Diffusion(0.3).boundary_face(grid, axis, side)
    assert float(diffusive.conductance) == pytest.approx(0.3 / half)
    assert diffusive.distance == pytest.approx(half)
    wind = Advection(jnp.array([0.7, -0.4]), "central").boundary_face(grid, axis, side)
    np.testing.assert_allclose(wind.speed, sign * (0.7, -0.4)[axis])
    assert jnp.shape(wind.speed) == ((1, 2), (5, 1))[axis]


def test_coefficients_are_carried_on_to_the_face():
    """Linearly, on stretched cells, too; a diffusivity no further than to its half or double."""
    grid = Grid([Axis.from_faces("x", [0, 1, 3, 4])])
    field = jnp.asarray(2 + 0.3 * grid.axes[0].centres)
    for side, place in ((0, 0.0), (1, 4.0)):
        spread = Diffusion(field).boundary_face(grid, 0, side)
        np.testing.assert_allclose(spread.conductance, (2 + 0.3 * place) / 0.5)
        wind = Advection(field, "limited").boundary_face(grid, 0, side)
        np.testing.assert_allclose(jnp.abs(wind.speed), 2 + 0.3 * place)
        # Donor cells send out their own velocity.
        donor = Advection(field, "upwind").boundary_face(grid, 0, side)
        np.testing.assert_allclose(jnp.abs(donor.speed), field[-side])
    steep = Diffusion(jnp.array([1.0, 9.0, 1e-6])).boundary_face(grid, 0, 0)
    np.testing.assert_allclose(steep.conductance, 0.5 / 0.5)


def test_velocities_at_faces_are_taken_as_they_are():
    ring = Grid.uniform((3, 2), ((0, 3), (0, 2)), periodic=(True, False))
    x, y = jnp.arange(6.0).reshape(3, 2), -jnp.arange(9.0).reshape(3, 3)
    term = evaluate_coefficients(Advection(FaceVelocity(x, y)), ring)
    below, above = term.face_coefficients(ring, 0)
    np.testing.assert_array_equal(below, np.roll(x, -1, 0))
    np.testing.assert_array_equal(above, 0 * x)
    below, above = term.face_coefficients(ring, 1)
    np.testing.assert_array_equal(above, y[:, 1:])
    np.testing.assert_array_equal(term.boundary_face(ring, 1, 0).speed, -y[:, :1])
    np.testing.assert_array_equal(term.boundary_face(ring, 1, 1).speed, y[:, 2:])
    cells = dict(zip("xy", ring.centres(), strict=True))
    by_formula = FaceVelocity(lambda x, y: x + 10 * y, 0.5).evaluate(ring, None, cells)
    np.testing.assert_allclose(by_formula[0][:, 1], np.arange(3) + 15.0)
    np.testing.assert_array_equal(by_formula[1], np.full((3, 3), 0.5))


@pytest.mark.parametrize(
    "components, said",
    [
        ((lambda c: c, 0.0), r"FaceVelocity\(c\) is a function of 'c', which has a value for each"),
        ((0.0,), r"1 components, but the grid has 2 axes \(x, y\)"),
        ((jnp.zeros((4, 2)), 0.0), r"along 'x' an array of shape \(4, 2\).*of shape \(3, 2\)"),
        ((0.0, jnp.zeros((3, 2))), r"along 'y' an array of shape \(3, 2\).*of shape \(3, 3\)"),
    ],
)
def test_velocities_of_other_faces_are_refused(components: Any, said: str):
    ring = Grid.uniform((3, 2), ((0, 3), (0, 2)), periodic=(True, False))
    with pytest.raises(InputError, match=said):
        FaceVelocity(*components).evaluate(ring, None, {"c": jnp.zeros((3, 2))})


class Drift(AbstractTwoPointFlux):
    """A term that does not know about ends."""

    def face_coefficients(self, grid: Grid, axis: int):
        return jnp.ones(grid.shape), jnp.zeros(grid.shape)


def test_a_term_that_does_not_know_its_outer_faces_says_so():
    grid = Grid.uniform((4,), ((0, 1),))
    with pytest.raises(InputError, match="Drift does not say what passes an outer face"):
        Drift().boundary_face(grid, 0, 1)


def test_what_is_made_of_a_flux_is_a_flux():
    """Half of a condition's flux: its parts are others than those of the whole."""
    face = BoundaryFace(2.0, 0.5, 0.25, 0.1)
    whole = Dirichlet(2.0).flux(face)
    half = jax.tree.map(lambda part: 0.5 * part, whole)
    for value in (0.0, 3.0):
        expected = 0.5 * (whole[0] + whole[1] * value)
        assert float(FluxParts.of(half).outward(jnp.asarray(value))) == pytest.approx(expected)
        assert float(FluxParts.of(whole).outward(jnp.asarray(value))) == pytest.approx(2 * expected)
    _, slopes = jax.jvp(lambda given: face.flux_for((given, 0.0)), (1.0,), (1.0,))
    assert tuple(map(float, slopes)) == (-1.75, 0.0)


@pytest.mark.parametrize("speed", [-2.0, 0.0, 2.0])
def test_the_value_at_an_inflow_is_the_one_that_its_flux_is_of(speed: float):
    """The face draws nearer to the given value; where nothing enters it has the cell's."""
    face = BoundaryFace(K, max(speed, 0.0), min(speed, 0.0), DISTANCE)
    const, slope = Inflow(8.0).face_value(face)
    at_face = float(const + slope * U)
    assert at_face == pytest.approx((2 * 8.0 + K * U) / (2 + K) if speed < 0 else U, rel=1e-14)
    whole = K * (U - at_face) + face.from_cell * U + face.from_face * at_face
    assert float(whole) == pytest.approx(flux(Inflow(8.0), speed, upwind=True), rel=1e-14)


@pytest.mark.parametrize("side", [0, 1])
def test_a_diffusivity_is_carried_on_to_the_face_through_unequal_cells(side: int):
    """Linearly, by the widths of the two last cells: exact for what is linear."""
    axis = Axis.from_faces("x", [0.0, 1.0, 4.0, 4.5])
    face = Diffusion(jnp.asarray(2 + axis.centres)).boundary_face(Grid([axis]), 0, side)
    expected = (2 + 4.5) / 0.25 if side else 2 / 0.5
    assert float(np.squeeze(face.conductance)) == pytest.approx(expected, rel=1e-14)
