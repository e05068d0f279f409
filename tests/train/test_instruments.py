"""Training on what instruments read: the loss by its formula, its gradient, and what is refused."""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
import xarray as xr
from gradients import taylor_rate
from small_problem import DIFFUSIVITY, DT, make_dataset, make_system

import impindiff as ipd
from impindiff import InputError
from impindiff.integrate import CrankNicolson
from impindiff.latent import learned
from impindiff.train import Batches, Batching, Observations, make_objective, whole
from impindiff.train._objective import Trial

FIELD = "concentration"
POSITIONS = np.array([[-0.7, 0.2], [0.1, 0.55], [0.93, 0.99]])
BEAM = {"start": (-0.9, 0.1), "end": (0.8, 0.7)}


def with_instruments() -> xr.Dataset:
    """Cells, wells at the even times, a beam at the odd ones, and a signal."""
    data = make_dataset()
    grid = ipd.grid_of(data, FIELD)
    instruments = [
        ipd.Sensors(FIELD, "wells", positions=POSITIONS),
        ipd.observations.LineAverage(FIELD, "beam", **BEAM),
        ipd.observations.VolumeAverage(FIELD, "total"),
    ]
    read = ipd.observations.measure(data, grid, instruments)
    read = read.rename({"wells_0": "sensor"}).drop_vars(["sample", "time"])
    data = data.merge(read).assign_coords(
        sensor_x=("sensor", POSITIONS[:, 0]), sensor_y=("sensor", POSITIONS[:, 1])
    )
    data["wells"][:, 1::2] = np.nan
    data["beam"][:, 0::2] = np.nan
    return data


OBSERVE = (
    ipd.Sensors(FIELD, "wells", noise=0.02),
    ipd.observations.LineAverage(FIELD, "beam", noise=0.05, **BEAM),
    ipd.observations.Measured(lambda concentration: concentration.mean(), "total", noise=0.01),
)
REGULARISE = (
    ipd.observations.Smoothness(("advection_x", "advection_y"), 1e-3),
    ipd.observations.TotalVariation("advection_x", 1e-3),
    ipd.observations.DivergenceFree(("advection_x", "advection_y"), 0.1),
    ipd.observations.WeightDecay(1e-5),
)


@pytest.fixture(scope="module")
def dataset() -> xr.Dataset:
    return with_instruments()


@pytest.fixture(scope="module")
def system(dataset):
    return make_system(ipd.grid_of(dataset, FIELD))


def observations_of(dataset, system, observe=OBSERVE, times=None, **options) -> Observations:
    return Observations.of(system, dataset, "0:3", times, np.float64, observe, **options)


@pytest.fixture(scope="module")
def observations(dataset, system) -> Observations:
    return observations_of(dataset, system, regularise=REGULARISE)


def evaluate(system, observations, samples_at_once=None, trial=Trial()):
    arrays, frozen = eqx.partition(system, learned(system))
    batch = whole(observations, DT)
    return jax.jit(
        lambda a: make_objective(
            frozen, batch, CrankNicolson(), trial, samples_at_once=samples_at_once
        )(a)
    )(arrays)


@pytest.fixture(scope="module")
def evaluation(system, observations):
    return evaluate(system, observations)


@pytest.mark.thorough
def test_the_loss_is_chi_squared_per_datum_and_the_penalties(
    dataset, system, observations, evaluation
):
    times = dataset["time"].values
    forecast = ipd.predict(system, dataset, times=times[1:], dt=DT, samples="0:3", dtype=np.float64)
    readings = ipd.observations.measure(forecast, system.grid, OBSERVE, dataset)
    total, count = 0.0, 0
    for name, noise in (("wells", 0.02), ("beam", 0.05), ("total", 0.01)):
        error = (readings[name].values - dataset[name].values[:3, 1:]) / noise
        total += np.nansum(error**2)
        count += np.sum(~np.isnan(error))
    assert count == 3 * (2 * 3 + 2 + 4)
    arrays, latents = eqx.filter(system, learned(system)), system.latents()
    penalties = [each.residuals(latents, arrays, system.grid) for each in REGULARISE]
    expected = total / count + sum(float(jnp.sum(part**2)) for part in penalties)
    assert float(evaluation.loss) == pytest.approx(expected, rel=1e-6)


@pytest.mark.thorough
def test_its_gradient_leaves_a_second_order_remainder(system, observations):
    arrays, frozen = eqx.partition(system, learned(system))
    arrays = jax.tree.map(lambda leaf: leaf.astype(jnp.float64), arrays)
    tight = ipd.solvers.Affine(ipd.solvers.BiCGStab(1e-13), ipd.solvers.BiCGStab(1e-13))
    objective = make_objective(frozen, whole(observations, DT), CrankNicolson(tight))

    @jax.custom_vjp
    def loss(point):
        return objective(point).loss

    def forward(point):
        found = objective(point)
        return found.loss, found.gradient

    loss.defvjp(forward, lambda gradient, g: (jax.tree.map(lambda leaf: g * leaf, gradient),))
    assert taylor_rate(loss, arrays) == pytest.approx(2, abs=0.1)


