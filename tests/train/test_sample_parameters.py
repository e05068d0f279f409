"""Samples with sample parameters of their own, in one batch: each is what it would be by itself."""

from dataclasses import replace

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
import xarray as xr
from gradients import inner, random_like

import impindiff as ipd
from impindiff.implicit import Newton
from impindiff.latent import learned
from impindiff.linear import DenseLU
from impindiff.runs._run_plan import cast
from impindiff.train import Batches, Batching, Observations, make_objective, whole
from impindiff.train._objective import Trial

TIMES = [0.0, 0.1, 0.2]
HEAT = (1.0, 2.5, 0.4)
LOAD = (0.3, -0.2, 0.7)
DT = 0.05
STEPPER = ipd.CrankNicolson(Newton(DenseLU(), DenseLU(), rtol=1e-12))


def line(heat="heat", load="load") -> ipd.System:
    """Settings at an end, in a coefficient that is learned, in the state's closure, at the start.

    `heat` and `load` are numbers in the system of one sample, and names in that of all.
    """
    grid = ipd.Grid([ipd.Axis("x", 0.0, 1.0, 6)])
    return made(
        grid,
        ipd.Field(
            [ipd.Diffusion(lambda k: k), ipd.Reaction(lambda c, k, heat: -heat * k * c**2)],
            {"x": (ipd.Dirichlet(lambda heat, t: heat + t), ipd.NoFlux())},
            initial=lambda x, load: 1 + load * x,
        ),
        heat,
        load,
        coefficients={"k": lambda a, heat: a * jnp.exp(-1 / heat), "a": unknown_field()},
    )


def plane(heat="heat", load="load") -> ipd.System:
    """Affine and steady: assembled once for each sample."""
    axes = [ipd.Axis("x", 0.0, 1.0, 4), ipd.Axis("y", 0.0, 1.0, 3, periodic=True)]
    return made(
        ipd.Grid(axes),
        ipd.Field(
            [ipd.Diffusion(lambda a, heat: a * heat), ipd.Source(lambda load, y: load * y)],
            {"x": (ipd.Dirichlet(lambda y, load: load + y), ipd.NoFlux())},
            storage=lambda load: 1 + load**2,
        ),
        heat,
        load,
        coefficients={"a": ipd.SineField(2, ("a",), bounds=(0.01, 1.0), key=jax.random.key(0))},
    )


def no_grid(heat="heat", load="load") -> ipd.System:
    return made(
        None,
        ipd.Field([ipd.Reaction(lambda c, a, heat, load, t: load * t - a / heat * c**2)]),
        heat,
        load,
        coefficients={"a": ipd.Parameter("a", 0.6, (0.0, jnp.inf))},
    )


def made(grid, field: ipd.Field, heat, load, coefficients) -> ipd.System:
    parameters = ("heat", "load") if heat == "heat" else ()
    if not parameters:
        coefficients |= {"heat": jnp.asarray(heat), "load": jnp.asarray(load)}
    system = ipd.System(grid, {"c": field}, coefficients=coefficients, parameters=parameters)
    return cast(system, jnp.dtype(float))


def with_numbers(system: ipd.System, heat: float, load: float) -> ipd.System:
    """The same for another sample, by known coefficients alone."""
    return eqx.tree_at(
        lambda s: (s.coefficients["heat"], s.coefficients["load"]),
        system,
        (jnp.asarray(heat), jnp.asarray(load)),
    )


def unknown_field():
    return ipd.SineField(1, ("a",), bounds=(0.1, 1.0), key=jax.random.key(0))


def measured(system: ipd.System) -> xr.Dataset:
    """Numbers for three samples: what they are is of no account."""
    shape = () if system.grid is None else system.grid.shape
    values = np.random.default_rng(0).uniform(0.5, 1.5, (3, len(TIMES), *shape))
    known = {"heat": np.array(HEAT), "load": np.array(LOAD)}
    return ipd.to_dataset(system.grid, TIMES, {"c": values}, sample_parameters=known)


def observed(system: ipd.System, data: xr.Dataset, samples: str) -> Observations:
    return Observations.of(system, data, samples, dtype=jnp.float64)


