"""What is not in the documented layout is refused, with the way into it."""

import re

import numpy as np
import pytest
import xarray as xr

from impindiff._errors import InputError
from impindiff.data import (
    check_dataset,
    check_grid,
    check_values,
    grid_of,
    open_dataset,
    save_dataset,
    to_dataset,
)
from impindiff.grid import Axis, Grid

NAME = "concentration"
SOURCE = "folder/data.nc"
EACH = np.ones((10, 5))


def refusal(dataset: xr.Dataset, *fields: str, latents: tuple[str, ...] = ()) -> str:
    with pytest.raises(InputError) as caught:
        check_dataset(dataset, fields=fields or [NAME], latents=latents, source=SOURCE)
    message = str(caught.value)
    assert message.startswith(f"{SOURCE}: ")
    return message


def test_the_layout_passes(dataset: xr.Dataset):
    check_dataset(dataset, fields=[NAME], latents=["steady", "moving", "unknown"])


def test_public_files_are_in_the_layout(public_file):
    dataset = open_dataset(public_file)
    field = "velocity" if "velocity" in dataset else NAME
    latents = [str(name) for name in dataset.data_vars if name != field]
    check_dataset(dataset, fields=[field], latents=latents)
    assert grid_of(dataset, field) == Grid.uniform((128, 64), ((-1, 1), (0, 1)), periodic=True)


def test_missing_values_are_no_error(dataset: xr.Dataset):
    dataset[NAME][:, 1:] = np.nan
    check_dataset(dataset, fields=[NAME])


def test_a_missing_variable_suggests_the_nearest(dataset: xr.Dataset):
    message = refusal(dataset, "concentrtion")
    assert "no variable 'concentrtion'; it holds 'concentration', 'steady', 'moving'" in message
    assert "Did you mean 'concentration'?" in message
    assert "Did you mean" not in refusal(dataset, "temperature_of_gas")
    assert "it holds nothing" in refusal(dataset.drop_vars([NAME, "steady", "moving"]))


def test_no_field_is_a_mistake(dataset: xr.Dataset):
    with pytest.raises(InputError, match="no field was named; it holds 'concentration'"):
        check_dataset(dataset, fields=[])


@pytest.mark.parametrize(
    "change, said",
    [
        (
            lambda d: d.transpose("time", "sample", "x", "y"),
            "Reorder them: dataset.transpose('sample', 'time', 'x', 'y')",
        ),
        (lambda d: d.transpose("sample", "time", "y", "x"), "dimensions ('sample', 'time', 'y'"),
        (lambda d: d.rename(x="lat"), "Rename or drop 'lat': dataset.rename(old='new')"),
        (lambda d: d.isel(sample=0), ".expand_dims(['sample'])"),
        (lambda d: d.isel(sample=0, time=0), ".expand_dims(['sample', 'time'])"),
        (lambda d: d.rename(y="w").isel(x=0), "its space axes among 'r', 'x', 'y', 'z', if any"),
        (lambda d: d.isel(sample=slice(0)), "dimension 'sample' of 'concentration' has no entries"),
        (lambda d: d.isel(y=slice(0)), "dimension 'y' of 'concentration' has no entries"),
        (lambda d: d.astype(complex), "must hold real numbers, found complex128"),
        (lambda d: d.astype(str), "must hold real numbers, found <U"),
        (lambda d: d > 0.5, "must hold real numbers, found bool"),
        (lambda d: d.drop_vars("time"), "'time' has no coordinate. Add it: dataset.assign_coords("),
        (lambda d: d.drop_vars("y"), "'y' has no coordinate. Add it: dataset.assign_coords(y="),
        (lambda d: d.isel(time=[0, 2, 1]), "entry 2 is 0.05 after 0.1. Sort it"),
        (lambda d: d.isel(time=[0, 1, 1]), "'time' must increase: entry 2 is 0.05 after 0.05"),
        (lambda d: d.assign_coords(time=[0, 1, np.nan, 3, 4]), "finite: entry 2 is nan"),
        (lambda d: d.assign_coords(time=list("abcde")), "coordinate 'time' must hold real numbers"),
        (
            lambda d: (
                d.drop_vars("time").assign(time=(("sample", "time"), EACH)).set_coords("time")
            ),
            "'time' has the dimensions ('sample', 'time'); it must be along 'time' alone",
        ),
        (
            lambda d: d.assign_coords(time=np.arange(5).astype("timedelta64[ns]")),
            "found timedelta64[ns]. Store dates as a number of seconds or days",
        ),
        (lambda d: d.isel(x=slice(None, None, -1)), "coordinate 'x' must increase: entry 1"),
        (lambda d: d.isel(y=[0, 1, 3]), "coordinate 'y' must be uniform"),
        (lambda d: d.isel(y=[0]), "coordinate 'y' has one position, which does not say"),
        (lambda d: d.assign_coords(x=[0, 1, np.inf, 3, 4, 5]), "'x' must be finite: entry 2"),
        (lambda d: d.assign_coords(x=list("abcdef")), "coordinate 'x' must hold real numbers"),
        (lambda d: d.assign_attrs(boundary="outflow"), "boundary is 'outflow'; it must be"),
    ],
)
def test_a_layout_of_another_kind_is_refused(dataset: xr.Dataset, change, said: str):
    assert said in refusal(change(dataset))


