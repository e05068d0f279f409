"""Vapour infiltration: against an independent solution, published porosities, and itself."""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from gradients import random_like, taylor_rates
from scipy.integrate import solve_ivp

import impindiff as ipd
from impindiff.cases.vapour_infiltration import data, generate, system
from impindiff.cases.vapour_infiltration.system import DAY


def run(model, first, days, dt, stepper):
    times = ipd.TimeGrid.build(0.0, np.asarray(days) * DAY, dt)
    model, static = eqx.partition(model, eqx.is_array)

    @jax.jit
    def go(model, first):
        return ipd.simulate(eqx.combine(model, static), first, times, stepper)

    found = go(model, first)
    found.check(times)
    return found


def last(found):
    return jax.tree.map(lambda u: u[-1], found.states)


def written_anew(cells, T_gas):
    """The semi-discrete equations in one dimension, from the formulas and without the package."""
    width, R, eps0 = 0.01 / cells, 8.314, 0.88
    carbon = 2 * 0.012011 / 2100
    outside = 0.02 * 20e3 / (R * T_gas)

    def through(D, u, low, high):
        """Fluxes towards x; D at an outer face goes on as it went, to twice or half at most."""
        inner = -(D[1:] + D[:-1]) / 2 * np.diff(u) / width
        at = [np.clip(1.5 * a - 0.5 * b, a / 2, 2 * a) for a, b in ((D[0], D[1]), (D[-1], D[-2]))]
        first = 0.0 if low is None else -at[0] * (u[0] - low) / (width / 2)
        return np.concatenate([[first], inner, [-at[1] * (high - u[-1]) / (width / 2)]])

    def rates(_, flat):
        stored, T, e = flat.reshape(3, cells)
        C = stored / e
        S = -385576.25 * e**5 + 855854.19 * e**4 - 610919.66 * e**3 - 43517.58 * e**2
        S = S + 219652.98 * e
        r = S * np.tanh((e - 0.02) / 0.02) * 72.4 * np.exp(-155000 / (R * T)) * C
        knudsen = 2 / 3 * (2 * e / S) * np.sqrt(8 * R * T / (np.pi * 0.02805)) * e**2 / 1.444
        fick = 1.275e-3 * (T / 1373) ** 1.75 * e ** (5 / 3)
        D = 1 / (1 / knudsen + 1 / fick)
        lf = 1.1176 - 6.217e-4 * T + 8.3e-7 * T**2
        lc = -3.466 + 0.0271 * T - 2.05e-5 * T**2 + 5.3e-9 * T**3
        lg = 1.5207e-11 * T**3 - 4.8574e-8 * T**2 + 1.0184e-4 * T - 3.9333e-4
        conductivity = e * lg + (1 - eps0) * lf + (eps0 - e) * lc
        cp = -42.4678 + 2.8516 * T - 0.001 * T**2
        capacity = ((1 - eps0) * 1780 + (eps0 - e) * 2100) * cp
        gas = -np.diff(through(D, C, None, outside)) / width - r
        heat = -np.diff(through(conductivity, T, 1373.0, T_gas)) / width / capacity
        return np.concatenate([gas, heat, -carbon * r])

    x = (np.arange(cells) + 0.5) / cells
    start = np.concatenate(
        [np.full(cells, eps0 * outside), 1373 + (T_gas - 1373) * x, np.full(cells, eps0)]
    )
    return rates, start


