"""What cannot be stored, solved or held in the precision is refused before anything is computed."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tomli_w
import xarray as xr
from small_problem import make_dataset, make_tables, write_problem

from impindiff import InputError
from impindiff.config import load_config, parse_config
from impindiff.data import check_storable, open_dataset
from impindiff.runs import RunFolder, RunPlan, train_run

FILL = 9.969209968386869e36


def plan(
    tmp_path: Path, changes: dict[str, Any] | None = None, data: xr.Dataset | None = None
) -> RunPlan:
    config, file = write_problem(tmp_path, changes, data)
    return RunPlan.make(load_config(config), file, tmp_path / "run")


def with_value(value: float, dtype: str, **at: int) -> xr.Dataset:
    data = make_dataset()
    data["concentration"] = data["concentration"].astype(dtype)
    data["concentration"][at] = value
    return data


@pytest.mark.many
@pytest.mark.parametrize("sample, time", [(0, 0), (1, 2), (3, 4)])
@pytest.mark.parametrize(
    "value, dtype, message",
    [
        (1e300, "float64", r"at {}, that are beyond float32.* up to 1e\+300"),
        (FILL, "float64", r"at {}, that are netCDF's fill value, 9.969209968e\+36"),
        (FILL, "float32", r"at {}, that are netCDF's fill value, 9.969209968e\+36"),
        (-2147483647, "int32", r"at {}, that are netCDF's fill value, -2147483647"),
    ],
)
def test_a_value_that_is_none_is_named_with_its_cell(
    tmp_path: Path, value: float, dtype: str, message: str, sample: int, time: int
):
    data = with_value(value, dtype, sample=sample, time=time, x=3, y=2)
    place = rf"sample {sample}, time {time}, x 3, y 2 \(counted from 0\)"
    with pytest.raises(InputError, match="data.nc: 'concentration' .*" + message.format(place)):
        plan(tmp_path, data=data)


def test_double_precision_holds_more(tmp_path: Path):
    data = with_value(1e60, "float64", sample=3, time=4, x=3, y=2)
    assert plan(tmp_path, {"precision": "float64"}, data).test.positions == [2, 3]


@pytest.mark.parametrize(
    "key, value",
    [
        ("system.options.diffusivity", 1e300),
        ("training.stages.0.learning_rate", 1e39),
    ],
)
def test_a_number_beyond_the_precision_is_named_with_its_key(key: str, value: float):
    tables = make_tables({key: value})
    with pytest.raises(InputError, match=f"{key}' is .*, and precision = 'float32' holds"):
        parse_config(tables, "it")
    parse_config(tables | {"precision": "float64"}, "it")


@pytest.mark.parametrize("text", ["a = " + "[" * 3000 + "]" * 3000, "a" + ".a" * 3000 + " = 1"])
def test_deep_tables_are_refused(tmp_path: Path, text: str):
    (tmp_path / "deep.toml").write_text(text)
    with pytest.raises(InputError, match="deep.toml: .* nested"):
        load_config(tmp_path / "deep.toml")
    config = tmp_path / "it.toml"
    config.write_text(tomli_w.dumps(make_tables()))
    with pytest.raises(InputError, match="nested"):
        load_config(config, [text.replace(" = ", "=")])


@pytest.mark.thorough
def test_a_dense_matrix_of_many_unknowns_is_refused(tmp_path: Path):
    dense = {"solver": {"method": "dense-lu"}}
    (tmp_path / "few").mkdir()
    plan(tmp_path / "few", dense)
    with pytest.raises(InputError, match="'dense-lu', but a step has 2100 unknowns"):
        plan(tmp_path, dense, make_dataset((70, 30)))


@pytest.mark.parametrize("name", [".", "..", ".zattrs", "a" * 300, "a/b", "time", "a\x00b"])
def test_a_name_that_cannot_be_stored_is_refused(name: str, tmp_path: Path):
    with pytest.raises(InputError, match=r"system.build: .* cannot name a variable|a dimension"):
        plan(tmp_path, {"system.options.velocity.names": [name, "b"]})


@pytest.mark.parametrize("name", [".", "x"])
def test_what_the_format_refuses_is_known_by_trying(name: str):
    check_storable(["fine", "ü"], ["sample", "x"])
    with pytest.raises(InputError, match="cannot name a variable of a data file"):
        check_storable(["fine", name], ["sample", "x"])


def test_nothing_is_written_for_what_is_refused(tmp_path: Path):
    data = with_value(np.inf, "float32", sample=0, time=0, x=0, y=0)
    config, file = write_problem(tmp_path, data=data)
    assert open_dataset(file).sizes["sample"] == 4
    with pytest.raises(InputError, match="infinite"):
        train_run(load_config(config), file, RunFolder(tmp_path / "run"))
    assert not (tmp_path / "run").exists()


EATEN = """
import impindiff as ipd


