"""Steady states: closed forms, other solvers' answers, gradients, and what has no steady state."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.sparse
import scipy.sparse.linalg
from finite_volumes import conductance_matrix
from gradients import taylor_rates

import impindiff as ipd
from impindiff import InputError, NumericsError
from impindiff.linear import Result

RNG = np.random.default_rng(0)


def axis(cells: int, name: str = "x") -> ipd.Axis:
    return ipd.Axis(name, 0.0, 1.0, cells)


def line(cells: int, terms: list, ends: Any, **field: Any) -> ipd.System:
    return ipd.System(ipd.Grid([axis(cells)]), {"T": ipd.Field(terms, {"x": ends}, **field)})


def centres(cells: int) -> np.ndarray:
    return (np.arange(cells) + 0.5) / cells


def order(error: Any, cells: int) -> float:
    return float(np.log2(error(cells) / error(2 * cells)))


def test_heat_with_a_source_is_of_order_two():
    def error(cells: int) -> float:
        source = ipd.Source(lambda x: jnp.pi**2 * jnp.sin(jnp.pi * x))
        system = line(cells, [ipd.Diffusion(1.0), source], ipd.Dirichlet(1.0))
        found = ipd.steady(system)
        assert int(found.outcome.steps) == 1 and int(found.pseudo_steps) == 0
        return float(np.abs(found.state["T"] - 1 - np.sin(np.pi * centres(cells))).max())

    assert order(error, 20) == pytest.approx(2, abs=0.1)


@pytest.mark.parametrize("storage", [None, 0])
def test_darcy_is_the_answer_of_a_sparse_solver(storage: Any):
    """With storage or without: then the whole system is algebraic."""
    k = np.exp(RNG.normal(size=(24, 24)))
    wells = RNG.normal(size=k.shape)
    grid = ipd.Grid([axis(24), axis(24, "y")])
    ends = {"x": ipd.Dirichlet(0.0), "y": ipd.Dirichlet(0.0)}
    terms = [ipd.Diffusion(jnp.asarray(k)), ipd.Source(jnp.asarray(wells))]
    system = ipd.System(grid, {"p": ipd.Field(terms, ends, storage=storage)})
    matrix = scipy.sparse.csc_matrix(conductance_matrix(k))
    exact = np.asarray(scipy.sparse.linalg.spsolve(matrix, wells.ravel())).reshape(k.shape)
    found = ipd.steady(system)
    np.testing.assert_allclose(found.state["p"], exact, atol=1e-8 * np.abs(exact).max())
    assert int(found.outcome.steps) == 1


@pytest.mark.thorough
def test_a_conductivity_that_grows_with_temperature_follows_kirchhoff():
    """$e^T\\,T'$ is the same everywhere, so that $e^T$ is linear in $x$."""

    def error(cells: int) -> float:
        ends = (ipd.Dirichlet(0.0), ipd.Dirichlet(2.0))
        system = line(cells, [ipd.Diffusion(lambda T: jnp.exp(T))], ends)
        exact = np.log(1 + np.expm1(2.0) * centres(cells))
        return float(np.abs(ipd.steady(system).state["T"] - exact).max())

    assert order(error, 40) == pytest.approx(2, abs=0.15)


@pytest.mark.thorough
def test_heat_through_a_pipe_falls_with_the_logarithm_of_the_radius():
    def error(cells: int) -> float:
        grid = ipd.Grid([ipd.Axis("r", 1.0, 4.0, cells)], "cylindrical")
        ends = {"r": (ipd.Dirichlet(290.0), ipd.Dirichlet(390.0))}
        system = ipd.System(grid, {"T": ipd.Field([ipd.Diffusion(0.3)], ends)})
        r = grid.axes[0].centres
        exact = 290 + 100 * np.log(r) / np.log(4)
        return float(np.abs(ipd.steady(system).state["T"] - exact).max())

    assert order(error, 16) == pytest.approx(2, abs=0.15)


def ignition(rate: Any = 40.0, end: Any = 1.0, **field: Any) -> ipd.System:
    """Bistable: 0 and 1 are stable, 0.3 is not. The ends hold 1, from where fronts go inwards."""
    made = ipd.Reaction(lambda u, rate: rate * u * (1 - u) * (u - 0.3), rate=rate)
    ends = {"x": ipd.Dirichlet(end)}
    terms = [ipd.Diffusion(0.02), made]
    return ipd.System(ipd.Grid([axis(32)]), {"u": ipd.Field(terms, ends, **field)})