def test_what_the_gas_and_the_slab_are_made_of():
    """Each law by itself, from its own numbers, at a porosity of 0.6 and 1300 K."""
    e, T, R = 0.6, 1300.0, 8.314
    speed = np.sqrt(8 * R * T / (np.pi * 0.02805))
    fick = 1.275e-3 * (T / 1373) ** 1.75 * e ** (5 / 3)
    for surface in (1e3, 2e5, 1e9):
        knudsen = 2 / 3 * (2 / surface) * speed * e**2 / 1.444
        exact = knudsen * fick / (knudsen + fick)
        assert float(system.diffusivity(e, T, surface)) == pytest.approx(exact, rel=1e-12)
    surface = -385576.25 * e**4 + 855854.19 * e**3 - 610919.66 * e**2 - 43517.58 * e + 219652.98
    assert system.deutschmann(e) == pytest.approx(surface, rel=1e-12)
    assert system.gas_outside(T) == pytest.approx(0.02 * 20e3 / (R * T), rel=1e-12)
    assert system.between_the_sides(0.004, T) == pytest.approx(1373 - 0.4 * 73, rel=1e-12)
    assert float(system.open_share(e)) == pytest.approx(np.tanh(29), rel=1e-12)
    rate = 72.4 * np.exp(-155000 / (R * T))
    assert float(system.surface_rate(T)) == pytest.approx(rate, rel=1e-12)
    fibre = 1.1176 - 6.217e-4 * T + 8.3e-7 * T**2
    carbon = -3.466 + 0.0271 * T - 2.05e-5 * T**2 + 5.3e-9 * T**3
    gas = 1.5207e-11 * T**3 - 4.8574e-8 * T**2 + 1.0184e-4 * T - 3.9333e-4
    found = system.conductivity(e, T, 0.88)
    assert float(found) == pytest.approx(e * gas + 0.12 * fibre + 0.28 * carbon, rel=1e-12)
    capacity = (0.12 * 1780 + 0.28 * 2100) * (-42.4678 + 2.8516 * T - 0.001 * T**2)
    assert float(system.heat_capacity(e, T, 0.88)) == pytest.approx(capacity, rel=1e-12)
    assert pytest.approx(2 * 0.012011 / 2100, rel=1e-12) == system.CARBON_VOLUME


@pytest.mark.slow
def test_an_independent_solution_of_the_same_equations():
    """Radau in numpy; what is left is the error of the time steps, of order two."""
    cells, until = 12, 1.5
    rates, start = written_anew(cells, 1173.0)
    exact = solve_ivp(
        rates, (0, until * DAY), start, "Radau", rtol=1e-9, atol=1e-11, max_step=DAY / 4
    )
    stored, temperature, porosity = exact.y[:, -1].reshape(3, cells)
    grid = system.slab(cells)
    model = system.build(grid, T_gas=1173.0, known=True)
    errors = []
    for dt in (10800.0, 5400.0):
        found = last(run(model, system.start(model), [until], dt, system.stepper(grid, 1e-10)))
        errors.append(float(np.max(np.abs(found["porosity"] - porosity))))
    assert errors[1] < 5e-6 and errors[0] / errors[1] > 3
    np.testing.assert_allclose(found["temperature"], temperature, rtol=1e-6)
    np.testing.assert_allclose(found["gas"], stored / porosity, rtol=2e-4)


def carbon(model, first, found):
    """The balance of carbon over a rollout."""
    states = {f: jnp.concatenate([u[None], found.states[f]]) for f, u in first.items()}
    return ipd.balances(model, states)["carbon"]


@pytest.mark.thorough
@pytest.mark.parametrize(
    "shape, order", [((12,), 2), pytest.param((8, 4), 1, marks=pytest.mark.slow)]
)
def test_carbon_is_accounted_for_to_round_off(shape, order):
    """What entered is found as carbon and as gas, whatever the steps are."""
    grid = system.slab(*shape)
    model = system.build(grid, T_gas=1173.0, known=True)
    porosity = data.smooth_porosity(grid, (0.85, 0.9), np.random.default_rng(0))
    first = system.start(model, porosity) | {"supplied": jnp.zeros(grid.shape)}
    found = run(model, first, [1.0], 21600.0 / 2, system.stepper(grid, 1e-8, order))
    balance = carbon(model, first, found)
    deposited = np.sum(grid.cell_volumes() * (porosity - last(found)["porosity"]))
    assert balance.changes["as carbon"][-1] == pytest.approx(deposited / system.CARBON_VOLUME)
    assert balance.worst < 1e-10


@pytest.mark.slow
def test_the_gradient_is_that_of_central_differences():
    grid = system.slab(8)
    model = system.build(grid, jax.random.key(1), T_gas=1173.0)
    # Drawn in single precision, to which a sum with a small step would be rounded.
    weights = jax.tree.map(jnp.float64, model.coefficients["pore_surface"])
    first = system.start(model)
    times = ipd.TimeGrid.build(0.0, [0.5 * DAY], 21600.0)
    stepper = system.stepper(grid, 1e-13)

    @jax.jit
    def mean(closure):
        changed = eqx.tree_at(lambda m: m.coefficients["pore_surface"], model, closure)
        return jnp.mean(ipd.simulate(changed, first, times, stepper).states["porosity"][-1])

    direction = random_like(weights, 0)
    slope = sum(
        jnp.vdot(g, d)
        for g, d in zip(
            jax.tree.leaves(jax.grad(mean)(weights)), jax.tree.leaves(direction), strict=True
        )
    )

    def along(h):
        return float(mean(jax.tree.map(lambda p, d: p + h * d, weights, direction)))

    h = 5e-3
    # Of order six, so that round-off and not the length of the difference decides.
    found = sum(
        weight * (along(k * h) - along(-k * h)) for k, weight in ((1, 45), (2, -9), (3, 1))
    ) / (60 * h)
    assert abs(found) > 1e-4
    assert float(slope) == pytest.approx(found, rel=1e-8)


