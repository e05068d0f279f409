"""What is learned has units, and an optimiser's steps of numbers near 1 are in those units."""

from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
import xarray as xr

from impindiff.coefficients import AbstractClosure
from impindiff.data import to_dataset
from impindiff.grid import Axis, Grid
from impindiff.latent import (
    CellField,
    ConvolutionalClosure,
    NeuralClosure,
    Parameter,
    SineField,
    SpectralField,
    latents_of,
)
from impindiff.observe import Cells
from impindiff.systems import Reaction, System
from impindiff.train import (
    LBFGS,
    Adam,
    Batching,
    Checkpoints,
    FitOptions,
    Observations,
    Stage,
    Trainer,
    fit,
)
from impindiff.train._units import UNKNOWN, Look, find_units, unit_of_each, unknown_units

TIMES = np.linspace(0.0, 1.0, 6)
STARTS = np.array([0.3, 0.6, 1.0])


def decay(u0, t):
    """The solution of u' = -u^2 from `u0`."""
    return u0 / (1 + u0 * t)


def problem(unit: float, key: int = 0) -> tuple[System, xr.Dataset]:
    """The same law and data, in which a `unit` is what 1 is in others."""
    values = unit * decay(STARTS[:, None], TIMES)
    data = to_dataset(None, TIMES, {"u": values.astype(np.float32)})
    law = NeuralClosure("r", {"u": (0.0, unit)}, key=jax.random.key(key), width=8, depth=2)
    return System(None, {"u": [Reaction(law)]}), data


def law_error(system: System, unit: float) -> float:
    u = np.linspace(0.25, 0.95, 20)
    law: Any = latents_of(system)[0]
    found = np.asarray(law.evaluate(None, None, {"u": jnp.asarray(unit * u, jnp.float32)}))
    return float(np.abs(found / unit + u**2).max())


def quadratic(optimum: dict[str, float], sensitivity: dict[str, float]):
    """A look at (c (p - p*))^2, summed over parameters, and how often it was taken."""
    count = []

    def look(parameters) -> Look:
        count.append(1)
        off = {p.names[0]: float(p.raw) - optimum[p.names[0]] for p in parameters}
        loss = sum((sensitivity[name] * d) ** 2 for name, d in off.items())
        slopes = [
            eqx.tree_at(lambda q: q.raw, p, jnp.asarray(2 * sensitivity[n] ** 2 * off[n]))
            for p in parameters
            for n in p.names
        ]
        return Look(loss, slopes, True)

    return look, count


FREE = (-jnp.inf, jnp.inf)


@pytest.mark.parametrize("optimum", [3e-8, -2e-3, 0.7, 9.0, 5e4, -1e12])
@pytest.mark.parametrize("sensitivity", [1e-6, 1.0, 1e6])
def test_a_unit_is_how_far_the_best_value_is_away(optimum: float, sensitivity: float):
    look, count = quadratic({"p": optimum}, {"p": sensitivity})
    (unit,) = find_units(look, [Parameter("p", 0.0, FREE)], (UNKNOWN,))
    if 0.1 < abs(optimum) < 10:
        assert unit == 1.0 and len(count) == 1
    else:
        assert 0.7 < unit / abs(optimum) < 1.5 and len(count) == 2
        assert np.log2(unit) % 1 == 0


def test_units_of_two_unknowns_are_found_apart():
    optimum, sensitivity = {"p": 2e-6, "q": 8e5}, {"p": 4e5, "q": 1e-6}
    look, _ = quadratic(optimum, sensitivity)
    unknowns = [Parameter("p", 0.0, FREE), Parameter("q", 0.0, FREE)]
    p, q = find_units(look, unknowns, (UNKNOWN, UNKNOWN))
    # The loss is shared: a bound of each is larger than what it needs, by less than a factor of 4.
    assert 0.25 < p / 2e-6 < 4 and 0.25 < q / 8e5 < 4
    assert find_units(look, unknowns, (8.0, UNKNOWN)) == (8.0, q)


RANGES = ((0.0, 1e-6), (0.0, 1e6))
TWO_COMPONENTS = [
    NeuralClosure(("p", "q"), {"u": (0.0, 1.0)}, key=jax.random.key(0)),
    ConvolutionalClosure(("p", "q"), {"u": (0.0, 1.0)}, num_axes=1, key=jax.random.key(0)),
    SpectralField(1, ("p", "q"), 2, output_range=RANGES),
    SineField(1, ("p", "q"), output_range=RANGES, key=jax.random.key(0)),
]


@pytest.mark.parametrize("latent", TWO_COMPONENTS, ids=lambda latent: type(latent).__name__)
def test_components_of_one_latent_have_units_of_their_own(latent: Any):
    """Of values 2e-6 and 8e5 on a grid, whose squares count the same in the loss."""
    grid, u = Grid(Axis("x", 0, 1, 8)), {"u": jnp.linspace(0.1, 0.9, 8)}
    optimum = jnp.array([2e-6, 8e5])[:, None]
    arrays, rest = eqx.partition(latent, eqx.is_inexact_array)

    def loss(at: Any) -> Any:
        known: Any = eqx.combine(at, rest)
        given: Any = (None, u) if isinstance(known, AbstractClosure) else ()
        values = known.evaluate(grid, *given)
        return jnp.sum((values / optimum - 1) ** 2)

    evaluate = jax.jit(jax.value_and_grad(loss))

    def look(at: Any) -> Look:
        value, slope = evaluate(at)
        return Look(float(value), slope, True)

    p, q = find_units(look, arrays, unknown_units(arrays))
    assert 1e-7 < p < 1e-5 and 1e5 < q < 1e7
    in_units = unit_of_each(arrays, (p, q))
    for array, axis in arrays.in_unit_of_values:
        places = [leaf is array for leaf in jax.tree.leaves(arrays)]
        (unit,) = [u for u, is_it in zip(jax.tree.leaves(in_units), places, strict=True) if is_it]
        np.testing.assert_array_equal(jnp.broadcast_to(unit, array.shape).take(0, axis), p)
        np.testing.assert_array_equal(jnp.broadcast_to(unit, array.shape).take(1, axis), q)