@pytest.mark.parametrize("bounds", [pytest.param(None, marks=pytest.mark.thorough), (0.0, 1.2)])
def test_pseudo_time_goes_on_where_newton_fails(bounds: Any):
    system, guess = ignition(bounds=bounds), {"u": jnp.zeros(32)}
    with pytest.raises(NumericsError, match="no steady state was found: .* max_steps|float64"):
        ipd.steady(system, guess, max_steps=0)
    found = ipd.steady(system, guess)
    assert int(found.pseudo_steps) > 0
    np.testing.assert_allclose(found.state["u"], 1.0, atol=1e-9)


def test_a_root_beyond_the_bounds_is_not_taken():
    """$(u - 1)(u + 2) = 0$ from a guess near -2, which no field of this kind has."""
    terms = [ipd.Reaction(lambda u: (1 - u) * (u + 2))]
    system = ipd.System(None, {"u": ipd.Field(terms, bounds=(-1.9, 5.0))})
    found = ipd.steady(system, {"u": -1.8})
    assert float(found.state["u"]) == pytest.approx(1.0)
    terms = [ipd.Reaction(lambda u: -2 - u)]
    only = ipd.System(None, {"u": ipd.Field(terms, bounds=(0.0, 5.0))})
    with pytest.raises(NumericsError, match="'u' is -2, below its limits"):
        ipd.steady(only, {"u": 1.0})


def stirred(parameters: Any = ()) -> ipd.System:
    """A reactor without a grid: $a$ flows in, and turns into $b$."""
    return ipd.System(
        None,
        {
            "a": [ipd.Reaction(lambda a, feed: feed - a - 2.0 * a**2)],
            "b": [ipd.Reaction(lambda a, b: 2.0 * a**2 - 0.5 * b)],
        },
        parameters=parameters or ("feed",),
    )


def test_samples_are_batched_and_need_no_grid():
    feeds = jnp.array([0.5, 1.0, 3.0])

    def run(feed: jax.Array) -> Any:
        return ipd.steady(stirred().with_sample_parameters({"feed": feed}), {"a": 0.0, "b": 0.0})

    found = jax.jit(jax.vmap(run))(feeds)
    a = (np.sqrt(1 + 8 * np.asarray(feeds)) - 1) / 4
    np.testing.assert_allclose(found.state["a"], a, rtol=1e-8)
    np.testing.assert_allclose(found.state["b"], 4 * a**2, rtol=1e-8)
    assert found.outcome.result.shape == (3,)
    found.check()


def block(parts: dict) -> Any:
    """In three dimensions, unevenly divided, with a condition of each kind."""
    grid = ipd.Grid([axis(4), ipd.Axis.graded("y", 0.0, 1.0, 5, 3.0), axis(3, "z")])
    ends = {
        "x": (ipd.Dirichlet(parts["end"]), ipd.Robin(2.0, parts["outside"])),
        "y": ipd.NoFlux(),
        "z": (ipd.Neumann(0.3), ipd.Dirichlet(1.0)),
    }
    terms = [ipd.Diffusion(parts["k"]), ipd.Source(parts["source"])]
    return ipd.steady(ipd.System(grid, {"T": ipd.Field(terms, ends)})).state


def driven(parts: dict) -> Any:
    """A field without storage, driven by another."""
    ends = {"x": ipd.Dirichlet(0.5)}
    fields = {
        "T": ipd.Field([ipd.Diffusion(1.0), ipd.Reaction(lambda T: 3.0 - T**3)], ends),
        "p": ipd.Field(
            [ipd.Diffusion(lambda p, T, a: a * (1 + T**2 + p**2)), ipd.Reaction(lambda T: T)],
            ends,
            storage=0,
        ),
    }
    system = ipd.System(ipd.Grid([axis(8)]), fields, coefficients={"a": parts["a"]})
    return ipd.steady(system).state


def ignited(parts: dict) -> Any:
    """Where Newton's method alone fails."""
    return ipd.steady(ignition(parts["rate"], parts["end"]), {"u": jnp.zeros(32)}).state


CASES = {
    "block": (
        block,
        {
            "k": np.exp(0.3 * RNG.normal(size=(4, 5, 3))),
            "source": RNG.normal(size=(4, 5, 3)),
            "end": 0.4,
            "outside": 2.0,
        },
        1e-2,
    ),
    "driven": (driven, {"a": 0.3}, 1e-2),
    "ignited": (ignited, {"rate": 40.0, "end": 0.8}, 1e-3),
}


@pytest.mark.thorough
@pytest.mark.parametrize("find, parts, step", CASES.values(), ids=CASES)
def test_gradients_leave_second_order_remainders(find: Any, parts: dict, step: float):
    """By coefficients, conditions and sources; by pseudo-time as by Newton's method alone."""

    def loss(parts: dict) -> Any:
        return sum(jnp.sum(jnp.exp(u)) for u in find(parts).values())

    rates = taylor_rates(loss, {name: jnp.asarray(part) for name, part in parts.items()}, step=step)
    assert all(rate >= 1.9 for rate in rates.values()), rates