@pytest.mark.thorough
def test_a_slab_of_one_temperature_has_no_equation_for_it():
    grid = system.slab(10)
    model = system.build(grid, T_gas=1273.0, known=True, isothermal=1323.0)
    assert set(model.fields) == {"gas", "porosity"}
    even = last(run(model, system.start(model), [1.0], 21600.0, system.stepper(grid)))
    # Faster where gas comes in.
    assert np.all(np.diff(even["porosity"]) < 0) and even["porosity"].max() < 0.87


@pytest.mark.slow
def test_two_dimensions_are_one_where_nothing_varies_across():
    plane, line = system.slab(10, 3), system.slab(10)
    ends = []
    for grid in (plane, line):
        model = system.build(grid, T_gas=1173.0, known=True)
        found = run(model, system.start(model), [0.5], 21600.0, system.stepper(grid, 1e-10))
        ends.append((last(found), found.outcome))
    for field, values in ends[1][0].items():
        for column in range(3):
            np.testing.assert_allclose(ends[0][0][field][:, column], values, rtol=1e-8)
    outcome = ends[0][1]
    # The preconditioner is the Jacobian's inverse where a step begins.
    assert np.all(outcome.iterations <= 3 * outcome.steps)


class TestData:
    @pytest.mark.slow
    def test_hold_settings_and_noise_of_the_size_asked_for(self):
        options = {"T_gas": (1273.0, 1173.0), "days": (0, 0.25, 0.5), "cells": (8,), "dt": 21600.0}
        clean = data.generate(**options)
        noisy = data.generate(**options, noise=0.05, temperature_noise=2.0, seed=3)
        again = data.generate(**options, noise=0.05, temperature_noise=2.0, seed=3)
        assert noisy.identical(again)
        assert clean.porosity.dims == ("sample", "time", "x") and list(clean.T_gas) == [1273, 1173]
        assert ipd.grid_of(clean, "porosity") == system.slab(8)
        share = (noisy.porosity / clean.porosity - 1).values
        assert np.all(share[:, 0] == 0) and np.std(share[:, 1:]) == pytest.approx(0.05, rel=0.4)
        warmth = (noisy.temperature - clean.temperature).values
        assert np.std(warmth[:, 1:]) == pytest.approx(2.0, rel=0.4)

    @pytest.mark.parametrize(
        "wrong, message",
        [
            ({"noise": -0.1}, "negative"),
            ({"T_gas": ()}, "at least one temperature"),
            ({"T_gas": (1273.0, -3.0)}, "above 0 K"),
            ({"days": (1.0, 0.0)}, "must increase"),
            ({"porosity_range": (0.5, 1.5)}, "within"),
        ],
    )
    def test_what_cannot_be_made_is_refused(self, wrong, message):
        with pytest.raises(ipd.InputError, match=message):
            data.generate(**wrong)

    @pytest.mark.parametrize(
        "field, value, told",
        [
            ("porosity", 1.01, "'porosity' is 1.01 at cell 3, above its limits .0, 1."),
            ("gas", -1e-3, "'gas' is -0.001 at cell 3, below"),
            ("temperature", -1.0, "'temperature' is -1 at cell 3, below"),
        ],
    )
    def test_states_that_cannot_be_are_refused(self, field, value, told):
        grid = system.slab(4)
        model = system.build(grid, T_gas=1273.0, known=True)
        good = system.start(model)
        model.check(good)
        with pytest.raises(ipd.InputError, match=told):
            model.check(good | {field: good[field].at[3].set(value)})


# Mean porosities after 1, 3, 5 and 6 days of cases B and C: converged values of an independent
# implementation, for the surface of overlapping fibres and a Fick constant of 1.275e-3 m2/s.
CONVERGED = {1273.0: (0.7540, 0.4401, 0.2489, 0.2002), 1173.0: (0.7753, 0.4814, 0.2833, 0.2239)}