def test_infinity_is_counted_and_located(dataset: xr.Dataset):
    dataset[NAME][3, 1, 5, 2] = np.inf
    dataset[NAME][4, 1] = -np.inf
    message = refusal(dataset)
    assert "'concentration' has 25 value(s), the first at sample 3, time 1, x 5, y 2" in message
    assert "infinite" in message and "NaN" in message


def test_fields_share_one_grid(dataset: xr.Dataset):
    dataset["line"] = dataset[NAME].isel(y=0)
    message = refusal(dataset, NAME, "line")
    assert "'concentration' lies on ('x', 'y') and 'line' on ('x')" in message


@pytest.mark.parametrize(
    "change, said",
    [
        (lambda a: a.T, "allowed are ('x', 'y'), or these with 'time' in front"),
        (lambda a: a.isel(x=0), "'steady' has the dimensions ('y')"),
        (lambda a: a.expand_dims(sample=10), "'steady' has the dimensions ('sample', 'x', 'y')"),
        (lambda a: a.where(a.x > -0.7), "'steady' has 4 value(s), the first at x 0, y 0"),
        (lambda a: a / 0, "that are not finite. A latent truth is known everywhere"),
        (lambda a: a.astype(str), "latent 'steady' must hold real numbers"),
    ],
)
def test_a_latent_truth_is_known_on_the_grid(dataset: xr.Dataset, change, said: str):
    dataset["steady"] = change(dataset["steady"])
    assert said in refusal(dataset, latents=("steady",))


def test_the_file_is_named_without_being_told(tmp_path, dataset: xr.Dataset):
    file = tmp_path / "a.nc"
    dataset.isel(y=[0, 1, 3]).to_netcdf(file, engine="h5netcdf")
    opened = open_dataset(file)
    for check in (lambda: check_dataset(opened, fields=[NAME]), lambda: grid_of(opened, NAME)):
        with pytest.raises(
            InputError, match=f"^{re.escape(str(file))}: coordinate 'y' must be uni"
        ):
            check()


@pytest.mark.parametrize("precision", [np.float32, np.float64])
@pytest.mark.parametrize(
    "bounds", [((-1, 1), (0, 1)), ((0, 0.1), (-3.7, 12.9)), ((1000, 1003), (0, 1e-6))]
)
def test_the_grid_comes_back(bounds, precision):
    grid = Grid.uniform((40, 30), bounds, periodic=True)
    dataset = to_dataset(
        grid, [0.0], {"c": np.zeros((1, 1, 40, 30))}, {}, {"c": {"units": "1", "long_name": "c"}}
    )
    dataset = dataset.assign_coords(
        {name: dataset[name].astype(precision).astype(np.float64) for name in "xy"}
    )
    assert grid_of(dataset, "c") == grid
    check_grid(dataset, "c", grid)