def test_what_has_no_unit_is_left_alone():
    key = jax.random.key(0)
    bounded = [
        Parameter("k", 1e-6, (0.0, jnp.inf)),
        CellField("k", np.full(4, 1e-6), (0.0, 1.0)),
        NeuralClosure("r", {"u": (0.0, 1.0)}, bounds=(0.0, 1.0), key=key),
        SineField(1, ("v",), bounds=(0.0, 1.0), key=key),
    ]
    assert [latent.in_unit_of_values for latent in bounded] == [()] * 4
    free = [CellField("k", np.zeros(4)), SineField(1, ("v",), output_range=(0.0, 1e-6), key=key)]
    assert [len(latent.in_unit_of_values) for latent in free] == [1, 2]


@pytest.mark.thorough
@pytest.mark.parametrize("unit", [2.0**-20, 1.0, 2.0**20])
def test_a_law_is_learned_in_any_unit(unit: float):
    system, data = problem(unit)
    stages = [Stage(Adam(), 60), Stage(LBFGS(), 100)]
    assert law_error(fit(system, data, dt=0.1, stages=stages), unit) < 0.02


@pytest.mark.thorough
@pytest.mark.parametrize("units", [(2.0**-20, 2.0**-30), (2.0**18, 2.0**26)])
def test_units_cost_no_digit(units):
    stages = [Stage(Adam(), 3), Stage(LBFGS(), 3)]
    laws = []
    for unit in units:
        system, data = problem(unit)
        law: Any = latents_of(fit(system, data, dt=0.25, stages=stages))[0]
        head = law.held.function.layers[-1]
        laws.append(np.append(np.ravel(head.weight), head.bias) / unit)
    assert np.abs(laws[0]).max() > 1e-3
    np.testing.assert_allclose(laws[0], laws[1], rtol=1e-4, atol=1e-6)


def test_rates_that_are_given_are_of_the_numbers_themselves():
    system, data = problem(2.0**-20)
    given = Stage(Adam(learning_rate=1e-9), 1)
    trained = fit(system, data, dt=0.5, stages=[given])
    law: Any = latents_of(trained)[0]
    bias = law.held.function.layers[-1].bias
    assert np.abs(bias).max() == pytest.approx(1e-9, rel=1e-3)


@pytest.mark.thorough
def test_a_training_that_was_stopped_goes_on_in_its_units(tmp_path):
    class Stopped(Exception):
        pass

    def watch(record):
        if record.epoch == 3:
            raise Stopped

    system, data = problem(2.0**-20)
    stages, checkpoints = [Stage(Adam(), 4)], Checkpoints(tmp_path / "run", 1)
    whole = fit(system, data, dt=0.5, stages=stages)
    with pytest.raises(Stopped):
        fit(
            system,
            data,
            dt=0.5,
            stages=stages,
            options=FitOptions(watch=watch, checkpoints=checkpoints),
        )
    progress = checkpoints.progress()
    assert progress is not None and progress.epoch == 2
    assert progress.adaptation.units[0] < 1e-4
    resumed = fit(system, data, dt=0.5, stages=stages, options=FitOptions(checkpoints=checkpoints))
    assert eqx.tree_equal(resumed, whole)


@pytest.mark.thorough
def test_what_was_frozen_gets_its_unit_when_it_is_learned():
    system, data = problem(2.0**-20)
    two = System(
        None,
        {"u": [Reaction(latents_of(system)[0]), Reaction(lambda u, k: -k * u)]},
        coefficients={"k": Parameter("k", 0.0, FREE)},
    )
    observations = Observations.of(two, data, "0:3", list(TIMES[1:]), jnp.float32)
    stages = [Stage(Adam(), 1, freeze="k"), Stage(Adam(), 1)]
    trainer = Trainer(two, observations, 0.5, stages)
    trainer.run()
    names = [latent.names for latent in latents_of(two)]
    units = dict(zip(names, trainer._adaptation.units, strict=True))
    assert units[("r",)] < 1e-4 and units[("k",)] == 1.0


@pytest.mark.thorough
@pytest.mark.parametrize("noise", [None, "deviation"])
def test_the_smallest_readings_do_not_decide_the_unit(noise: str | None):
    """Of $u' = c$ from each reading of $1000 e^{-t}$ to the next, in single steps.

    Changes are r = 632 e^-t, and sum(r^2) / sum(r) = 462: too far for a mean of 83, a quarter does.
    """
    times = np.arange(13.0)
    u = 1000 * np.exp(-times)[None]
    data = xr.Dataset(
        {"u": (("sample", "time"), u), "deviation": (("sample", "time"), u / 100)}, {"time": times}
    )
    constant = {"c": Parameter("c", 0.0, FREE)}
    system = System(None, {"u": [Reaction(lambda c: c)]}, coefficients=constant)
    observe = [Cells("u", noise=noise)]
    observations = Observations.of(system, data, None, None, jnp.float32, observe)
    trainer = Trainer(system, observations, 1.0, [Stage(Adam(), 1, batches=Batching(window=1))])
    trainer.run()
    assert trainer._adaptation.units == (128.0,)