@pytest.mark.slow
def test_parts_and_masks_are_of_any_readings(system, observations, evaluation):
    in_parts = evaluate(system, observations, samples_at_once=2)
    assert float(in_parts.loss) == pytest.approx(float(evaluation.loss), rel=1e-6)
    masked = evaluate(system, observations, trial=Trial(jnp.array([True, False, True])))

    def arrays(o: Observations):
        return o.initial, o.observed, o.deviations

    some = jax.tree.map(lambda u: u[jnp.array([0, 2])], arrays(observations))
    kept = eqx.tree_at(arrays, observations, some)
    assert float(masked.loss) == pytest.approx(float(evaluate(system, kept).loss), rel=1e-6)


@pytest.mark.thorough
def test_cells_that_are_named_are_what_is_taken_where_none_are(dataset, system):
    plain, named = (
        observations_of(dataset, system, observe, [0.1]) for observe in (None, [ipd.Cells(FIELD)])
    )
    assert eqx.tree_equal(plain, named)
    assert not plain.operators and not plain.deviations


@pytest.mark.thorough
def test_all_times_with_a_reading_are_taken_where_none_are_named(dataset, system):
    assert observations_of(dataset, system).times == (0.05, 0.1, 0.15, 0.2)
    assert observations_of(dataset, system, OBSERVE[1:2]).times == (0.05, 0.15)
    unobserved = dataset.copy(deep=True)
    unobserved[FIELD][:, 2] = np.nan
    assert observations_of(unobserved, system, None).times == (0.05, 0.15, 0.2)


@pytest.mark.parametrize("by", ["name", "array", "column"])
def test_noise_may_vary(dataset, system, by: str):
    sigma = np.random.default_rng(0).uniform(0.1, 1, dataset["wells"].shape)
    if by == "name":
        noise, data = "sigma", dataset.assign(sigma=(("sample", "time", "sensor"), sigma))
    else:
        noise, data = sigma if by == "array" else sigma[0, 0], dataset
    found = observations_of(data, system, [ipd.Sensors(FIELD, "wells", noise)], [0.1, 0.2])
    wanted = np.broadcast_to(sigma[0, 0], sigma.shape) if by == "column" else sigma
    np.testing.assert_allclose(found.deviations["wells"], wanted[:3, [2, 4]])
    one = observations_of(dataset, system, [ipd.Sensors(FIELD, "wells", 0.5)], [0.1, 0.2])
    assert one.deviations["wells"].shape == (3, 2, 1)


def two_fields(grid, diffusivity) -> ipd.System:
    """Two fields that know nothing of each other."""
    term = [ipd.Diffusion(diffusivity)]
    return ipd.System(grid, {"u": term, "v": [ipd.Diffusion(DIFFUSIVITY)]})


@pytest.mark.thorough
def test_a_hidden_field_takes_part_unobserved():
    data = make_dataset((12,)).rename({FIELD: "u"})
    data["v"] = data["u"].where(data["time"] == 0)
    grid = ipd.grid_of(data, "u")
    system = two_fields(grid, ipd.Parameter("k", 0.01, (0.0, 0.1)))
    found = observations_of(data, system, None)
    assert set(found.initial) == {"u", "v"} and set(found.observed) == {"u"}
    assert float(evaluate(system, found).loss) > 0
    with pytest.raises(InputError, match="no variable 'v'; it holds"):
        observations_of(data.drop_vars("v"), system, None)
    data["v"][1, 0, 3] = np.nan
    with pytest.raises(InputError, match="'v' at time 0, where simulations start, must be known"):
        observations_of(data, system, None)


@pytest.mark.thorough
def test_an_unknown_that_nothing_observed_depends_on_is_refused():
    data = make_dataset((12,)).rename({FIELD: "u"})
    data["v"] = data["u"]
    grid = ipd.grid_of(data, "u")
    system = ipd.System(
        grid,
        {
            "u": [ipd.Diffusion(DIFFUSIVITY)],
            "v": [ipd.Diffusion(ipd.Parameter("k", 0.01, (0.0, 0.1)))],
        },
    )
    fit = {"samples": "0:2", "times": [0.1], "dt": DT, "stages": [ipd.Stage(ipd.Adam(), 2)]}
    with pytest.raises(InputError, match="do not constrain 'k': the gradient by it is exactly"):
        ipd.fit(system, data, observe=[ipd.Cells("u")], **fit)
    ipd.fit(system, data, observe=[ipd.Cells("v")], **fit)