@pytest.mark.thorough
def test_single_precision_at_room_temperature_and_other_units_lose_nothing():
    """In units of 1e-9 and with an offset of 290, the rise is the same to its last digits."""

    def rise(offset: float, unit: float, dtype: Any) -> np.ndarray:
        def build(T0: float) -> ipd.System:
            heat = ipd.Source(lambda x: unit * 2.0 * jnp.sin(3.0 * x))
            ends = (ipd.Dirichlet(T0), ipd.Robin(3.0 * unit, T0 + 1.0))
            return line(64, [ipd.Diffusion(unit), heat], ends)

        guess = {"T": jnp.full(64, offset, dtype)}
        return np.asarray(ipd.steady(build(offset), guess).state["T"], np.float64) - offset

    exact = rise(0.0, 1.0, jnp.float64)
    np.testing.assert_allclose(rise(290.0, 1e-9, jnp.float64), exact, atol=1e-10)
    np.testing.assert_allclose(rise(0.0, 1e-9, jnp.float32), exact, atol=2e-6)
    # Numbers near 290 are 3e-5 apart.
    np.testing.assert_allclose(rise(290.0, 1e-9, jnp.float32), exact, atol=4e-5)


def free_ends(**field: Any) -> ipd.System:
    source = ipd.Source(lambda x: jnp.cos(jnp.pi * x))
    return line(16, [ipd.Diffusion(1.0), source], ipd.NoFlux(), **field)


def exchange() -> ipd.System:
    """Two fields that give each other what they lose: only their sum is known."""
    one = [ipd.Reaction(lambda u, v: v**2 - u)]
    return ipd.System(None, {"u": one, "v": [ipd.Reaction(lambda u, v: u - v**2)]})


class TestNoUniqueState:
    @pytest.mark.parametrize("periodic", [False, True])
    def test_a_level_that_nothing_holds_is_named(self, periodic: bool):
        ends = None if periodic else {"x": ipd.NoFlux()}
        grid = ipd.Grid([ipd.Axis("x", 0.0, 1.0, 16, periodic=periodic)])
        system = ipd.System(grid, {"T": ipd.Field([ipd.Diffusion(1.0), ipd.Source(0.0)], ends)})
        with pytest.raises(InputError, match="nothing holds the level of 'T'.* Dirichlet or Robin"):
            ipd.steady(system)

    def test_a_loss_is_enough(self):
        terms = [ipd.Diffusion(1.0), ipd.Reaction(lambda T: 2.0 - 4.0 * T)]
        found = ipd.steady(line(16, terms, ipd.NoFlux()))
        np.testing.assert_allclose(found.state["T"], 0.5, rtol=1e-9)

    def test_under_jit_it_is_an_outcome(self):
        found = jax.jit(lambda: ipd.steady(free_ends()))()
        assert int(found.outcome.result) == Result.SINGULAR
        assert np.isnan(found.state["T"]).all()
        with pytest.raises(NumericsError, match="'singular'"):
            found.check()

    def test_so_it_is_where_a_solver_finds_one_of_many(self):
        grid = ipd.Grid.uniform((8, 8), ((0.0, 1.0), (0.0, 1.0)), periodic=True)
        source = ipd.Source(lambda x: jnp.cos(2 * jnp.pi * x))
        system = ipd.System(grid, {"T": [ipd.Diffusion(1.0), source]})
        found = jax.jit(lambda: ipd.steady(system, {"T": jnp.zeros((8, 8))}))()
        assert float(found.outcome.relative_residual) < 1e-9
        assert int(found.outcome.result) == Result.SINGULAR

    def test_a_total_that_two_fields_share_names_both(self):
        with pytest.raises(InputError, match="'u' and 'v'"):
            ipd.steady(exchange(), {"u": 1.0, "v": 0.5})

    def test_a_nonlinear_conductivity_does_not_hide_it(self):
        system = line(16, [ipd.Diffusion(lambda T: 1 + T**2), ipd.Source(1.0)], ipd.NoFlux())
        with pytest.raises(InputError, match="nothing holds the level of 'T'"):
            ipd.steady(system, {"T": jnp.zeros(16)})


