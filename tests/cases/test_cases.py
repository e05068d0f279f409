"""The built-in cases: their data are right, and made again from the same seed."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import xarray as xr

from impindiff import CASES, InputError
from impindiff.cases import advection_diffusion_dynamic as dynamic, burgers, case_named
from impindiff.cases._drift import Drift
from impindiff.cases._random_fields import gaussian_process, sine_waves
from impindiff.cases.advection_diffusion_steady import generate
from impindiff.config import build_system, parse_config
from impindiff.data import check_dataset, grid_of
from impindiff.grid import Grid

FIELD, LATENTS = "concentration", ("advection_x", "advection_y")


@pytest.fixture(scope="module")
def dataset() -> xr.Dataset:
    return generate(2, 0)


@pytest.mark.thorough
def test_the_data_are_in_the_documented_layout(dataset: xr.Dataset):
    check_dataset(dataset, fields=[FIELD], latents=LATENTS)
    grid = grid_of(dataset, FIELD)
    assert grid == Grid.uniform((128, 64), ((-1, 1), (0, 1)), periodic=True)
    assert dict(dataset.sizes) == {"sample": 2, "time": 21, "x": 128, "y": 64}
    np.testing.assert_allclose(dataset["time"], np.linspace(0, 0.2, 21), atol=1e-15)
    assert dataset[FIELD].dtype == np.float32
    for name in dataset.variables:
        assert dataset[name].attrs.keys() >= {"units", "long_name"}, name
    assert dataset.attrs["diffusivity"] == 1e-3
    assert dataset.attrs["boundary"] == "periodic"
    assert "seed 0" in dataset.attrs["source"]


@pytest.mark.thorough
def test_initial_fields_and_velocities_span_zero_to_one(dataset: xr.Dataset):
    for name in LATENTS:
        assert (dataset[name].min(), dataset[name].max()) == (0, 1)
    initial = dataset[FIELD].isel(time=0)
    np.testing.assert_array_equal(initial.min(("x", "y")), 0)
    np.testing.assert_array_equal(initial.max(("x", "y")), 1)


@pytest.mark.thorough
def test_the_data_are_converged_in_time(dataset: xr.Dataset):
    fine = generate(1, 0, dt=2.5e-4)[FIELD].isel(sample=0, time=-1)
    coarse = dataset[FIELD].isel(sample=0, time=-1)
    percent = 100 * float(np.abs(coarse - fine).sum() / np.abs(fine).sum())
    assert percent < 1e-3


@pytest.mark.thorough
def test_mass_is_conserved(dataset: xr.Dataset):
    mass = dataset[FIELD].astype(np.float64).sum(("x", "y"))
    np.testing.assert_allclose(mass / mass.isel(time=0), 1, rtol=1e-7)


@pytest.mark.thorough
def test_the_seed_decides_and_the_number_of_samples_does_not(dataset: xr.Dataset):
    assert dataset.isel(sample=[0]).identical(generate(1, 0))
    other = generate(1, 1)
    for name in (FIELD, *LATENTS):
        start = {"time": 0, "sample": 0} if name == FIELD else {}
        difference = np.abs(other[name].isel(start) - dataset[name].isel(start)).mean()
        assert float(difference) > 0.05, name


@pytest.mark.parametrize("samples, seed", [(0, 0), (-1, 0), (1, -1)])
def test_no_samples_and_negative_seeds_are_refused(samples: int, seed: int):
    with pytest.raises(InputError, match="at least 1 sample and a seed of 0 or more"):
        generate(samples, seed)


@pytest.mark.parametrize("shape", [(32,), (16, 24), (8, 12, 10)])
def test_random_fields_are_smooth_and_periodic_in_any_dimension(shape: tuple[int, ...]):
    grid = Grid.uniform(shape, ((0, 1), (0, 1), (0, 1))[: len(shape)], periodic=True)
    fields = gaussian_process(grid, 3, 0.3, np.random.default_rng(0))
    waves = sine_waves(grid, 5, 2, np.random.default_rng(0))
    assert fields.shape == (3, *shape) and waves.shape == shape
    for field in (*fields, waves):
        assert (field.min(), field.max()) == (0, 1)
        for axis in range(len(shape)):
            # The jump across the boundary is no larger than those inside.
            inside = np.abs(np.diff(field, axis=axis)).max()
            across = np.abs(field.take(0, axis) - field.take(-1, axis)).max()
            assert across < 1.5 * inside


def test_random_fields_have_the_spectrum_of_their_correlation_length():
    """The power of wave number k falls as exp(-l^2 k^2 / 2): the mean of its logarithm shows it."""
    grid, length = Grid.uniform((16,), ((0, 1),), periodic=True), 0.12
    fields = gaussian_process(grid, 2000, length, np.random.default_rng(0))
    power = np.log(np.abs(np.fft.fft(fields, axis=1)) ** 2).mean(axis=0)
    falls = (length * 2 * np.pi) ** 2 * np.array([4 - 1, 9 - 1]) / 2
    np.testing.assert_allclose(power[1] - power[2:4], falls, atol=0.15)


def test_a_case_is_found_by_its_name():
    for name, case in CASES.items():
        assert case_named(name) is case and case.name == name
        assert case.summary and "\n" not in case.summary
        assert {"paper", "quick"} <= set(case.presets)
    with pytest.raises(InputError, match="Did you mean 'advection-diffusion-steady'"):
        case_named("advection-difusion-steady")
    with pytest.raises(InputError, match="no case 'heat'; allowed: advection-diffusion-steady, "):
        case_named("heat")


def test_a_preset_changes_what_it_names_and_nothing_else():
    case = CASES["advection-diffusion-steady"]
    paper, quick = case.recipe("paper"), case.recipe("quick")
    assert paper["training"].pop("stages") != quick["training"].pop("stages")
    assert paper == quick
    assert case.recipe("paper") != paper, "a recipe is made afresh each time"
    with pytest.raises(InputError, match="no preset 'slow'; allowed: paper, quick"):
        case.recipe("slow")


def test_the_paper_preset_is_the_papers_setting():
    recipe = CASES["advection-diffusion-steady"].recipe("paper")
    assert recipe["data"]["train_samples"] == "0:5" and recipe["data"]["test_samples"] == "5:10"
    assert recipe["data"]["train_times"] == [0.05]
    assert recipe["time"] == {"scheme": "crank-nicolson", "dt": 1e-2, "until": 0.2}
    assert recipe["system"]["options"]["diffusivity"] == 1e-3
    assert recipe["system"]["options"]["scheme"] == "upwind"


def test_waves_drift_as_they_are_said_to():
    """At every time the sum of sines itself, and all of [0, 1] over the times."""
    grid = Grid.uniform((16, 12), ((-1.0, 1.0), (0.0, 1.0)), periodic=True)
    times = np.linspace(0, 0.5, 6)
    drift = Drift.draw(grid, 4, 2, 1.5, times, np.random.default_rng(3))
    rng = np.random.default_rng(3)
    modes, amplitudes = rng.integers(0, 3, (4, 2)), rng.uniform(-1, 1, 4)
    phases, rates = rng.uniform(0, 2 * np.pi, 4), rng.uniform(-1.5, 1.5, 4)
    x, y = grid.centres()
    found = np.stack([np.asarray(drift(time)) for time in times])
    waves = np.zeros(found.shape) + sum(
        a * np.sin(2 * np.pi * (m[0] * x + m[1] * y + r * times[:, None, None]) + p)
        for a, m, p, r in zip(amplitudes, modes, phases, rates, strict=True)
    )
    expected = (waves - waves.min()) / (waves.max() - waves.min())
    np.testing.assert_allclose(found, expected, atol=2e-6)


@pytest.mark.thorough
def test_the_data_of_the_drifting_velocity_are_converged_in_time():
    """The velocity is taken where the scheme asks for it: the order of the scheme is seen."""
    ends = [
        dynamic.generate(1, 0, dt=dt)["concentration"].values[0, 5].astype(np.float64)
        for dt in (1e-2, 5e-3, 2.5e-3)
    ]
    first, second = (np.abs(a - ends[2]).max() for a in ends[:2])
    assert second < 2e-5 and first < 2e-4


@pytest.mark.thorough
@pytest.mark.parametrize("make", [burgers.generate, burgers.generate_varying])
def test_the_data_of_burgers_equation(make):
    """Steep but finite, the diffusivity over its whole range, and momentum kept."""
    data = make(1, 0, dt=5e-3)
    u, k = data["velocity"].values[0].astype(np.float64), data["diffusivity"].values
    check_dataset(data, fields=["velocity"], latents=["diffusivity"])
    assert k.min() == pytest.approx(1e-3) and k.max() == pytest.approx(1e-2)
    np.testing.assert_allclose(u.mean(axis=(1, 2)), u[0].mean(), rtol=1e-6)
    assert u.min() > -0.05 and u.max() < 1.05


@pytest.mark.thorough
def test_the_data_of_the_vectors_equation():
    """Smooth, within the bounds that diffusion and transport keep, and of two kinds."""
    data = burgers.generate_vector(1, 0, dt=5e-3)
    check_dataset(data, fields=["velocity_x", "velocity_y"], latents=["diffusivity"])
    for name in ("velocity_x", "velocity_y"):
        u = data[name].values[0].astype(np.float64)
        assert (u[0].min(), u[0].max()) == (0, 1)
        # A maximum principle holds; conserved is neither component.
        assert u.min() > -1e-3 and u.max() < 1 + 1e-3
        assert abs(u[-1].mean() - u[0].mean()) > 1e-3
    assert np.abs(data["velocity_x"] - data["velocity_y"]).mean() > 0.05


def test_the_equation_of_the_vector_is_what_the_case_says():
    """The rate of change by the case's own file, beside central differences with rolls."""
    case, h = CASES["burgers-vector"], 1 / 8
    grid = Grid.uniform((16, 8), ((-1.0, 1.0), (0.0, 1.0)), periodic=True)
    u = np.random.default_rng(0).uniform(size=(2, 16, 8))
    names = ("velocity_x", "velocity_y")
    system = build_system(parse_config(case.recipe("paper"), "it", case.path), grid)
    with jax.enable_x64(True):
        tendency = system.prepare(jnp.dtype(jnp.float64)).at(jnp.zeros(()))
        rates = tendency({name: jnp.asarray(part) for name, part in zip(names, u, strict=True)})
        k = np.asarray(system.latents()["diffusivity"])
    for name, field in zip(names, u, strict=True):
        expected = np.zeros_like(field)
        for axis in (0, 1):
            # The mean over a cell's two faces of the velocity there times the difference.
            up, down = np.roll(field, -1, axis), np.roll(field, 1, axis)
            wind_up, wind_down = (np.roll(u[axis], shift, axis) for shift in (-1, 1))
            carried = wind_up * (up - field) + wind_down * (field - down)
            expected += k * (up - 2 * field + down) / h**2 - carried / (2 * h)
        np.testing.assert_allclose(rates[name], expected, rtol=1e-6, atol=1e-6)


def test_the_equation_of_burgers_is_what_the_case_says():
    """The rate of change by the case's own file, beside the same written with rolls."""
    case, h = CASES["burgers-steady"], 1 / 8
    grid = Grid.uniform((16, 8), ((-1.0, 1.0), (0.0, 1.0)), periodic=True)
    u = np.random.default_rng(0).uniform(size=(16, 8))
    system = build_system(parse_config(case.recipe("paper"), "it", case.path), grid)
    with jax.enable_x64(True):
        tendency = system.prepare(jnp.dtype(jnp.float64)).at(jnp.zeros(()))
        rate = np.asarray(tendency({"velocity": jnp.asarray(u)})["velocity"])
        k = np.asarray(system.latents()["diffusivity"])
    expected = np.zeros_like(u)
    for axis in (0, 1):
        up, down = np.roll(u, -1, axis), np.roll(u, 1, axis)
        expected += k * (up - 2 * u + down) / h**2 - (up**2 - down**2) / (4 * h)
    assert np.ptp(k) < 1e-9 and 1e-3 < k.mean() < 2e-2
    np.testing.assert_allclose(rate, expected, rtol=1e-6, atol=1e-6)
