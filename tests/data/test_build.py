"""A built dataset is in the layout that reading demands."""

import numpy as np
import pytest
import xarray as xr

import impindiff as ipd
from impindiff._errors import InputError
from impindiff.data import check_dataset, grid_of, to_dataset
from impindiff.grid import Axis, Grid

DESCRIBED = {name: {"units": "m", "long_name": f"the {name}"} for name in ("c", "v", "x")}


@pytest.mark.parametrize(
    "grid",
    [
        Grid.uniform((5,), ((0, 1),), periodic=True),
        Grid.uniform((5, 4), ((0, 1), (-2, 2)), periodic=True),
        Grid.uniform((5, 4, 3), ((0, 1), (-2, 2), (10, 11)), periodic=True),
    ],
)
@pytest.mark.parametrize("varying", [False, True])
def test_it_is_in_the_layout(grid: Grid, varying: bool):
    latent = np.ones(((2,) if varying else ()) + grid.shape)
    field = np.ones((3, 2, *grid.shape), dtype=np.float32)
    built = to_dataset(grid, [0, 1], {"c": field}, {"v": latent}, DESCRIBED, attrs={"title": "t"})
    check_dataset(built, fields=["c"], latents=["v"])
    assert grid_of(built, "c") == grid
    assert built["c"].dims == ("sample", "time", *grid.names)
    assert built["v"].dims == (("time",) if varying else ()) + grid.names
    assert built["c"].dtype == np.float32 and built["v"].dtype == np.float64
    assert built["x"].dtype == built["time"].dtype == np.float64
    assert built["sample"].values.tolist() == [0, 1, 2]
    assert built["x"].attrs == DESCRIBED["x"]
    assert built["time"].attrs == {"units": "1", "long_name": "time"}
    assert built.attrs == {"title": "t", "boundary": "periodic"}


def test_samples_keep_their_ids(grid: Grid):
    built = to_dataset(grid, [0.0], {"c": np.ones((2, 1, 6, 4))}, {}, DESCRIBED, samples=[5, 9])
    assert built["sample"].values.tolist() == [5, 9]


def test_what_is_not_described_is_called_by_its_name(grid: Grid):
    built = to_dataset(grid, [0.0], {"q": np.ones((2, 1, 6, 4))}, attributes={"x": {"units": "m"}})
    assert built["q"].attrs == {"units": "1", "long_name": "q"}
    assert built["x"].attrs == {"units": "m", "long_name": "x"}


def test_latents_alone_have_no_samples(grid: Grid):
    built = to_dataset(grid, [0.0], {}, {"v": np.ones((6, 4))}, DESCRIBED)
    assert isinstance(built, xr.Dataset) and built.sizes["sample"] == 0


@pytest.mark.parametrize(
    "fields, latents, said",
    [
        (
            {"c": np.ones((2, 3, 6, 4))},
            {},
            r"'c' has the shape \(2, 3, 6, 4\); allowed is \(2, 1, 6, 4\) \(sample, time, x, y\)",
        ),
        ({"c": np.ones(())}, {}, r"'c' has the shape \(\)"),
        (
            {},
            {"v": np.ones((4, 6))},
            r"'v' has the shape \(4, 6\); allowed is \(6, 4\) \(x, y\) or \(1, 6, 4\)",
        ),
    ],
)
def test_arrays_that_do_not_fit_are_refused(grid: Grid, fields, latents, said: str):
    with pytest.raises(InputError, match=said):
        to_dataset(grid, [0.0], fields, latents, DESCRIBED)


def test_an_axis_of_one_cell_comes_back():
    """How wide it is its faces say."""
    grid = Grid([Axis("x", 0, 1, 3), Axis("y", 2, 5, 1)])
    built = to_dataset(grid, [0.0], {"c": np.ones((1, 1, 3, 1))})
    assert grid_of(built, "c") == grid
    bare = built.drop_vars("y_bounds")
    del bare["y"].attrs["bounds"]
    with pytest.raises(InputError, match=r"'y' has one position.*to_dataset\(grid, \.\.\.\)"):
        grid_of(bare, "c")


def test_what_is_masked_is_no_number():
    """Readers of files give masked arrays; what stands behind a mask may be anything."""
    grid = ipd.Grid.uniform((4,), ((0.0, 1.0),))
    mask = np.arange(4) == 2
    row = np.ma.masked_array([1.0, 2.0, 1e20, 4.0], mask)
    data = ipd.to_dataset(grid, [0.0], {"c": row[None, None]}, {"k": row})
    np.testing.assert_array_equal(np.isnan(data["c"].values[0, 0]), mask)
    np.testing.assert_array_equal(np.isnan(data["k"].values), mask)
    counts = np.ma.masked_array([[[1, 2, -9, 4]]], mask, dtype=np.int16)
    assert np.isnan(ipd.to_dataset(grid, [0.0], {"c": counts})["c"].values[0, 0, 2])
    with pytest.raises(ipd.InputError, match="nan|finite"):
        ipd.Diffusion(row)
    with pytest.raises(ipd.InputError, match="finite"):
        ipd.Sensors("c", "w", positions=row / 10).prepare(grid)
    system = ipd.System(grid, {"c": ipd.Field([ipd.Diffusion(1.0)], {"x": ipd.Dirichlet(0.0)})})
    times = ipd.TimeGrid.build(0.0, [0.1], 0.1)
    with pytest.raises(ipd.InputError, match="finite"):
        ipd.simulate(system, {"c": row}, times, ipd.BackwardEuler())
