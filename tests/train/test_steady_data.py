"""Fits to data without times: what is learned of steady states, against another least squares."""

from typing import Any

import jax.numpy as jnp
import numpy as np
import pytest
import scipy.optimize
import xarray as xr
from finite_volumes import conductance_matrix

import impindiff as ipd
from impindiff import InputError
from impindiff.rollout import uniform_guess
from impindiff.train._steady_data import has_no_times

# Without `dt`, `times` and `start`, which have no meaning for steady states.
fit: Any = ipd.fit

MODES = np.array([0.0, 1.0, 2.0])


def heat(mode: Any, shape: tuple[int, ...], library: Any) -> Any:
    """Where an experiment heats."""
    places = np.meshgrid(*((np.arange(n) + 0.5) / n for n in shape), indexing="ij")
    return 50.0 * sum(library.cos(np.pi * mode * place) for place in places)


def conductivity(shape: tuple[int, ...]) -> np.ndarray:
    places = np.meshgrid(*((np.arange(n) + 0.5) / n for n in shape), indexing="ij")
    return np.exp(sum(0.4 * np.sin((5 + 1.5 * k) * place) for k, place in enumerate(places)))


def states(k: np.ndarray) -> np.ndarray:
    """Of all experiments, by numpy alone."""
    inverse = np.linalg.inv(conductance_matrix(k))
    return np.stack([(inverse @ heat(m, k.shape, np).ravel()).reshape(k.shape) for m in MODES])


def experiments(shape: tuple[int, ...], noise: float) -> xr.Dataset:
    clean = states(conductivity(shape))
    error = np.abs(clean).max() * np.random.default_rng(1).normal(size=clean.shape)
    names = ("x", "y")[: len(shape)]
    coords = {name: (np.arange(n) + 0.5) / n for name, n in zip(names, shape, strict=True)}
    known = {"T": (("sample", *names), clean + noise * error), "mode": ("sample", MODES)}
    return xr.Dataset(known, coords)


def system(shape: tuple[int, ...], k: Any = None, **field: Any) -> ipd.System:
    names = ("x", "y")[: len(shape)]
    grid = ipd.Grid([ipd.Axis(name, 0.0, 1.0, n) for name, n in zip(names, shape, strict=True)])
    k = ipd.latents.CellField("k", np.ones(shape), (0.0, np.inf)) if k is None else k
    source = ipd.Source(ipd.latents.Closure(lambda mode: heat(mode, shape, jnp)))
    ends: Any = dict.fromkeys(names, ipd.Dirichlet(0.0))
    fields = {"T": ipd.Field([ipd.Diffusion(k), source], ends, **field)}
    return ipd.System(grid, fields, parameters=("mode",))


@pytest.mark.thorough
@pytest.mark.parametrize("shape", [(128,), (16, 8)], ids=["heat", "darcy"])
def test_a_conductivity_of_128_unknowns_is_that_of_scipy(shape: tuple[int, ...]):
    """Three experiments at once, with noise: the minimum of the same sum of squares."""
    data = experiments(shape, 1e-4)
    stages = [ipd.Stage(ipd.LevenbergMarquardt(), 40)]
    found = np.asarray(fit(system(shape), data, stages=stages).latents()["k"])

    def residuals(logarithms: np.ndarray) -> np.ndarray:
        return (states(np.exp(logarithms.reshape(shape))) - data["T"].values).ravel()

    start = np.log(conductivity(shape)).ravel()
    tight = dict.fromkeys(("xtol", "ftol", "gtol"), 1e-13)
    scipys = scipy.optimize.least_squares(residuals, start, x_scale="jac", **tight)
    np.testing.assert_allclose(found.ravel(), np.exp(scipys.x), rtol=3e-3)
    assert np.sum(residuals(np.log(found)) ** 2) <= 2 * scipys.cost * (1 + 1e-5)
    # And so it is the truth, as far as the noise allows.
    assert np.sqrt(np.mean((found / conductivity(shape) - 1) ** 2)) < 0.15


def few(**field: Any) -> ipd.System:
    return system((8,), ipd.Parameter("k", 0.5, (0.0, np.inf)), **field)


def constant() -> xr.Dataset:
    """Experiments in a body whose conductivity is 2 everywhere."""
    data = experiments((8,), 0.0)
    return data.assign(T=(("sample", "x"), states(np.full(8, 2.0))))


def test_one_number_is_found_from_part_of_the_cells():
    data = constant()
    data["T"][:, 2:6] = np.nan
    fitted = fit(few(), data)
    assert float(fitted.latents()["k"].mean()) == pytest.approx(2.0, rel=1e-6)


@pytest.mark.thorough
def test_of_a_field_that_sensors_read_nothing_need_be_known():
    data = constant()
    read = data.rename(T="wells").isel(x=[2, 5]).rename(x="sensor")
    read = read.assign_coords(sensor_x=("sensor", read["sensor"].values)).drop_vars("sensor")
    wells = ipd.Sensors("T", data="wells")
    fitted = fit(few(), read, observe=[wells])
    assert float(fitted.latents()["k"].mean()) == pytest.approx(2.0, rel=1e-2)
    first = few().with_sample_parameters({"mode": 1.0})
    assert set(uniform_guess(first)) == {"T"}


def test_data_with_times_are_no_steady_states():
    data = constant()
    assert has_no_times(data) and not has_no_times(data.assign_coords(time=1.0))
    assert not has_no_times(data.expand_dims("time"))


@pytest.mark.parametrize(
    "options, message",
    [
        ({"dt": 0.1}, "dt is given, but the data have no dimension 'time'"),
        ({"start": 0.0}, "start is given"),
        ({"stages": [ipd.Stage(ipd.LBFGS(), 5, dt=0.1)]}, "dt of a stage is given"),
        (
            {"options": ipd.FitOptions(stepper=ipd.BackwardEuler())},
            "the stepper is Theta, but the data have no dimension 'time'",
        ),
    ],
)
def test_what_steady_states_do_not_have_is_refused(options: dict, message: str):
    with pytest.raises(InputError, match=message):
        fit(few(), constant(), **options)


def test_coefficients_of_time_are_refused():
    grid = ipd.Grid([ipd.Axis("x", 0.0, 1.0, 8)])
    k = ipd.Parameter("k", 0.5, (0.0, np.inf))
    field = ipd.Field([ipd.Diffusion(k)], {"x": ipd.Dirichlet(lambda t: t)})
    with pytest.raises(InputError, match="depends on time, but the data have no dimension"):
        fit(ipd.System(grid, {"T": field}), constant().drop_vars("mode"))


def test_without_a_grid_and_a_reading_a_guess_is_asked_for():
    k = ipd.Parameter("k", 0.5, (0.0, np.inf))
    fields = {"u": [ipd.Reaction(lambda u, k: 1 - k * u, k=k)]}
    data = xr.Dataset({"u": ("sample", [np.nan, np.nan])})
    with pytest.raises(InputError, match="nothing is known of 'u'"):
        fit(ipd.System(None, fields), data)