def test_a_file_that_does_not_say_is_not_periodic(dataset: xr.Dataset, grid: Grid):
    del dataset.attrs["boundary"]
    assert [axis.periodic for axis in grid_of(dataset, NAME).axes] == [False, False]
    check_grid(dataset, NAME, grid)  # what data leave out, the grid says
    check_grid(dataset, NAME, Grid.uniform((6, 4), ((-1, 1), (0, 1)), periodic=(True, False)))
    dataset.attrs["boundary"] = "periodic"
    assert grid_of(dataset, NAME) == grid


UNEVEN = Grid([Axis.graded("x", 0, 1, 5, 3.0), Axis("y", 0, 1, 4, periodic=True)])


@pytest.mark.parametrize(
    "grid, boundary",
    [
        (Grid.uniform((5, 4), ((0, 1), (0, 1))), "bounded"),
        (Grid.uniform((5, 4), ((0, 1), (0, 1)), periodic=(True, False)), "periodic bounded"),
        (UNEVEN, "bounded periodic"),
    ],
)
def test_ends_and_uneven_cells_come_back_from_a_file(grid: Grid, boundary: str, tmp_path):
    described = {"units": "m", "long_name": "c"}
    built = to_dataset(
        grid, [0.0], {"c": np.zeros((1, 1, 5, 4))}, {}, {"c": described, "x": described}
    )
    assert built.attrs["boundary"] == boundary
    save_dataset(built, tmp_path / "a.nc")
    opened = open_dataset(tmp_path / "a.nc")
    assert grid_of(opened, "c") == grid and list(opened.data_vars) == ["c"]
    check_dataset(opened, fields=["c"])
    check_grid(opened, "c", grid)
    ring = Grid.uniform((5, 4), ((0, 1), (0, 1)), periodic=True)
    with pytest.raises(InputError, match="does not lie on the grid"):
        check_grid(opened, "c", ring)


def test_faces_that_are_not_those_of_the_cells_are_refused():
    described = {"units": "1", "long_name": "c"}
    built = to_dataset(UNEVEN, [0.0], {"c": np.zeros((1, 1, 5, 4))}, {}, {"c": described})
    faces = built["x_bounds"].values
    for wrong in (faces[:, :1], faces[::-1], faces + [[0.0, 1e-3]]):
        damaged = built.assign_coords(x_bounds=(("x", "bounds_too"), wrong))
        with pytest.raises(InputError, match="'x_bounds' must hold the lower and upper face"):
            grid_of(damaged, "c")
    with pytest.raises(InputError, match="bounds in 'x_bounds', which the dataset does not hold"):
        grid_of(built.drop_vars("x_bounds"), "c")


def test_faces_in_another_unit_than_the_centres_are_refused():
    """Where millimetres become metres, the coordinate keeps its attributes, the faces do not."""
    grid = Grid([Axis.graded("x", 0, 1000, 10, ratio=4)])
    built = to_dataset(grid, [0.0], {"c": np.zeros((1, 1, 10))})
    attrs = built["x"].attrs
    for values in (built["x"] * 1e-3, built["x"] + 40.0):
        moved = built.assign_coords(x=("x", values.values, attrs))
        with pytest.raises(
            InputError, match="'x' at entry .* outside of its cell, from .* by 'x_bounds'"
        ):
            grid_of(moved, "c")
    both = built.assign_coords(
        x=("x", built["x"].values * 1e-3, attrs), x_bounds=built["x_bounds"] * 1e-3
    )
    assert grid_of(both, "c").axes[0].upper == pytest.approx(1)


@pytest.mark.parametrize("lower, width", [(0, 1e-9), (5_400_000, 1.0)])
def test_faces_of_every_second_cell_are_refused(lower: float, width: float):
    """Also where a cell is small beside the tolerance of numpy, or beside its distance from 0."""
    grid = Grid([Axis.from_faces("x", lower + width * np.array([0, 2, 3, 4, 5, 6, 7]))])
    built = to_dataset(grid, [0.0], {"c": np.zeros((1, 1, 6))})
    assert grid_of(built, "c") == grid
    with pytest.raises(InputError, match="each cell beginning where the one before ends"):
        grid_of(built.isel(x=slice(None, None, 2)), "c")