def make(grid, key):
    rate = ipd.NeuralClosure("rate", {"concentration": (0.0, 3.0)}, key=key)
    return ipd.System(
        grid,
        {"concentration": [ipd.Reaction(lambda concentration, rate: -rate * concentration)]},
        integrals={"eaten": [ipd.Reaction(lambda concentration, rate: rate * concentration)]},
        coefficients={"rate": rate},
    )
"""
ATTRS = {"units": "1", "long_name": "a truth"}


@pytest.mark.thorough
@pytest.mark.many
@pytest.mark.parametrize(
    "name, dims, values, points, message",
    [
        ("eaten", ("time",), np.zeros(5), None, r"'eaten' has the dimensions \('time'\)"),
        ("eaten", ("sample", "time"), np.zeros((4, 5)), None, "fields must share one grid"),
        ("eaten", (), np.array("a"), None, "'eaten' has the dimensions"),
        ("rate", ("rate_concentration",), ["a", "b"], [0.0, 1.0], "'rate' must hold real numbers"),
        ("rate", ("rate_concentration",), [0.0, 1.0], ["a", "b"], "must hold real numbers"),
        ("rate", ("rate_concentration",), [0.0, 1.0], [0.0, np.nan], "without repetition"),
        ("rate", ("rate_concentration",), [0.0, 1.0, 2.0], [0.0, 2.0, 1.0], "without repetition"),
        ("rate", ("rate_concentration",), [0.0, 1.0], [1.0, 1.0], "without repetition"),
    ],
)
def test_a_truth_that_nothing_can_be_compared_with_is_refused(
    tmp_path: Path, name: str, dims: tuple[str, ...], values: Any, points: Any, message: str
):
    """Of integrals and closures, which the config does not name."""
    (tmp_path / "physics.py").write_text(EATEN)
    data = make_dataset().assign({name: (dims, np.asarray(values), ATTRS)})
    if points is not None:
        data = data.assign_coords({dims[0]: (dims, np.asarray(points), ATTRS)})
    config, file = write_problem(tmp_path, {"system": {"build": "physics:make"}}, make_dataset())
    data.drop_encoding().to_netcdf(file, engine="h5netcdf")
    with pytest.raises(InputError, match=message):
        RunPlan.make(load_config(config), file, tmp_path / "run")


@pytest.mark.thorough
@pytest.mark.parametrize("points", [[0.0, 1.0, 2.0], [3.0, 2.0, 0.5]])
def test_a_truth_in_order_is_none_the_worse(tmp_path: Path, points: list[float]):
    (tmp_path / "physics.py").write_text(EATEN)
    truth = {"rate": ("rate_concentration", np.ones(3), ATTRS)}
    data = make_dataset().assign(truth)
    data = data.assign_coords(rate_concentration=("rate_concentration", points, ATTRS))
    assert plan(tmp_path, {"system": {"build": "physics:make"}}, data).test.positions == [2, 3]
