"""Settings in data: a number for each sample."""

import numpy as np
import pytest

from impindiff._errors import InputError
from impindiff.data import (
    check_dataset,
    open_dataset,
    sample_parameters_of,
    save_dataset,
    to_dataset,
)
from impindiff.grid import Grid

GRID = Grid.uniform((4,), ((0, 1),))
HOT = np.array([900.0, 1000.0, 1100.0])
ABOUT = {"T_gas": {"units": "K", "long_name": "temperature of the gas"}}


def made(**sample_parameters):
    return to_dataset(
        GRID, [0.0, 1.0], {"c": np.ones((3, 2, 4))}, {}, ABOUT, sample_parameters=sample_parameters
    )


def test_they_have_the_dimension_of_samples_alone(tmp_path):
    data = made(T_gas=HOT)
    assert data["T_gas"].dims == ("sample",) and data["T_gas"].attrs == ABOUT["T_gas"]
    check_dataset(data, fields=["c"])
    save_dataset(data, tmp_path / "runs.nc")
    found = sample_parameters_of(open_dataset(tmp_path / "runs.nc"), ["T_gas"], [2, 0])
    np.testing.assert_array_equal(found["T_gas"], [1100.0, 900.0])
    assert sample_parameters_of(data, [], [0]) == {}


def test_they_may_be_coordinates():
    data = made().assign_coords(T_gas=("sample", HOT))
    np.testing.assert_array_equal(sample_parameters_of(data, ["T_gas"], [1])["T_gas"], [1000.0])


def test_a_sample_that_is_not_selected_need_not_have_one():
    data = made(T_gas=np.array([900.0, np.nan, 1100.0]))
    np.testing.assert_array_equal(
        sample_parameters_of(data, ["T_gas"], [0, 2])["T_gas"], [900.0, 1100.0]
    )
    with pytest.raises(InputError, match="'T_gas' of sample 1 is nan: it must be known"):
        sample_parameters_of(data, ["T_gas"], [0, 1])


@pytest.mark.parametrize(
    "change, said",
    [
        (
            lambda data: data.drop_vars("T_gas"),
            r"no sample parameter 'T_gas', which.*it holds 'c'.*dataset.assign\(T_gas=\('sample'",
        ),
        (lambda data: data.assign(T_gas=1.0), r"'T_gas' has the dimensions \(nothing\).*'sample'"),
        (lambda data: data.assign(T_gas=("x", np.ones(4))), r"has the dimensions \('x'\)"),
        (lambda data: data.assign(T_gas=data["c"]), r"\('sample', 'time', 'x'\)"),
        (lambda data: data.assign(T_gas=("sample", HOT / 0)), "of sample 0 is inf"),
        (lambda data: data.assign(T_gas=("sample", list("abc"))), "must hold real numbers"),
    ],
)
@pytest.mark.filterwarnings("ignore:divide by zero")
def test_what_is_no_number_for_each_sample_is_refused(change, said: str):
    with pytest.raises(InputError, match=said):
        sample_parameters_of(change(made(T_gas=HOT)), ["T_gas"], [0, 1])


def test_a_setting_of_another_length_is_refused():
    with pytest.raises(
        InputError, match=r"'T_gas' has the shape \(2,\); allowed is \(3,\) \(sample"
    ):
        made(T_gas=HOT[:2])
