"""Stretched axes, and grids of other measures than boxes."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import runtime_types

import impindiff as ipd
from impindiff._errors import InputError
from impindiff.grid import Axis, Grid

FACES = [0.0, 0.1, 0.3, 0.7, 1.5]


def test_a_stretched_axis_is_its_faces():
    axis = Axis.from_faces("x", np.array(FACES, np.float32).astype(float))
    np.testing.assert_allclose(axis.faces, FACES, rtol=1e-7)
    np.testing.assert_allclose(axis.widths, [0.1, 0.2, 0.4, 0.8], rtol=1e-6)
    np.testing.assert_allclose(axis.centres, [0.05, 0.2, 0.5, 1.1], rtol=1e-6)
    assert not axis.is_uniform and not axis.periodic and axis.num_cells == 4
    assert axis.cell_width == pytest.approx(1.5 / 4)
    assert hash(axis) == hash(Axis.from_faces("x", axis.faces))
    listed = Axis("x", 0.0, 1.5, 4, inner_faces=axis.faces.tolist()[1:-1])
    assert hash(listed) == hash(Axis("x", 0.0, 1.5, 4, inner_faces=tuple(axis.faces[1:-1])))


@pytest.mark.parametrize("precision", [np.float32, np.float64])
@pytest.mark.parametrize("bounds", [(0, 1), (-0.3, 0.7), (1000, 1003)])
def test_equal_cells_are_found_equal(bounds, precision):
    faces = np.linspace(bounds[0], bounds[1], 12).astype(precision)
    axis = Axis.from_faces("x", faces, periodic=True)
    assert axis.is_uniform and axis.periodic
    np.testing.assert_allclose(axis.faces, faces, rtol=1e-6)


@pytest.mark.parametrize("lower", [0, 5_400_000, 1e9])
def test_whole_metres_far_from_the_origin_are_the_faces_that_they_are(lower: float):
    """They are float32, too, whose spacing at a northing is half a metre."""
    faces = lower + np.array([0, 64, 192, 384])
    for scale in (1, 1 / 64) if lower < 1e9 else (1,):
        axis = Axis.from_faces("y", lower + (faces - lower) * scale)
        np.testing.assert_array_equal(axis.widths, np.array([64, 128, 192]) * scale)


@pytest.mark.parametrize("ratio", [5.0, 0.2])
def test_graded_cells_grow_by_one_factor(ratio: float):
    axis = Axis.graded("x", -1.0, 2.0, 9, ratio)
    growth = axis.widths[1:] / axis.widths[:-1]
    np.testing.assert_allclose(growth, growth[0], rtol=1e-12)
    assert axis.widths[-1] / axis.widths[0] == pytest.approx(ratio)
    assert (axis.faces[0], axis.faces[-1]) == (-1.0, 2.0)


def test_a_cell_alone_lies_between_two_ends():
    axis = Axis("x", 0, 2, 1)
    assert axis.centres.tolist() == [1.0] and axis.faces.tolist() == [0.0, 2.0]
    assert Axis.from_faces("x", [0, 2]) == axis


@pytest.mark.parametrize(
    "build, said",
    [
        (lambda: Axis.from_faces("x", [0, 1, 1]), "axis 'x' must increase: entry 2 is 1 after 1"),
        (lambda: Axis.from_faces("x", [0]), "at least 2 positions"),
        (lambda: Axis("x", 0, 1, 3, inner_faces=(0.5,)), "1 inner faces: there must be 2"),
        (lambda: Axis("x", 0, 1, 3, inner_faces=(0.5, 1.5)), "between the bounds"),
        (lambda: Axis.graded("x", 0, 1, 4, -2.0), "graded over 4 cell.*ratio -2.0"),
        (lambda: Axis.graded("x", 0, 1, 1, 2.0), "at least 2 cells"),
        (lambda: Axis("x", 0, 1, 0), "has 0 cell"),
    ],
)
def test_an_axis_that_makes_no_sense_is_refused(build, said: str):
    with pytest.raises(InputError, match=said):
        build()


def test_which_axes_are_periodic():
    mixed = Grid.uniform((4, 3), ((0, 1), (0, 1)), periodic=(True, False))
    assert [axis.periodic for axis in mixed.axes] == [True, False]
    assert not any(axis.periodic for axis in Grid.uniform((4, 3), ((0, 1), (0, 1))).axes)
    ends = [mixed.has_end(axis, side) for axis in (0, 1) for side in (0, 1)]
    assert ends == [False, False, True, True]
    with pytest.raises(InputError, match=r"periodic \(True,\) has 1"):
        Grid.uniform((4, 3), ((0, 1), (0, 1)), periodic=(True,))


@pytest.mark.parametrize("lower", [0.0, 0.5])
def test_rings_fill_a_cylinder(lower: float):
    radius = Axis.graded("r", lower, 2.0, 7, 3.0)
    grid = Grid([radius, Axis("z", 0, 3, 4)], "cylindrical")
    assert grid.cell_volumes().sum() == pytest.approx(np.pi * (4 - lower**2) * 3)
    assert grid.face_measures(0)[-1] == pytest.approx(2 * np.pi * 2.0)
    assert grid.has_end(0, 0) == (lower > 0) and grid.has_end(0, 1) and grid.has_end(1, 0)


@pytest.mark.parametrize("lower", [0.0, 0.5])
def test_shells_fill_a_ball(lower: float):
    grid = Grid([Axis.graded("r", lower, 2.0, 7, 3.0)], "spherical")
    faces = grid.axes[0].faces
    np.testing.assert_allclose(grid.cell_volumes(), 4 / 3 * np.pi * np.diff(faces**3), rtol=1e-13)
    np.testing.assert_allclose(grid.face_measures(0), 4 * np.pi * faces**2, rtol=1e-15)
    assert grid.has_end(0, 0) == (lower > 0) and grid.has_end(0, 1)
    assert not grid.is_even(0) and grid != Grid(grid.axes, "cylindrical")


def test_a_thin_shell_far_out_keeps_its_volume():
    """A difference of cubes would keep five digits of it."""
    radius, width = 1e6, 1e-5
    grid = Grid([Axis("r", radius, radius + 4 * width, 4)], "spherical")
    widths = grid.axes[0].widths
    np.testing.assert_allclose(grid.cell_volumes(), 4 * np.pi * radius**2 * widths, rtol=1e-9)


@pytest.mark.parametrize("coordinates", ["cylindrical", "spherical"])
@pytest.mark.parametrize(
    "axes, said",
    [
        ([Axis("r", -1, 1, 4)], "'r', from -1"),
        ([Axis("r", 1, 2, 4, periodic=True)], "and periodic"),
        ([Axis(name, 0, 1, 4) for name in "rtz"], "found 3 axes"),
    ],
)
def test_a_radius_is_a_distance(coordinates, axes, said: str):
    with pytest.raises(InputError, match=f"a {coordinates} grid has the distance.*{said}"):
        Grid(axes, coordinates)


def test_a_ball_has_no_second_axis():
    axes = [Axis("r", 0, 1, 4), Axis("y", 0, 1, 4)]
    with pytest.raises(InputError, match="from the centre as its first axis, and no other"):
        Grid(axes, "spherical")
    with runtime_types.without(), pytest.raises(InputError, match="'polar' are not one of cart"):
        Grid(axes, "polar")  # pyright: ignore[reportArgumentType]


def test_a_mask_is_part_of_a_grid():
    axes = [Axis("x", 0, 1, 5), Axis("y", 0, 1, 3)]
    mask = np.zeros((5, 3), bool)
    assert Grid(axes, solid=mask) == Grid(axes) and Grid(axes).solid is None
    mask[2:4, 1] = True
    grid = Grid(axes, solid=mask)
    np.testing.assert_array_equal(grid.solid, mask)
    assert grid == Grid(axes, solid=mask.tolist()) and hash(grid) == hash(Grid(axes, solid=mask))
    mask[0, 0] = True
    assert grid != Grid(axes, solid=mask)
    for wrong, said in (
        (mask.T, r"has the shape \(3, 5\): it must have that of the grid, \(5, 3\)"),
        (mask.astype(float), "float64"),
        (np.ones((5, 3), bool), "cell"),
    ):
        with pytest.raises(InputError, match=said):
            Grid(axes, solid=wrong)


@pytest.mark.parametrize(
    "build, said",
    [
        (lambda given: Axis("x", 0, 1, 4, periodic=given), "whether an axis is periodic is 'no'"),
        (lambda given: Grid.uniform((4, 4), ((0, 1),) * 2, periodic=given), "periodic is 'no'"),
        (lambda given: ipd.Source(1.0, is_explicit=given), "is_explicit is 'no'"),
        (lambda given: ipd.Advection(1.0, is_explicit=given), "is_explicit is 'no'"),
        (lambda given: ipd.solvers.CG(check_symmetry=given), "check_symmetry is 'no'"),
    ],
)
def test_text_is_no_truth_value(build: Callable[[Any], Any], said: str):
    """It would be true, whatever it says."""
    with runtime_types.without():
        build(np.bool_(True))
        with pytest.raises(InputError, match=f"{said}.*True or False"):
            build("no")