@pytest.mark.slow
@pytest.mark.parametrize("T_gas", CONVERGED)
@pytest.mark.parametrize("order, dt, tolerance", [(1, 1800.0, 0.0015), (2, 21600.0, 2e-4)])
def test_published_porosities(T_gas, order, dt, tolerance):
    grid = system.slab(100)
    model = system.build(grid, T_gas=T_gas, pore_surface=system.overlapping_fibres)
    first = system.start(model) | {"supplied": jnp.zeros(grid.shape)}
    found = run(model, first, [1, 3, 5, 6], dt, system.stepper(grid, order=order))
    means = found.states["porosity"].mean(1)
    np.testing.assert_allclose(means, CONVERGED[T_gas], atol=tolerance, rtol=0)
    assert carbon(model, first, found).worst < 1e-10
    assert int(found.outcome.steps.max()) <= 5 * order


@pytest.mark.slow
@pytest.mark.parametrize("order, dt", [(1, 1800.0), (2, 21600.0)])
def test_few_iterations_on_an_uneven_slab(order, dt):
    grid = system.slab(48, 24)
    model = system.build(grid, T_gas=1173.0, known=True)
    porosity = data.smooth_porosity(grid, (0.85, 0.9), np.random.default_rng(0))
    found = run(model, system.start(model, porosity), [6], dt, system.stepper(grid, order=order))
    outcome = found.outcome
    assert int(outcome.steps.max()) <= 5 * order
    assert np.all(outcome.iterations <= 3 * outcome.steps)


class TestPorosityAtTheStart:
    """A second unknown, the same in all furnaces; the first map is a reading of it."""

    def test_is_where_samples_begin(self):
        model = system.build(system.slab(6), known=True, start_porosity="learned")
        assert set(model.latents()) == {"start_porosity"}
        shared = model.prepare_shared(jnp.dtype("float64")).with_sample_parameters(
            {"T_gas": 1273.0}
        )
        begins = shared.start(jnp.zeros(()))["porosity"]
        np.testing.assert_allclose(begins, model.latents()["start_porosity"], rtol=1e-6)
        np.testing.assert_allclose(begins, 0.88, atol=0.05)
        given = system.build(system.slab(6), known=True, start_porosity=0.7)
        assert not given.latents()

    @pytest.mark.slow
    def test_has_a_true_gradient(self):
        grid = system.slab(6)
        model = system.build(
            grid, T_gas=1273.0, known=True, isothermal=1323.0, start_porosity="learned"
        )
        assert set(model.latents()) >= {"start_porosity"}
        times = ipd.TimeGrid.build(0.0, [0.0, 0.5 * DAY], 43200.0)
        stepper = system.stepper(grid, 1e-12, order=1)

        def loss(parts):
            changed = eqx.tree_at(
                lambda m: m.coefficients["start_porosity"], model, parts["start_porosity"]
            )
            first = changed.start(0.0, jnp.dtype("float64"))
            first_map, later = ipd.simulate(changed, first, times, stepper).states["porosity"]
            return jnp.sum((first_map - 0.87) ** 2) + jnp.sum((later - 0.85) ** 2)

        unknown = jax.tree.map(jnp.float64, model.coefficients["start_porosity"])
        rates = taylor_rates(loss, {"start_porosity": unknown})
        assert all(rate == pytest.approx(2, abs=0.1) for rate in rates.values()), rates

    @pytest.mark.slow
    def test_is_learned_far_better_than_maps_show_it(self):
        dataset = generate(samples=3, seed=0, cells=(12,), porosity_range=(0.85, 0.90))
        grid = ipd.grid_of(dataset, "porosity")
        model = ipd.fit(
            system.build(grid, start_porosity="learned"),
            dataset,
            samples=":",
            times=[day * DAY for day in (0, 1, 2, 4)],
            dt=43200.0,
            observe=system.observe(grid),
            options=ipd.FitOptions(stepper=system.stepper(grid), dtype=np.float64),
            stages=[ipd.Stage(ipd.LBFGS(), 20)],
        )
        truth = dataset["start_porosity"].values

        def error(porosity):
            return np.sqrt(np.mean((np.asarray(porosity) - truth) ** 2))

        learned = error(model.latents()["start_porosity"])
        maps = dataset["porosity_map"].values[:, 0]
        assert learned < min(error(each) for each in maps) / 3
        assert learned < error(maps.mean(axis=0)) / 1.5