def loss_of(system: ipd.System, observations: Observations):
    arrays, frozen = eqx.partition(system, learned(system))
    return arrays, make_objective(frozen, whole(observations, DT), STEPPER)


@eqx.filter_jit
def evaluated(objective, arrays):
    return objective(arrays)


def forecast(system: ipd.System, data: xr.Dataset, samples: str) -> np.ndarray:
    how = {"times": TIMES, "dt": DT, "stepper": STEPPER, "dtype": jnp.float64}
    return ipd.predict(system, data, samples=samples, **how)["c"].values


@pytest.mark.slow
@pytest.mark.parametrize("make", [line, plane, no_grid])
def test_a_batch_is_its_samples_one_by_one(make):
    """States, losses and gradients, to round-off; the scale of a loss is that of its batch."""
    system, data = make(), measured(make())
    arrays, objective = loss_of(system, observed(system, data, ":"))
    together = evaluated(objective, arrays)
    states, losses, gradients = [], [], []
    like = make(HEAT[0], LOAD[0])
    for sample, (heat, load) in enumerate(zip(HEAT, LOAD, strict=True)):
        alone = with_numbers(like, heat, load)
        own, single = loss_of(alone, observed(alone, data, str(sample)))
        found = evaluated(replace(single, scale=objective.scale), own)
        losses.append(found.loss)
        gradients.append(found.gradient)
        states.append(forecast(alone, data, str(sample)))
    np.testing.assert_allclose(forecast(system, data, ":"), np.concatenate(states), rtol=1e-11)
    np.testing.assert_allclose(together.loss, sum(losses), rtol=1e-11)
    summed = jax.tree.map(lambda *each: sum(each), *map(jax.tree.leaves, gradients))
    for leaf, wanted in zip(jax.tree.leaves(together.gradient), summed, strict=True):
        np.testing.assert_allclose(leaf, wanted, rtol=1e-9, atol=1e-13)


def explicit(system: ipd.System, observations: Observations, trial=Trial(), at_once=None):
    """The loss by steps that compile fast."""
    arrays, frozen = eqx.partition(system, learned(system))
    batch = whole(observations, DT)
    return arrays, make_objective(
        frozen, batch, ipd.steppers.ForwardEuler(), trial, samples_at_once=at_once
    )


@pytest.mark.parametrize("make", [no_grid, pytest.param(line, marks=pytest.mark.slow)])
def test_the_loss_is_differentiated_through_sample_parameters(make):
    """Samples in parts, the last of them filled up: a remainder of second order, as in one part."""
    system = make()
    observations = observed(system, measured(system), ":")
    point, objective = explicit(system, observations, at_once=2)
    direction = random_like(point, 1)
    here = evaluated(objective, point)
    slope = inner(here.gradient, direction)

    def remainder(h: float) -> float:
        moved = jax.tree.map(lambda a, d: a + h * d, point, direction)
        return abs(float(evaluated(objective, moved).loss - here.loss - h * slope))

    assert np.log2(remainder(5e-4) / remainder(2.5e-4)) == pytest.approx(2, abs=0.1)
    _, at_once = explicit(system, observations)
    wanted = evaluated(at_once, point).gradient
    for leaf, other in zip(*map(jax.tree.leaves, (here.gradient, wanted)), strict=True):
        np.testing.assert_allclose(leaf, other, rtol=1e-10, atol=1e-14)


def test_least_squares_see_the_same_gradient():
    system = no_grid()
    arrays, objective = explicit(system, observed(system, measured(system), ":"), at_once=2)
    triangle = jax.jit(lambda arrays: objective.triangle(arrays))(arrays)
    by_residuals = 2 * (triangle.T @ triangle)[:-1, -1]
    (by_reverse_mode,) = jax.tree.leaves(evaluated(objective, arrays).gradient)
    np.testing.assert_allclose(by_residuals, by_reverse_mode[None], rtol=1e-10)


