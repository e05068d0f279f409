"""A grid is fixed by its bounds, and found again from its cell centres."""

from typing import Any, cast

import jax
import numpy as np
import pytest
import runtime_types

from impindiff._errors import InputError
from impindiff.grid import Axis, Grid


def test_centres_lie_half_a_cell_inside():
    axis = Axis("x", -1, 1, 4)
    np.testing.assert_array_equal(axis.centres, [-0.75, -0.25, 0.25, 0.75])
    assert (axis.length, axis.cell_width) == (2.0, 0.5)
    assert type(axis.lower) is float


@pytest.mark.parametrize(
    "arguments, said",
    [
        ((1, 1, 4), "runs from 1.0 to 1.0: give finite bounds"),
        ((1, 0, 4), "the upper one larger"),
        ((0, np.inf, 4), "finite bounds"),
        ((np.nan, 1, 4), "finite bounds"),
        ((0, 1, 1), "has 1 cell"),
        ((0, 1, 0), "at least 2"),
    ],
)
def test_an_axis_without_cells_is_refused(arguments, said: str):
    with pytest.raises(InputError, match=f"axis 'x'.*{said}"):
        Axis("x", *arguments, periodic=True)


@pytest.mark.parametrize("precision", [np.float32, np.float64])
@pytest.mark.parametrize("num_cells", [2, 3, 64, 127, 1000])
@pytest.mark.parametrize(
    "bounds", [(0, 1), (-1, 1), (0, 0.1), (-0.3, 0.7), (0, 1e-6), (0, 3.2e5), (1000, 1003)]
)
def test_bounds_come_back_from_centres(bounds, num_cells: int, precision):
    """Exactly, although the centres are rounded."""
    axis = Axis("x", bounds[0], bounds[1], num_cells)
    assert Axis.from_centres("x", axis.centres.astype(precision)) == axis


def test_bounds_that_are_no_short_number_come_back_within_round_off():
    axis = Axis("x", 0, 2 * np.pi, 100)
    for precision in (np.float32, np.float64):
        found = Axis.from_centres("x", axis.centres.astype(precision))
        assert found.upper == pytest.approx(axis.upper, rel=4 * float(np.finfo(precision).eps))


def test_far_from_the_origin_the_cells_stay_in_place():
    """Float32 holds few decimals there: bounds rounded to them could meet."""
    axis = Axis("x", 1_000_000, 1_000_000.5, 4)
    assert Axis.from_centres("x", axis.centres.astype(np.float32)) == axis


def test_a_spacing_is_uniform_to_float32_round_off_and_no_further():
    centres = Axis("x", 0, 1, 1000).centres
    Axis.from_centres("x", centres.astype(np.float32))
    centres[500] += 1e-6  # a thousandth of a cell
    with pytest.raises(InputError, match="'x' must be uniform"):
        Axis.from_centres("x", centres)
    with pytest.raises(InputError, match="'x' must be uniform"):
        Axis.from_centres("x", 1e6 + np.array([0.1, 0.2, 0.35, 0.4]))


@pytest.mark.parametrize("precision", [np.float32, np.float64, np.int64])
def test_cells_that_grow_by_metres_far_from_the_origin_are_not_uniform(precision):
    """Whole metres are float32 there, whose spacing is half a metre: each step may be rounded."""
    northing = 5_400_000 + np.array([0, 1, 2, 3, 4, 5, 6, 8, 10, 12, 14])
    with pytest.raises(InputError, match="'x' must be uniform: its mean spacing is 1.4"):
        Axis.from_centres("x", northing.astype(precision))
    # What is rounded and no more stays where it is.
    axis = Axis("x", 5_400_000, 5_400_330, 100)
    found = Axis.from_centres("x", axis.centres.astype(np.float32))
    assert found.cell_width == pytest.approx(3.3, rel=2e-3)


@pytest.mark.parametrize(
    "centres, said",
    [
        ([0, 1, 3], "uniform: its mean spacing is 1.5, but entries 0 and 1 are 1 apart"),
        ([0, 1, 2, 2], "increase: entry 3 is 2 after 2. Sort the data along 'x'"),
        ([2, 1, 0], "increase: entry 1 is 1 after 2"),
        ([0, np.nan, 2], "finite: entry 1 is nan"),
        ([0, 1, np.inf], "finite: entry 2 is inf"),
        ([0], "at least 2 positions, as numbers; found int64 of shape (1,)"),
        ([[0, 1], [2, 3]], "found int64 of shape (2, 2)"),
        (["a", "b"], "found <U1"),
        (np.array([0, 1], dtype="datetime64[s]"), "found datetime64[s]"),
        ([1 + 1j, 2], "found complex128"),
    ],
)
def test_centres_of_no_axis_are_refused(centres, said: str):
    with pytest.raises(InputError, match="coordinate 'x' must ") as caught:
        Axis.from_centres("x", np.asarray(centres))
    assert said in str(caught.value)