def test_windows_need_observed_states(dataset, system, observations):
    with pytest.raises(InputError, match="'concentration' is not observed cell by cell"):
        Batches.make(observations, DT, Batching(window=1))
    Batches.make(observations, DT, Batching(samples=2))


def test_batches_take_their_part_of_readings_and_noise(observations):
    batches = Batches.make(observations, DT, Batching(samples=2))
    assert isinstance(batches, Batches)
    batch = batches.take(0, np.array([2, 0]))
    for name, values in observations.observed.items():
        np.testing.assert_array_equal(batch.observed[name], values[np.array([2, 0])])
        assert batch.deviations[name].shape[:2] == (2, 4)
    assert batch.operators.keys() == observations.operators.keys()


WELLS = ipd.Sensors(FIELD, "wells", noise=0.02)


@pytest.mark.parametrize(
    "observe, message",
    [
        ([ipd.Sensors(FIELD, "well")], "no variable 'well'.*Did you mean 'wells'"),
        ([ipd.Sensors(FIELD, "advection_x")], "'advection_x' has the dimensions"),
        (
            [ipd.Sensors(FIELD, "beam", positions=POSITIONS)],
            r"of shape \(\) at one instant.*\(3,\)",
        ),
        ([ipd.Cells(FIELD, data="wells")], r"readings of shape \(3,\).*gives \(12, 6\)"),
        (
            [ipd.observations.Measured(lambda concentration: concentration[0], "beam")],
            r"gives \(6,\)",
        ),
        (
            [ipd.observations.Measured(lambda u: u[0], "beam")],
            "is of 'u', but the fields are 'concentration'",
        ),
        ([WELLS, ipd.Sensors(FIELD, "wells", noise=0.1)], "'wells' are observed twice"),
        ([WELLS, ipd.Cells(FIELD)], "given of 'wells' and not of 'concentration'"),
        # Noise that is no number at all anywhere is refused where it is given.
        (
            [ipd.Sensors(FIELD, "wells", [0.0, 0.1, 0.1])],
            "the noise of 'wells' is 0 in 6 of its 18",
        ),
        ([ipd.Sensors(FIELD, "wells", [0.1, -1.0, 0.1])], "is -1 in"),
        ([ipd.Sensors(FIELD, "wells", [0.1, 0.1, np.nan])], "is nan in"),
        ([ipd.Sensors(FIELD, "wells", np.ones(2))], r"has shape \(2,\): it must be one number"),
        ([ipd.Sensors(FIELD, "wells", "beam")], "they must be the same"),
        ([ipd.Sensors(FIELD, "wells", "sigma")], "no variable 'sigma'"),
        ([], "observe is empty"),
    ],
)
def test_what_was_not_measured_so_is_refused(dataset, system, observe, message: str):
    with pytest.raises(InputError, match=message):
        observations_of(dataset, system, observe)


def test_an_instrument_that_read_nothing_is_named(dataset, system):
    with pytest.raises(InputError, match="'wells' is NaN .* everywhere in the selected samples"):
        observations_of(dataset, system, times=[0.05, 0.15])


@pytest.mark.thorough
def test_a_few_sensors_find_a_diffusivity(dataset):
    grid = ipd.grid_of(dataset, FIELD)
    velocity = jnp.stack([jnp.asarray(dataset[f"advection_{a}"].values) for a in "xy"])
    start = ipd.Parameter("k", 0.05, (0.0, 0.1))
    found = ipd.fit(
        ipd.advection_diffusion(grid, velocity, start),
        dataset,
        samples="0:3",
        dt=DT,
        observe=OBSERVE[:1],
        stages=[ipd.Stage(ipd.LBFGS(), 12)],
    )
    assert float(found.latents()["k"].mean()) == pytest.approx(DIFFUSIVITY, rel=1e-3)


@pytest.mark.parametrize(
    "penalty",
    [
        ipd.observations.Smoothness("k", 1.0),
        ipd.observations.TotalVariation(["k"], 1.0),
        ipd.observations.DivergenceFree("k", 1.0),
    ],
    ids=lambda penalty: type(penalty).__name__,
)
def test_a_penalty_on_the_slopes_of_a_number_is_refused(penalty):
    """It would be zero, whatever its weight."""
    grid = ipd.Grid.uniform((5,), ((0, 1),))
    k = ipd.Parameter("k", 0.5, (0.0, 2.0))
    system = ipd.System(grid, {"u": [ipd.Reaction(lambda u, k: -k * u)]}, coefficients={"k": k})
    data = ipd.to_dataset(grid, [0.0, 1.0], {"u": np.ones((1, 2, 5))})
    with pytest.raises(ipd.InputError, match="is on 'k', which is one number .* name a field"):
        ipd.fit(system, data, samples=":", dt=0.5, regularise=[penalty])