def test_a_sample_that_is_left_out_takes_its_sample_parameters_along():
    """They may be what it failed by: here a division by zero."""
    system = no_grid()
    data = measured(system)
    data["heat"][1] = 0.0
    active = Trial(active=jnp.array([True, False, True]))
    arrays, masked = explicit(system, observed(system, data, ":"), active)
    _, others = explicit(system, observed(system, data, "0,2"))
    found, wanted = evaluated(masked, arrays), evaluated(others, arrays)
    np.testing.assert_allclose(found.loss, wanted.loss, rtol=1e-11)
    for leaf, other in zip(*map(jax.tree.leaves, (found.gradient, wanted.gradient)), strict=True):
        np.testing.assert_allclose(leaf, other, rtol=1e-9, atol=1e-13)


@pytest.mark.thorough
@pytest.mark.parametrize("window", [None, 1])
def test_sample_parameters_go_with_their_samples_into_batches(window):
    system = plane()
    parts = Batches.make(
        observed(system, measured(system), ":"), DT, Batching(samples=2, window=window)
    )
    batch = parts.take(parts.num_windows - 1, np.array([2, 0]))
    np.testing.assert_array_equal(batch.sample_parameters["heat"], [HEAT[2], HEAT[0]])
    np.testing.assert_array_equal(batch.sample_parameters["load"], [LOAD[2], LOAD[0]])
    np.testing.assert_array_equal(
        batch.observed["c"][:, -1], parts.observations.observed["c"][np.array([2, 0]), -1]
    )


def decay(c, a, heat):
    return -a * heat * c**2


@pytest.mark.slow
def test_members_of_an_ensemble_share_the_sample_parameters():
    def make(key):
        start = float(0.4 + 0.4 * jax.random.uniform(key))
        return ipd.System(
            None,
            {"c": [ipd.Reaction(decay)]},
            coefficients={"a": ipd.Parameter("a", start, (0.0, jnp.inf))},
            parameters="heat",
        )

    exact = [1.3 / (1 + 1.3 * 0.7 * heat * np.array(TIMES)) for heat in HEAT]
    known = {"heat": np.array(HEAT)}
    data = ipd.to_dataset(None, TIMES, {"c": np.stack(exact)}, sample_parameters=known)
    how = {"dt": DT, "stepper": ipd.steppers.RungeKutta4(), "dtype": jnp.float64}
    options = ipd.FitOptions(stepper=ipd.steppers.RungeKutta4(), dtype=jnp.float64)
    stages = [ipd.Stage(ipd.LevenbergMarquardt(), 6)]
    ensemble = ipd.fit_ensemble(
        make, data, seeds=[1, 2], samples="0:2", stages=stages, dt=DT, options=options
    )
    assert float(ensemble.latents()["a"].mean) == pytest.approx(0.7, rel=1e-4)
    forecast = ipd.predict_ensemble(ensemble, data, times=TIMES, samples="2", **how)
    np.testing.assert_allclose(forecast["c"][0], exact[2], rtol=1e-4)
    assert "heat_std" not in forecast and forecast["heat"].values.tolist() == [HEAT[2]]


def test_what_fails_is_told_with_the_sample_parameters_of_its_sample():
    """The second sample leaves the range of a root, the first never does."""
    system = ipd.System(
        None,
        {"c": [ipd.Reaction(lambda c, a, heat: a + 0 * jnp.sqrt(heat - c))]},
        coefficients={"a": ipd.Parameter("a", 1.0, (0.0, 2.0))},
        parameters="heat",
    )
    known = {"heat": np.array([9.0, 0.125])}
    data = ipd.to_dataset(None, TIMES, {"c": np.zeros((2, 3))}, sample_parameters=known)
    how = {"dt": DT, "stepper": ipd.steppers.ForwardEuler(), "dtype": jnp.float64}
    options = ipd.FitOptions(stepper=ipd.steppers.ForwardEuler(), dtype=jnp.float64)
    for compute in (
        lambda: ipd.predict(system, data, times=TIMES, **how),
        lambda: ipd.fit(
            system, data, samples=":", stages=[ipd.Stage(ipd.Adam(), 1)], dt=DT, options=options
        ),
    ):
        with pytest.raises(ipd.NumericsError, match=r"the equation of 'c' is nan.* heat = 0.125"):
            compute()