class TestWrongInput:
    @pytest.mark.parametrize(
        "options, message",
        [
            ({"max_steps": -1}, "max_steps is -1"),
            ({"on_failure": "stop"}, "on_failure is 'stop'"),
            ({"guess": {"T": "warm"}}, "guess holds no arrays"),
            ({"guess": [1.0]}, "give each field by its name"),
            ({"guess": {"T": jnp.zeros(7)}}, "one value for each cell"),
            ({"guess": {"u": jnp.zeros(16)}}, "the system"),
            ({"solver": ipd.solvers.BiCGStab()}, "which solves linear systems"),
        ],
    )
    def test_it_is_refused(self, options: dict, message: str):
        system = line(16, [ipd.Diffusion(1.0)], ipd.Dirichlet(1.0))
        with pytest.raises(InputError, match=message):
            ipd.steady(system, **options)

    def test_without_a_grid_a_guess_is_needed(self):
        system = stirred().with_sample_parameters({"feed": 1.0})
        with pytest.raises(InputError, match="a guess is needed"):
            ipd.steady(system)
        begun = ipd.System(None, {"u": ipd.Field([ipd.Reaction(lambda u: 1 - u)], initial=0.0)})
        assert float(ipd.steady(begun).state["u"]) == pytest.approx(1.0)

    def test_a_negative_diffusivity_is_refused(self):
        with pytest.raises(InputError, match="the diffusivity of Diffusion"):
            ipd.steady(line(16, [ipd.Diffusion(lambda x: x - 0.5)], ipd.Dirichlet(1.0)))

    def test_a_guess_outside_of_bounds_is_refused(self):
        system = line(16, [ipd.Diffusion(1.0)], ipd.Dirichlet(1.0), bounds=(0.0, 2.0))
        with pytest.raises(InputError, match="above its limits"):
            ipd.steady(system, {"T": jnp.full(16, 3.0)})


def test_coefficients_are_those_of_the_time():
    system = line(16, [ipd.Diffusion(1.0)], ipd.Dirichlet(lambda t: t - 46_000.0))
    found = ipd.steady(system, {"T": jnp.zeros(16, jnp.float32)}, time=46_000.25)
    np.testing.assert_allclose(found.state["T"], 0.25, rtol=1e-5)


def test_solid_cells_keep_their_guess():
    solid = np.zeros((12, 12), bool)
    solid[4:7, 4:8] = True
    grid = ipd.Grid([axis(12), axis(12, "y")], solid=solid)
    ends = {"x": (ipd.Dirichlet(1.0), ipd.Dirichlet(1.0)), "y": ipd.NoFlux()}
    system = ipd.System(grid, {"c": ipd.Field([ipd.Diffusion(1.0)], ends)})
    state = ipd.steady(system, {"c": jnp.full((12, 12), 7.0)}).state["c"]
    np.testing.assert_allclose(state, np.where(solid, 7.0, 1.0), rtol=1e-8)


def test_a_process_in_balance_follows_its_forcing_at_once():
    """Steps of `QuasiSteady` end in the steady states of their times; integrals go along."""
    grid = ipd.Grid([axis(16)])
    ends = {"x": (ipd.Dirichlet(lambda t: 1 + t), ipd.Dirichlet(0.0))}
    flux = {"in": [ipd.Supply(ipd.FluxOf("T"))]}
    system = ipd.System(grid, {"T": ipd.Field([ipd.Diffusion(1.0)], ends)}, integrals=flux)
    times = ipd.TimeGrid.build(0.0, [0.0, 1.0, 2.0], 0.5)
    start = {"T": jnp.zeros(16), "in": jnp.zeros(16)}
    stepper = ipd.steppers.QuasiSteady()
    found = ipd.simulate(system, start, times, stepper).states
    for k, time in ((1, 1.0), (2, 2.0)):
        alone = ipd.steady(system, {"T": jnp.zeros(16)}, time=time).state["T"]
        np.testing.assert_allclose(found["T"][k], alone, rtol=1e-8)
        np.testing.assert_allclose(found["T"][k], (1 + time) * (1 - centres(16)), rtol=1e-8)
    # What enters at one end leaves at the other.
    assert float(jnp.abs(found["in"][2].sum())) < 1e-8 < float(found["in"][2][0])


@pytest.mark.thorough
def test_a_gradient_through_steps_in_balance_is_right_with_snapshots():
    times = ipd.TimeGrid.build(0.0, [1.0, 2.0, 3.0], 1.0)

    def loss(parts: dict) -> Any:
        heat = ipd.Source(ipd.latents.Closure(lambda t, s: s * t, s=parts["s"]))
        system = line(16, [ipd.Diffusion(lambda T: 1 + T**2), heat], ipd.Dirichlet(parts["end"]))
        run = ipd.simulate(
            system,
            {"T": jnp.zeros(16)},
            times,
            ipd.steppers.QuasiSteady(),
            memory=ipd.memory.Snapshots(2),
        )
        return jnp.sum(run.states["T"] ** 3)

    rates = taylor_rates(loss, {"s": jnp.asarray(2.0), "end": jnp.asarray(0.5)})
    assert all(rate >= 1.9 for rate in rates.values()), rates
