"""Forecasts of a known system: the right states at the right times, or a message."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import runtime_types
import xarray as xr
from small_problem import DIFFUSIVITY, DT, TIMES, make_dataset

import impindiff as ipd
from impindiff import InputError, NumericsError
from impindiff.forecast import forecast_times, predict
from impindiff.systems import System


def known_system(dataset: xr.Dataset) -> System:
    grid = ipd.grid_of(dataset, "concentration")
    velocity = np.stack([dataset[f"advection_{name}"].values for name in grid.names])
    return ipd.advection_diffusion(grid, jnp.asarray(velocity, jnp.float32), DIFFUSIVITY)


@pytest.fixture
def dataset() -> xr.Dataset:
    return make_dataset()


@pytest.mark.thorough
@pytest.mark.parametrize("shape", [(12,), (12, 6), (6, 5, 4)])
def test_the_data_come_out_again(shape: tuple[int, ...]):
    dataset = make_dataset(shape)
    found = predict(known_system(dataset), dataset, times=TIMES, dt=DT)
    np.testing.assert_allclose(found["concentration"], dataset["concentration"], rtol=2e-5)
    assert found["concentration"].dims == dataset["concentration"].dims
    ipd.evaluate(found, dataset, ":")


@pytest.mark.thorough
def test_samples_are_in_the_order_given_and_keep_their_ids(dataset: xr.Dataset):
    dataset = dataset.assign_coords(sample=[10, 20, 30, 40])
    found = predict(known_system(dataset), dataset, times=[0.1], dt=DT, samples=[3, 0])
    np.testing.assert_array_equal(found["sample"], [40, 10])
    truth = dataset["concentration"].isel(sample=[3, 0], time=[2])
    np.testing.assert_allclose(found["concentration"], truth, rtol=2e-5)


@pytest.mark.thorough
def test_learned_coefficients_and_attributes_are_beside_the_fields(dataset: xr.Dataset):
    dataset["concentration"].attrs["units"] = "mol/m3"
    dataset["x"].attrs["units"] = "m"
    grid = ipd.grid_of(dataset, "concentration")
    unknown = ipd.Parameter("D", DIFFUSIVITY, (1e-3, 1.0))
    system = ipd.advection_diffusion(grid, jnp.zeros(2), unknown)
    found = predict(system, dataset, times=[0.0, 0.1], dt=DT)
    assert found["D"].dims == (), "a number, and no field of equal values"
    np.testing.assert_allclose(found["D"], DIFFUSIVITY, rtol=1e-5)
    assert found["concentration"].attrs["units"] == "mol/m3"
    assert found["x"].attrs["units"] == "m"
    assert found["D"].attrs == {"units": "1", "long_name": "D"}
    np.testing.assert_array_equal(found["concentration"][:, 0], dataset["concentration"][:, 0])


@pytest.mark.thorough
@pytest.mark.parametrize("offset", [3.5, -1.0, 738000.0])
def test_time_need_not_begin_at_zero(dataset: xr.Dataset, offset: float):
    moved = dataset.assign_coords(time=offset + dataset["time"].values)
    found = predict(known_system(moved), moved, times=moved["time"].values, dt=DT)
    np.testing.assert_allclose(found["concentration"], dataset["concentration"], rtol=2e-5)
    scores = ipd.evaluate(found, moved, ":").fields["concentration"]
    assert scores.time == pytest.approx(moved["time"].values.tolist(), rel=1e-12)
    assert max(scores.relative_l1_percent) < 1e-2


@pytest.mark.parametrize(
    "options, message",
    [
        ({"times": [-0.1]}, "initial fields are those at t = 0"),
        ({"times": []}, "at least one"),
        ({"times": [0.2, 0.1]}, "must increase"),
        ({"times": [float("nan")]}, "finite"),
        ({"dt": 0.0}, "time step"),
        ({"dt": -1.0}, "time step"),
        ({"dt": "0.1"}, "time step is '0.1': it must be a number"),
        ({"dataset": "a.nc"}, r"found str 'a\.nc': open_dataset\(path\) reads one"),
        ({"dataset": xr.DataArray(0.0, name="u")}, r"to_dataset\(name='u'\) makes one"),
        ({"dtype": int}, "float32 or float64"),
        ({"samples": "3:9"}, "lies outside"),
        ({"samples": ""}, "select nothing"),
    ],
)
def test_what_cannot_be_forecast_is_refused(dataset: xr.Dataset, options: dict, message: str):
    given = {"dataset": dataset, "times": [0.1], "dt": DT, **options}
    with runtime_types.without(), pytest.raises(InputError, match=message):
        predict(known_system(dataset), **given)


def test_double_precision_is_refused_where_jax_would_take_single(dataset: xr.Dataset):
    jax.config.update("jax_enable_x64", False)
    with pytest.raises(InputError, match=r'jax\.config\.update\("jax_enable_x64", True\)'):
        predict(known_system(dataset), dataset, times=[0.1], dt=DT, dtype=np.float64)


@pytest.mark.thorough
@pytest.mark.parametrize(
    "stepper", [ipd.BackwardEuler(), ipd.steppers.ForwardEuler()], ids=["BE", "FE"]
)
def test_a_function_that_is_not_finite_later_is_named(stepper):
    """As in training, whose guard asks the same."""
    system = System(None, {"u": [ipd.Source(lambda t: jnp.sqrt(0.25 - t))]})
    start = ipd.to_dataset(None, [0.0], {"u": np.ones((2, 1))})
    with pytest.raises(NumericsError, match=r"At t = .*function <lambda>\(t\) in the equation of"):
        predict(system, start, times=[0.5], dt=0.1, stepper=stepper)


@pytest.mark.thorough
def test_another_grid_and_a_gap_in_the_initial_field_are_refused(dataset: xr.Dataset):
    system = known_system(dataset)
    with pytest.raises(InputError, match="does not lie on the grid asked for"):
        predict(system, make_dataset((12, 7)), times=[0.1], dt=DT)
    dataset["concentration"].values[2, 0, 0, 0] = np.nan
    with pytest.raises(InputError, match=r"NaN or infinite in sample 2 \(1 cells\)"):
        predict(system, dataset, times=[0.1], dt=DT)
    assert predict(system, dataset, times=[0.1], dt=DT, samples="0:2").sizes["sample"] == 2


def test_an_unstable_explicit_forecast_is_no_result(dataset: xr.Dataset):
    fast = ipd.advection_diffusion(
        ipd.grid_of(dataset, "concentration"), jnp.array([1e4, 0.0]), DIFFUSIVITY
    )
    with pytest.raises(NumericsError, match=r"not finite at t = .*steps of 0.05\. Lower dt"):
        predict(fast, dataset, times=[5.0], dt=DT, stepper=ipd.steppers.RungeKutta4())


@pytest.mark.parametrize(
    "arguments, expected",
    [
        ((0.0, 0.2, 0.1), [0.0, 0.1, 0.2]),
        ((0.0, 0.3, 0.1), [0.0, 0.1, 0.2, 0.3]),
        ((0.0, 0.25, 0.1), [0.0, 0.1, 0.2, 0.25]),
        ((0.0, 0.2, 5.0), [0.0, 0.2]),
        ((0.0, 0.2, 0.2), [0.0, 0.2]),
        ((-1.0, -0.5, 0.25), [-1.0, -0.75, -0.5]),
        ((0.05, 0.2, 0.05), [0.05, 0.1, 0.15, 0.2]),
    ],
)
def test_times_are_every_so_often_and_at_the_end(arguments: tuple, expected: list[float]):
    found = forecast_times(*arguments)
    assert found == pytest.approx(np.array(expected), abs=1e-12)
    assert found[-1] == arguments[1]


@pytest.mark.parametrize("origin, every", [(0.0, 0.1), (12345.00013, 0.07), (-1.7, 1 / 3)])
def test_a_forecast_that_goes_on_has_the_times_of_an_undivided_one(origin: float, every: float):
    whole = forecast_times(origin, origin + 40 * every, every)
    parts = whole[:1]
    for last in (7, 17, 24, 40):
        at_end = float(f"{origin + last * every:.15g}")
        parts = np.append(parts, forecast_times(parts[-1], at_end, every, origin)[1:])
    assert parts.tolist()[:-1] == whole.tolist()[:-1]
    assert len(parts) == 41


def test_an_end_between_two_times_of_a_forecast_shifts_none_after_it():
    assert forecast_times(0.25, 0.5, 0.1, 0.0) == pytest.approx([0.25, 0.3, 0.4, 0.5])
    whole = forecast_times(0.0, 0.91, 0.07)
    parts = forecast_times(0.0, 0.2, 0.07)
    for until in (0.23, 0.35, 0.91):
        parts = np.append(parts, forecast_times(parts[-1], until, 0.07, 0.0)[1:])
    ends = np.isin(parts, (0.2, 0.23))
    assert parts[~ends].tolist() == whole.tolist()


@pytest.mark.parametrize("every", [0.01, 0.07, 1 / 3])
def test_times_in_seconds_since_1970_go_on_bit_for_bit(every: float):
    """Fifteen digits of them leave errors beyond the slack of a short interval."""
    origin = 1_700_000_000.123456
    whole = forecast_times(origin, origin + 40 * every, every)
    assert len(whole) == 41
    parts = whole[:1]
    for last in (7, 17, 24, 40):
        parts = np.append(
            parts, forecast_times(parts[-1], round(whole[last], 6), every, origin)[1:]
        )
    assert parts.tolist() == whole.tolist()


def test_many_times_are_even_and_end_once():
    found = forecast_times(0.0, 1.0, 1e-4)
    assert len(found) == 10001
    np.testing.assert_allclose(np.diff(found), 1e-4, rtol=1e-6)


@pytest.mark.parametrize(
    "arguments, message",
    [
        ((0.1, 0.1, 0.1), "must end after the initial time 0.1"),
        ((0.1, 0.0, 0.1), "found until = 0"),
        ((0.0, float("nan"), 0.1), "must end after"),
        ((0.0, float("inf"), 0.1), "must end after"),
        ((0.0, 1.0, 0.0), "interval between saved times is 0"),
        ((0.0, 1.0, -0.1), "must be positive"),
        ((0.0, 1.0, float("nan")), "must be positive"),
        ((0.0, 1.0, float("inf")), "finite"),
        ((0.0, 1.0, 1e-300), "raise the interval"),
        ((0.0, 1e300, 1e-9), "raise the interval"),
    ],
)
def test_times_that_cannot_be_are_refused(arguments: tuple, message: str):
    with pytest.raises(InputError, match=message):
        forecast_times(*arguments)


class TestWithoutATimeStep:
    @pytest.mark.thorough
    def test_it_is_what_short_steps_give_and_says_how_many_there_were(self, dataset: xr.Dataset):
        """Many samples at once: the most exacting decides."""
        control = ipd.steppers.StepControl(1e-5)
        found = predict(known_system(dataset), dataset, times=TIMES, control=control)
        short = predict(known_system(dataset), dataset, times=TIMES, dt=DT / 64)
        np.testing.assert_allclose(found["concentration"], short["concentration"], atol=3e-5)
        assert "the error of each estimated to be below 1e-05" in found.attrs["steps"]

    @pytest.mark.parametrize(
        "stepper", [None, ipd.steppers.Tsitouras5(), ipd.steppers.ARK4()], ids=str
    )
    def test_samples_with_parameters_of_their_own(self, stepper):
        """Each decays at its own rate."""
        system = ipd.System(None, {"u": [ipd.Reaction(lambda u, k: -k * u)]}, parameters=["k"])
        rates = np.array([1.0, 3.0])
        data = xr.Dataset(
            {"u": (("sample", "time"), np.ones((2, 1))), "k": ("sample", rates)},
            coords={"time": [0.0]},
        )
        found = predict(system, data, times=[0.0, 0.5, 1.0], dtype="float64", stepper=stepper)
        expected = np.exp(-rates[:, None] * np.array([0.0, 0.5, 1.0]))
        np.testing.assert_allclose(found["u"], expected, atol=1e-5)

    def test_a_negative_diffusivity_is_refused_before_the_first_step(self, dataset: xr.Dataset):
        grid = ipd.grid_of(dataset, "concentration")
        system = System(grid, {"concentration": [ipd.Diffusion(lambda t: 0.01 - t)]})
        with pytest.raises(InputError, match="the diffusivity of Diffusion"):
            predict(system, dataset, times=TIMES)

    def test_a_time_step_and_a_control_are_one_too_many(self, dataset: xr.Dataset):
        control = ipd.steppers.StepControl()
        with pytest.raises(InputError, match="leave dt out"):
            predict(known_system(dataset), dataset, times=TIMES, dt=DT, control=control)