@pytest.mark.parametrize(
    "other, said",
    [
        (
            Grid.uniform((12, 4), ((-1, 1), (0, 1)), periodic=True),
            "x: in the data 6 cells on [-1, 1], asked for 12 cells on [-1, 1]",
        ),
        (
            Grid.uniform((6, 4), ((-1, 1), (0, 1.01)), periodic=True),
            "y: in the data 4 cells on [0, 1], asked for 4 cells on [0, 1.01]",
        ),
        (
            Grid.uniform((6,), ((-1, 1),), periodic=True),
            "y: in the data 4 cells on [0, 1], asked for no such axis",
        ),
        (
            Grid((Axis("y", 0, 1, 4, periodic=True), Axis("x", -1, 1, 6, periodic=True))),
            "(in the data 'x', 'y', asked for 'y', 'x')",
        ),
    ],
)
def test_a_grid_that_disagrees_is_set_beside_the_data(dataset: xr.Dataset, other: Grid, said: str):
    with pytest.raises(InputError, match="'concentration' does not lie on the grid") as caught:
        check_grid(dataset, NAME, other)
    assert said in str(caught.value)


def test_without_a_grid_a_field_is_a_number_at_each_time(tmp_path):
    built = to_dataset(None, [0.0, 1.0], {"a": np.ones((3, 2))}, {"k": 0.5})
    assert built["a"].dims == ("sample", "time") and built["k"].dims == ()
    assert "boundary" not in built.attrs
    save_dataset(built, tmp_path / "a.nc")
    opened = open_dataset(tmp_path / "a.nc")
    check_dataset(opened, fields=["a"], latents=["k"])
    check_grid(opened, "a", None)
    with pytest.raises(InputError, match="'a' has no space axes and lies on no grid; give its sys"):
        grid_of(opened, "a")


def test_a_field_on_a_grid_is_none_of_a_system_without(dataset: xr.Dataset):
    with pytest.raises(InputError, match="'concentration' lies on a grid, along 'x', 'y', but"):
        check_grid(dataset, NAME, None)


def test_single_precision_is_compared_with_the_range_of_double_without_a_warning(dataset):
    """A limit rounded to the values' precision would be infinite, and say so on every check."""
    values = xr.full_like(dataset["concentration"], np.finfo("f4").max, dtype="f4")
    check_values(values, "data.nc", np.float64)
    with pytest.raises(InputError, match="beyond float16"):
        check_values(values, "data.nc", np.float16)


@pytest.mark.parametrize("share, is_fill", [(0, True), (5e-7, True), (-5e-7, True), (1e-5, False)])
def test_what_was_never_written_is_known_after_a_conversion_too(
    dataset: xr.Dataset, share: float, is_fill: bool
):
    """Unpacked, or gone through single precision, the fill value is off by its last digits."""
    values = dataset[NAME].astype(np.float64)
    values[0, 1, 2, 3] = 9.969209968386869e36 * (1 + share)
    if not is_fill:
        check_values(values, SOURCE)
        return
    with pytest.raises(InputError, match="the first at sample 0, time 1, x 2, y 3 .*fill value"):
        check_values(values, SOURCE)


def test_what_was_never_decoded_is_refused(dataset: xr.Dataset):
    """Of a dataset opened with `mask_and_scale=False` the numbers stand for others."""
    values = dataset[NAME].astype(np.float32)
    values[0, 1] = 1e20
    left = dataset.assign({NAME: values.assign_attrs(_FillValue=1e20)})
    assert "equal to its attribute _FillValue" in refusal(left)
    check_dataset(xr.decode_cf(left, decode_times=False), fields=[NAME])
    packed = (dataset[NAME] * 100).round().astype(np.int16).assign_attrs(scale_factor=0.01)
    left = dataset.assign({NAME: packed})
    assert "packed numbers: int16" in refusal(left) and "xr.decode_cf" in refusal(left)
    check_dataset(xr.decode_cf(left, decode_times=False), fields=[NAME])
    noted = dataset.assign({NAME: dataset[NAME].assign_attrs(missing_value=-999.0, note="x")})
    check_dataset(noted, fields=[NAME])