def test_a_grid_is_the_product_of_its_axes():
    grid = Grid.uniform((4, 2, 5), ((-1, 1), (0, 1), (0, 10)))
    assert grid.shape == (4, 2, 5)
    assert grid.names == ("x", "y", "z")
    assert grid.num_axes == 3
    assert grid.cell_widths == (0.5, 0.5, 2.0)
    np.testing.assert_array_equal(grid.cell_volumes(), np.full((4, 2, 5), 0.5))
    x, y, z = grid.centres()
    assert x.shape == y.shape == z.shape == grid.shape
    np.testing.assert_array_equal(x[:, 0, 0], grid.axes[0].centres)
    np.testing.assert_array_equal(y[0, :, 0], grid.axes[1].centres)
    np.testing.assert_array_equal(z[0, 0, :], grid.axes[2].centres)


def test_grids_compare_hash_and_pass_through_jit():
    """A grid is static: it has no leaves, and equal grids share a compilation."""
    one, same = (Grid.uniform((4, 2), ((-1, 1), (0, 1))) for _ in range(2))
    other = Grid.uniform((4, 2), ((-1, 1), (0, 2)))
    assert one == same and one != other
    assert hash(one) == hash(same)
    assert jax.tree.leaves(one) == []
    assert jax.tree.structure(one) == jax.tree.structure(same)


def line(**options) -> Grid:
    return Grid.uniform((3,), ((0, 3),), **options)


def test_obstacles_are_an_array_or_a_function_of_the_coordinates():
    disc = Grid.uniform((4, 2), ((-1, 1), (0, 1)), solid=lambda x, y: x + y < -0.25)
    x, y = disc.centres()
    mask = np.array([[True, False], [False, False], [False, False], [False, False]])
    np.testing.assert_array_equal(disc.solid, mask)
    assert disc == Grid(disc.axes, solid=lambda y, x: x + y < -0.25), "by name, not by order"
    assert disc == Grid(disc.axes, solid=mask) == Grid(disc.axes, solid=x + y < -0.25)
    assert line(solid=np.zeros(3, bool)) == line() and line().solid is None


@pytest.mark.parametrize(
    "build, said",
    [
        (lambda: Grid(()), "1, 2 or 3 axes, found 0"),
        (lambda: Grid(cast(Any, 100)), "list of Axis, found 100"),
        (lambda: Grid(cast(Any, ["x"])), "list of Axis, found 'x'"),
        (lambda: Grid.uniform((2,) * 4, ((0, 1),) * 4), "1, 2 or 3 axes, found 4"),
        (lambda: Grid((Axis("x", 0, 1, 2), Axis("x", 0, 1, 2))), "a name of its own"),
        (lambda: Grid.uniform((2, 2), ((0, 1),)), "shape .* has 2 axes, bounds .* has 1"),
        (lambda: line(solid=np.array([0, 1, 0])), "solid.*holds int64: it must hold truth values"),
        (lambda: line(solid=lambda r: r < 1), "solid is a function of r, but the axes are x"),
        (lambda: line(solid=lambda x: x), "holds float64: it must hold truth values"),
        (lambda: line(solid=np.zeros(2, bool)), r"has the shape \(2,\): .* of the grid, \(3,\)"),
        (lambda: line(solid=np.ones(3, bool)), "true in all of the 3 cells: it must leave one"),
    ],
)
def test_a_grid_that_cannot_be_laid_out_is_refused(build, said: str):
    with runtime_types.without(), pytest.raises(InputError, match=said):
        build()


def test_a_single_axis_needs_no_list():
    axis = Axis("x", 0, 1, 4)
    assert Grid(axis) == Grid([axis])


def test_arrays_may_say_what_tuples_say():
    listed = Grid.uniform((4, 3), ((0, 1), (0, 2)), periodic=(True, False))
    with runtime_types.without():
        arrays: Any = np.array([4, 3]), np.array([[0, 1], [0, 2]])
        assert Grid.uniform(*arrays, periodic=cast(Any, np.array([True, False]))) == listed
        assert Grid(cast(Any, iter(listed.axes))) == listed
