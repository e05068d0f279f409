"""What is taken from a dataset to be fitted, and what is refused."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import runtime_types
from small_problem import make_dataset

from impindiff import (
    LBFGS,
    BackwardEuler,
    Diffusion,
    Field,
    Grid,
    InputError,
    Parameter,
    Reaction,
    System,
    fit,
    predict,
)
from impindiff.data import grid_of, to_dataset
from impindiff.observe import Cells, WeightDecay
from impindiff.train import FitOptions, Observations, Stage


def observe(dataset, samples: str | list[int] = "0:2", times=(0.1,), grid: Grid | None = None):
    grid = grid or grid_of(dataset, "concentration")
    return Observations.of(spreading(grid), dataset, samples, list(times))


def spreading(grid: Grid, field: str = "concentration") -> System:
    return System(grid, {field: [Diffusion(1e-3)]})


def test_initial_fields_and_snapshots_are_the_datas(dataset):
    values = dataset["concentration"].values
    found = observe(dataset, [3, 1], (0.05, 0.2))
    np.testing.assert_array_equal(found.initial["concentration"], values[[3, 1], 0])
    np.testing.assert_array_equal(found.observed["concentration"], values[[3, 1]][:, [1, 4]])
    assert (found.start, found.times) == (0.0, (0.05, 0.2))
    assert found.initial["concentration"].dtype == jnp.float32


@pytest.mark.parametrize("offset", [0.0, 3.5, -1.0])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_times_are_those_that_were_written(offset: float, dtype):
    dataset = make_dataset((12,))
    times = (dataset["time"].values + offset).astype(dtype)
    found = observe(dataset.assign_coords(time=times), times=(offset + 0.1,))
    assert found.start == pytest.approx(offset, abs=1e-12)
    assert found.times == pytest.approx((offset + 0.1,), abs=1e-12)


def test_times_far_from_zero_keep_their_spacing():
    dataset = make_dataset((12,))
    times = 738000.0 + dataset["time"].values
    found = observe(dataset.assign_coords(time=times), times=(times[2],))
    assert found.times[0] - found.start == pytest.approx(0.1, abs=1e-8)


@pytest.mark.parametrize(
    "changes, message",
    [
        ({"times": (0.0,)}, "training time 0 is the initial time"),
        ({"times": (0.0, 0.1)}, "leave it out"),
        ({"times": (0.3,)}, "time 0.3 lies outside the data"),
        ({"times": (0.12,)}, "time 0.12 is not in the data"),
        ({"times": ()}, "no times were given"),
        ({"times": (0.2, 0.1)}, "times must increase"),
        ({"samples": "0:9"}, "0:9 lies outside"),
        ({"samples": ""}, "select nothing"),
        ({"samples": [0, 0]}, "more than once"),
        ({"grid": Grid.uniform((13,), ((-1, 1),), periodic=True)}, "13 cells"),
        ({"grid": Grid.uniform((12, 4), ((-1, 1), (0, 1)), periodic=True)}, "no such axis"),
    ],
)
def test_what_does_not_fit_is_refused(dataset, changes: dict, message: str):
    with pytest.raises(InputError, match=message):
        observe(dataset, **changes)


def test_an_unknown_initial_field_is_refused(dataset):
    dataset["concentration"].values[1, 0, 3] = np.nan
    with pytest.raises(InputError, match=r"must be known in every cell.*sample 1 \(1 cells\)"):
        observe(dataset)


def test_infinity_is_refused(dataset):
    dataset["concentration"].values[1, 2, 3] = np.inf
    with pytest.raises(InputError, match="infinite"):
        observe(dataset)


def test_a_snapshot_without_any_observation_is_refused(dataset):
    dataset["concentration"].values[:, 2] = np.nan
    with pytest.raises(InputError, match="not observed"):
        observe(dataset)


def test_another_field_is_named_with_what_there_is(dataset):
    with pytest.raises(InputError, match="no variable 'conc'; it holds 'concentration'"):
        Observations.of(spreading(grid_of(dataset, "concentration"), "conc"), dataset, "0:2", [0.1])


@pytest.mark.parametrize(
    "options, said",
    [
        ({"samples": 0}, "samples 0: must be text or a list"),
        ({"observe": Cells("concentration")}, "observe must be a list .* in no list"),
        ({"observe": ["concentration"]}, "observe must be a list .*found 'concentration'"),
        ({"regularise": WeightDecay(1.0)}, "regularise must be a list .* in no list"),
    ],
)
def test_what_must_be_a_list_is_told_so(dataset, options: Any, said: str):
    grid = grid_of(dataset, "concentration")
    given = {"samples": ":"} | options
    with runtime_types.without(), pytest.raises(InputError, match=said):
        Observations.of(spreading(grid), dataset, **given)


@pytest.mark.thorough
def test_readings_at_the_start_count_where_it_is_learned():
    """Two readings, of the start and of half of it: the start is that of least squares."""
    described = {"c": {"units": "1", "long_name": "c"}}
    read = np.array([[2.0, 0.5]])
    dataset = to_dataset(None, np.array([0.0, 1.0]), {"c": read}, attributes=described)
    rate = [Reaction(lambda c: -c)]
    begins = Parameter("begins", 1.0, (0.0, float("inf")))
    system = System(
        None, {"c": Field(rate, initial=lambda begins: begins)}, coefficients={"begins": begins}
    )
    options = {
        "samples": ":",
        "dt": 1.0,
        "stages": [Stage(LBFGS(), 20)],
    }
    options |= {
        "observe": [Cells("c", noise=1.0)],
        "options": FitOptions(stepper=BackwardEuler(), dtype=np.float64),
    }
    found = fit(system, dataset, times=[0.0, 1.0], **options)
    assert found.latents()["begins"] == pytest.approx((2 + 0.5 / 2) / (1 + 1 / 4), rel=1e-5)
    later = fit(system, dataset, times=[1.0], **options)
    assert later.latents()["begins"] == pytest.approx(1.0, rel=1e-5)
    with pytest.raises(InputError, match="learn where a field begins"):
        fit(System(None, {"c": rate}), dataset, times=[0.0, 1.0], **options)


def test_values_beyond_single_precision_are_refused():
    """In double precision they are fitted as any other."""
    values = 1e39 * np.array([[1.0, 0.5], [2.0, 1.0]])
    data = to_dataset(None, [0.0, 1.0], {"c": values})
    system = System(None, {"c": [Reaction(lambda c, k: -k * c, k=Parameter("k", 1.0, (0.0, 9.0)))]})
    assert Observations.of(system, data, ":").observed["c"].dtype == jnp.float64
    for scale, said in ((1.0, "'c' is 1e[+]39 somewhere"), (1e-90, "'c' is 1e-51 somewhere")):
        with pytest.raises(InputError, match=said):
            Observations.of(system, scale * data.copy(), ":", dtype=jnp.float32)
    # A tail that vanishes is none: what is left of the field is the field.
    tail = to_dataset(None, [0.0, 1.0], {"c": np.array([[1.0, 1e-60], [2.0, 1.0]])})
    assert float(Observations.of(system, tail, ":", dtype=jnp.float32).observed["c"][0, 0]) == 0


@pytest.mark.thorough
@pytest.mark.many
@pytest.mark.parametrize(
    "data, x64, expected",
    [
        (np.float32, True, "float32"),
        (np.float64, True, "float64"),
        (np.float64, False, "float32"),
        (int, True, "float64"),
    ],
)
def test_a_fit_has_the_precision_of_the_data_within_that_of_jax(data, x64: bool, expected: str):
    jax.config.update("jax_enable_x64", x64)
    dataset = to_dataset(None, [0.0, 1.0], {"c": np.array([[4, 2]], data)})
    made = Observations.of(System(None, {"c": [Reaction(lambda c: -c)]}), dataset, ":")
    assert {str(u.dtype) for u in (made.initial["c"], made.observed["c"])} == {expected}
    forecast = predict(System(None, {"c": [Reaction(lambda c: -c)]}), dataset, times=[1.0], dt=0.5)
    assert str(forecast["c"].dtype) == expected


def test_what_stands_in_solid_cells_is_no_reading():
    """It counts neither in the misfit nor among the readings; windows begin with what it was."""
    data = make_dataset()
    axes = grid_of(data, "concentration").axes
    solid = np.zeros([axis.num_cells for axis in axes], bool)
    solid[2:4, 1:3] = True
    grid = Grid(axes, solid=solid)
    field = data["concentration"].values
    field[..., solid] = np.arange(field.shape[1])[:, None] * 1e6
    found = observe(data, times=data["time"].values[1:], grid=grid)
    unknown = np.isnan(np.asarray(found.observed["concentration"]))
    np.testing.assert_array_equal(unknown, np.broadcast_to(solid, unknown.shape))
    states = np.asarray(found.states("concentration"))
    assert np.all(states[..., solid] == 0) and np.all(states[..., ~solid] == field[:2, 1:, ~solid])
